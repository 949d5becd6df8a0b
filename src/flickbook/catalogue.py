"""The models as data: what each is, where its files are, and what it can be asked for."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from flickbook import settings, vocabulary
from flickbook.errors import ModelNotFound, RequestError, SettingsError, escaped
from flickbook.files import replace_whole
from flickbook.records import Record

_PACKAGE = Path(__file__).parent
_MOST_NAMED = 32  # words that a note names
#: The folder of a model's student, and the file in it that tells its number of steps.
STUDENT, STUDENT_CARD = "turbo", "student.json"


Input = Literal["text", "image", "video"]
#: Fields of a Request that guide a film besides what it begins from. condition_strength: a condition may be followed
#: loosely.
Guide = Literal[
    "last_image", "conditions", "condition_strength", "reference_images", "control_video", "face_video", "mask"
]


class Whole(Record):
    """The whole numbers a field may take, both ends included, and the one it takes when unset."""

    range: tuple[int, int]
    default: int
    every: int = 1  # 4 where only 4k + 1 frames fit: those whose distance from the smallest it divides


class Real(Record):
    """The real numbers a field may take, both ends included, and the one it takes when unset."""

    range: tuple[float, float]
    default: float


class Sides(Record):
    """Widths and heights in pixels beside the native sizes: both ends included, and what must divide them."""

    range: tuple[int, int]
    multiple: int


class Recommended(Record):
    """The settings recommended for a model: its publisher's or measured ones, else `ADVISED` as far as it can."""

    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    fps: float
    negative_prompt: str


#: General advice for films, both ends included. It applies where nothing was published or measured for a model.
ADVISED: dict[str, tuple[float, float]] = {
    "num_frames": (16, 24),
    "num_inference_steps": (20, 30),
    "guidance_scale": (7, 9),
    "fps": (6, 8),
}


class LatentUpsampler(Record):
    """The network that doubles the width and height of a model's latents: the folder of a repository, "" for the
    model's own. `call` holds arguments of its pipeline's call, `refine` those of the call that denoises the doubled
    latents again; a model without these cannot do that."""

    repo: str = ""
    commit: str = "unpinned"
    folder: str = "latent_upsampler"
    call: dict[str, float] = {}
    refine: dict[str, int | float | tuple[float, ...]] = {}


def _recommended(entry: dict[str, Any]) -> Recommended:
    """The recommended settings of an entry that has none: sourced defaults, else what is nearest to the advice."""
    found: dict[str, Any] = {"negative_prompt": entry["negative_prompt"]}
    for name, (low, high) in ADVISED.items():
        allowed: Whole | Real = entry[name]
        smallest, largest = allowed.range
        value = min(max(allowed.default, low, smallest), high, largest)
        if name in entry["seen"] or smallest == largest:
            value = allowed.default
        elif isinstance(allowed, Whole):
            value = int(smallest + round((value - smallest) / allowed.every) * allowed.every)
        found[name] = value if isinstance(allowed, Whole) else float(value)
    return Recommended(**found)


class Model(Record):
    """One entry of models.toml: what a model is, where its files are, and what it can be asked for.

    Sizes are (width, height) in pixels. `directory` is a folder of the package or an absolute path. Without one the
    files come from `repo` at `commit`: those that match `files`, in `variant` if there are several. `pipeline` is the
    diffusers class that runs the model, and `base` the model to which its files add an adapter or a LoRA. `call` holds
    fixed arguments of each call, `scheduling` changes to the scheduler's configuration, and `lora` files of its own,
    each with a weight, that are always loaded. `seen` gives the source of each published or measured figure; the other
    figures are believed. `synonyms` maps a word to what the model shows for it, if training used the word only as
    another name for that. `recommended` is derived from the defaults if an entry has none.
    """

    name: str
    title: str
    summary: str
    family: str
    directory: str = ""
    repo: str = ""
    commit: str = "unpinned"
    variant: str = ""
    files: tuple[str, ...] = ()
    # How its checkpoints become safetensors.
    convert: Literal["", "parts", "videocrafter1", "videocrafter1-1024", "videocrafter2"] = ""
    pipeline: str = ""
    base: str = ""
    call: dict[str, bool | int | float | str | tuple[float, ...]] = {}
    scheduling: dict[str, bool | int | float | str] = {}
    lora: tuple[tuple[str, float], ...] = ()
    beside: dict[str, str] = {}  # a repository with its image encoder -> its commit
    transformer: str = ""  # its file with the transformer that replaces that of its base, named as by its publisher
    student: str = ""  # the directory of its few-step student, with `--speed turbo`
    preview: str = ""  # the file of its preview decoder in `previews` of the data directory
    latent_upsampler: LatentUpsampler | None = None
    turbo: str = ""  # the model that makes its films with `--speed turbo`, which may be the model itself
    inputs: Annotated[tuple[Input, ...], Field(min_length=1)] = ("text",)  # what a film may begin from
    accepts: tuple[Guide, ...] = ()  # what else may guide it
    needs: tuple[Guide, ...] = ()  # those of them without which it makes no film
    prompted: bool = True  # whether words decide anything
    camera: bool = False  # whether words move the camera, by its publisher's guide to prompts
    strength: Real | None = None  # how much of an image or a video is made anew
    licence: str
    commercial: Literal["yes", "no", "limits", "unclear"]
    gated: bool = False
    sizes: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)]
    sides: Sides | None = None
    num_frames: Whole
    window: int = 0  # frames the network sees at once; longer films are made of overlapping windows
    stride: int = 0  # frames from one window to the next; 0 is half a window
    overlap: int = 0  # frames that a film shares with the one whose latents it continues; 0 begins from an image only
    condition_fps: float | None = None  # frame rate that the network is given, whatever the film's; None is the film's
    num_inference_steps: Whole
    guidance_scale: Real
    fps: Real
    schedulers: Annotated[tuple[str, ...], Field(min_length=1)]
    negative_prompt: str
    synonyms: dict[str, str] = {}
    examples: tuple[str, ...] = ()  # prompts that show what it is good at
    parameters: float  # billions, all networks together
    download_gb: float = 0.0
    memory_gib: dict[str, float]  # peak of one film of the default size, by precision
    good_at: str
    faults: str
    bigger: str
    seen: dict[str, str] = {}
    recommended: Recommended = Field(default_factory=_recommended)

    @field_validator("lora", mode="before")
    @classmethod
    def _lora(cls, lora: object) -> object:
        """models.toml writes a single LoRA as a file and its weight, several as a list of these."""
        if lora is None:  # how earlier versions wrote it for added models
            return ()
        if not isinstance(lora, list):
            return lora
        return tuple(tuple(each) for each in ([lora] if lora and isinstance(lora[0], str) else lora))

    @field_validator("sizes", mode="before")
    @classmethod
    def _sizes(cls, sizes: object) -> object:
        """models.toml writes a size as people do: "128x128"."""
        if not isinstance(sizes, list):
            return sizes
        return tuple(tuple(map(int, size.split("x"))) if isinstance(size, str) else tuple(size) for size in sizes)

    def path(self) -> Path:
        """The directory of a model that has one, in diffusers' layout; it may be missing."""
        return _PACKAGE / self.directory

    def at(self, directory: Path) -> Model:
        """The same model with its files in another directory."""
        return self.model_copy(update={"directory": str(directory.absolute())})

    def few_steps(self) -> Model:
        """The model that makes this one's films with `--speed turbo`: the student in its directory, or another model.

        A student runs in a fixed number of steps, with guidance folded in, from words only. Raises RequestError if
        there is neither.
        """
        if self.turbo:
            if self.turbo == self.name:
                return self
            if self.directory:
                limit = f"{self.turbo} makes the films of {self.name}, and not of files in another directory"
                raise RequestError("speed", "turbo", limit, "leave out the directory, or write balanced or exact")
            return find(self.turbo)
        try:
            card = json.loads((self.path() / STUDENT / STUDENT_CARD).read_text(encoding="utf-8"))
            steps = card["num_inference_steps"]
            if type(steps) is not int or not 1 <= steps <= 1000:
                raise ValueError(steps)
        except (OSError, ValueError, KeyError, TypeError):
            limit = f"{self.name} has no few-step weights"
            own = "distill it with `flickbook distill` and name its directory, or " if self.family == "unet" else ""
            raise RequestError("speed", "turbo", limit, f"{own}write balanced or exact") from None
        fixed: dict[str, Any] = {
            "student": STUDENT,
            "num_inference_steps": Whole(range=(steps, steps), default=steps),
            "guidance_scale": Real(range=(1.0, 1.0), default=1.0),
            "schedulers": ("ddim",),
            "inputs": ("text",),
            "accepts": (),
            "overlap": 0,
            "strength": None,
            "negative_prompt": "",
        }
        fixed["recommended"] = _recommended({**vars(self), **fixed, "seen": {}})
        return self.model_copy(update=fixed)

    def revision(self) -> str:
        """What names the exact files: the commit of a repository; of a directory 12 hexadecimal digits of the SHA-256
        of its manifest.json, or of its configurations and its files' sizes; "none" where nothing is."""
        if not self.directory:
            return self.commit
        place = self.path()
        try:
            return hashlib.sha256((place / "manifest.json").read_bytes()).hexdigest()[:12]
        except OSError:
            pass
        try:
            files = sorted(path for kind in ("*.safetensors", "config.json") for path in place.glob(f"*/{kind}"))
            parts = [(path.relative_to(place).as_posix(), _gist(path)) for path in files]
        except (OSError, UnicodeDecodeError):
            return "none"  # the engine refuses missing weights; resolving a Plan needs none
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12] if parts else "none"

    @property
    def fewest_frames(self) -> int:
        """The fewest frames of a film: a single frame is a picture, and the next valid number is one step up."""
        low = self.num_frames.range[0]
        return low if low > 1 else low + self.num_frames.every

    def advice(self) -> str:
        """The recommended settings in a line; a negative prompt is quoted where one is recommended."""
        recommended = self.recommended
        film = (
            f"{recommended.num_frames} frames at {recommended.fps:g} per second, "
            if self.num_frames.range[1] > 1
            else ""
        )
        negative = f'; negative prompt "{recommended.negative_prompt}"' if recommended.negative_prompt else ""
        return f"{film}{recommended.num_inference_steps} steps, guidance {recommended.guidance_scale:g}{negative}"

    def known_words(self) -> frozenset[str] | None:
        """The words of its training captions; None for a model without a list of them."""
        return vocabulary.known_words(self.path() / "tokenizer") if self.directory else None

    def unlearned(self, prompt: str, loras: Sequence[object] = ()) -> str:
        """A note that names every content word of a prompt that the model never saw in training, with the nearest word
        it knows, and every word it knows only as another name for something; "" where there is none, and with LoRAs,
        which may have taught it."""
        if loras:
            return ""
        known = self.known_words()
        unknown = vocabulary.unknown_words(prompt, known)
        parts = [f"did not learn {quoted(unknown, known or ())}"] if unknown else []
        for shown, names in self._synonyms_in(prompt).items():
            parts.append(f"uses {quoted(names)} as a synonym of its {shown}")
        if not parts:
            return ""
        advice = "the film may not show it; for other subjects use a larger model such as"
        return f"{self.name} {', and '.join(parts)}: {advice} {self.bigger}"

    def _synonyms_in(self, prompt: str) -> dict[str, list[str]]:
        """What the model shows -> the words of a prompt that it takes for it, unless the prompt names it in full."""
        found: dict[str, list[str]] = {}
        named = vocabulary.words(prompt)
        for word in dict.fromkeys(named):
            if (shown := self.synonyms.get(word)) and not {*shown.split()} <= {*named}:
                found.setdefault(shown, []).append(word)
        return found


def bases(model: Model) -> tuple[Model, ...]:
    """The models that a model adds its files to: its base, the base of that, and so on. Raises ModelNotFound."""
    found: list[Model] = []
    while (last := found[-1] if found else model).base:
        found.append(find(last.base))
    return tuple(found)


def quoted(names: Sequence[str], known: Collection[str] = ()) -> str:
    """Words in quotes for a note, shortened and escaped for a terminal, each with the nearest of the `known` words."""
    parts = []
    for name in names[:_MOST_NAMED]:
        near = vocabulary.nearest(name, known)
        parts.append(f'"{escaped(name[:40])}"' + (f' (nearest: "{near}")' if near else ""))
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return ", ".join(parts + more)


def _gist(path: Path) -> str | int:
    """A configuration whole, of weights the size: hashing gigabytes is the engine's work."""
    return path.read_text(encoding="utf-8") if path.suffix == ".json" else path.stat().st_size


def list_models() -> tuple[Model, ...]:
    """Every model that this version can run, in the order of models.toml, then those that were added here."""
    return (*_shipped(), *_added())


@cache
def _shipped() -> tuple[Model, ...]:
    with (_PACKAGE / "models.toml").open("rb") as file:
        tables = tomllib.load(file)
    # Through lax validation: TOML knows arrays, records hold tuples.
    return tuple(Model.model_validate({"name": name, **table}, strict=False) for name, table in tables.items())


def _added_file() -> Path:
    return settings.load().data_dir / "models.json"


def _added() -> tuple[Model, ...]:
    """The models that were added on this machine. Raises SettingsError for a list that cannot be read."""
    path = _added_file()
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(Model.model_validate(entry, strict=False) for entry in entries)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        reason = f"contains a list of models that cannot be read ({type(error).__name__})"
        raise SettingsError("data_dir", path.parent, reason, f"delete {path}, and add the models again") from error


def add(model: Model) -> None:
    """Put a model on this machine's list, in place of one of the same name. Raises RequestError for a shipped name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", model.name):
        limit = "must be 1 to 64 lower-case letters, digits, dots or dashes"
        raise RequestError("name", model.name, limit, "write for example my-model")
    if any(model.name == shipped.name for shipped in _shipped()):
        raise RequestError(
            "name", model.name, "is the name of a model that comes with Flickbook", "choose another name"
        )
    _write([*(each for each in _added() if each.name != model.name), model])


def remove(name: str) -> Model:
    """Take a model off this machine's list; its files stay. Raises ModelNotFound, RequestError for a shipped one."""
    model = find(name)
    if model not in _added():
        raise RequestError(
            "name", name, "is part of Flickbook and cannot be removed", "remove only models that you added"
        )
    _write([each for each in _added() if each.name != name])
    return model


def _write(models: list[Model]) -> None:
    path = _added_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([model.model_dump(mode="json") for model in models], indent=1) + "\n"
    replace_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def find(name: str) -> Model:
    """The model of this name. Raises ModelNotFound with the nearest names."""
    models = {model.name: model for model in list_models()}
    if name in models:
        return models[name]
    # A hostile name may be a megabyte long; matching is quadratic.
    raise ModelNotFound(name, difflib.get_close_matches(name[:100].lower(), models, n=3, cutoff=0.5))
