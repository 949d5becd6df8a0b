"""The models as data, and `resolve`: the one place where defaults are filled in and limits are refused."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import secrets
import tomllib
import unicodedata
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from flickbook import settings
from flickbook.errors import ModelNotFound, RequestError, SchedulerMismatch, SettingsError, escaped
from flickbook.files import replace_whole
from flickbook.spec import Container, Plan, Record, Request
from flickbook.windows import prompt_of, starts

PROMPT_CHARACTERS = 2000
SEED_LIMIT = 2**63
#: A drawn seed is short enough to be read aloud and to stand in a file name.
DRAWN_SEED_BITS = 32

_UNITS = {"num_frames": "frames", "num_inference_steps": "steps", "fps": "frames a second"}
_PACKAGE = Path(__file__).parent


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


class Model(Record):
    """One entry of models.toml: what a model is, where its files are, and what it can be asked for.

    Sizes are (width, height) in pixels. `directory` is a folder of the package or an absolute path; without one the
    files come from `repo` at `commit`, of which `files` are wanted, in `variant` where there is a choice. `seen` says
    for each figure where it was published or measured; a figure that is not in it is believed.
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
    convert: Literal["", "parts", "videocrafter2"] = ""  # how its checkpoints become safetensors
    licence: str
    commercial: Literal["yes", "no", "limits", "unclear"]
    gated: bool = False
    sizes: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)]
    sides: Sides | None = None
    num_frames: Whole
    window: int = 0  # frames the network sees at once; longer films are made of overlapping windows
    num_inference_steps: Whole
    guidance_scale: Real
    fps: Real
    schedulers: Annotated[tuple[str, ...], Field(min_length=1)]
    negative_prompt: str
    parameters: float  # billions, all networks together
    download_gb: float = 0.0
    memory_gib: dict[str, float]  # peak of one film of the default size, by precision
    good_at: str
    faults: str
    bigger: str
    seen: dict[str, str] = {}

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

    def unlearned(self, words: list[str] | tuple[str, ...]) -> str:
        """A note for people about the words of a prompt that the model never saw in training; "" for no words."""
        if not words:
            return ""
        listed = ", ".join(f'"{escaped(word[:40])}"' for word in words[:8])
        more = f" and {len(words) - 8} more" if len(words) > 8 else ""
        return (
            f"{self.name} never learned {listed}{more}: the film may not show it; "
            f"for free wording use a bigger model such as {self.bigger}"
        )


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
        reason = f"holds a list of models that cannot be read ({type(error).__name__})"
        raise SettingsError("data_dir", path.parent, reason, f"delete {path}, and add the models again") from error


def add(model: Model) -> None:
    """Put a model on this machine's list, in place of one of the same name. Raises RequestError for a shipped name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", model.name):
        limit = "must be 1 to 64 small letters, digits, dots, dashes"
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
        raise RequestError("name", name, "comes with Flickbook and stays on the list", "remove only what was added")
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


def resolve(request: Request, model_dir: Path | None = None) -> Plan:
    """The Plan of a Request: every unset field takes the model's choice, and an unset seed is drawn here, once.

    `model_dir` is where the model's files are, if not where the catalogue says. Raises RequestError (or ModelNotFound,
    SchedulerMismatch) for the first field that the model cannot serve.
    """
    model = find(request.model)
    if model_dir is not None:
        model = model.at(model_dir)
    container, num_frames = _frames(request, model)
    width, height = _size(request, model)
    seed = secrets.randbits(DRAWN_SEED_BITS) if request.seed is None else request.seed
    if not 0 <= seed < SEED_LIMIT:
        raise RequestError(
            "seed", seed, f"must be 0 to {SEED_LIMIT - 1}", "choose a seed in that range or leave it out"
        )
    return Plan(
        task="picture" if container == "png" else "film",
        model=model.name,
        revision=model.revision(),
        prompt=_prompt("prompt", request.prompt, smallest=1),
        negative_prompt=_negative(request, model),
        width=width,
        height=height,
        num_frames=num_frames,
        fps=_real("fps", request.fps, model.fps),
        num_inference_steps=_whole("num_inference_steps", request.num_inference_steps, model.num_inference_steps),
        guidance_scale=_real("guidance_scale", request.guidance_scale, model.guidance_scale),
        seed=seed,
        scheduler=_scheduler(request.scheduler, model),
        window=model.window if num_frames > model.window else 0,
        prompt_at=_prompt_at(request, num_frames, model.window or num_frames),
        container=container,
    )


def _prompt(field: str, text: str, smallest: int) -> str:
    """`text` without the whitespace around it. Refuses what is too short, too long, or would not print."""
    # Length first: nothing below may walk a megabyte twice.
    stripped = text.strip()
    if len(stripped) > PROMPT_CHARACTERS:
        limit = f"has {len(stripped)} characters, the most is {PROMPT_CHARACTERS}"
        raise RequestError(field, stripped, limit, "shorten it")
    if len(stripped) < smallest:
        raise RequestError(field, text, "is empty", 'say what the film shows, for example "a red circle moving left"')
    for character in stripped:
        # Cc: control characters, among them terminal escapes; Cs: halves of a character, which no file can hold.
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r":
            limit = f"holds the control character U+{ord(character):04X}"
            raise RequestError(field, stripped, limit, "remove it")
    return stripped


def _prompt_at(request: Request, num_frames: int, window: int) -> tuple[tuple[int, str], ...]:
    """The prompts after the first in their order."""
    found = sorted(request.prompt_at or ())
    for place, (frame, _) in enumerate(found):
        if not 1 <= frame < num_frames:
            limit = f"must begin at a frame from 1 to {num_frames - 1}"
            raise RequestError("prompt_at", frame, limit, "the prompt itself begins at frame 0")
        if place and frame == found[place - 1][0]:
            raise RequestError("prompt_at", frame, "has two prompts", "give each prompt a frame of its own")
    begins = [0, *(frame for frame, _ in found)]
    shown = {prompt_of(start, window, begins) for start in starts(num_frames, window)}
    for place, frame in enumerate(begins):
        if found and place not in shown:
            limit = f"no window of {min(window, num_frames)} frames has its middle in this prompt's part"
            raise RequestError("prompt_at", frame, limit, f"give each prompt {window // 2} frames or more")
    return tuple((frame, _prompt("prompt_at", text, smallest=1)) for frame, text in found)


def _negative(request: Request, model: Model) -> str:
    if request.negative_prompt is None:
        return model.negative_prompt
    return _prompt("negative_prompt", request.negative_prompt, smallest=0)


def _frames(request: Request, model: Model) -> tuple[Container, int]:
    """Container and number of frames, which decide each other: a PNG is one frame, and one frame is a PNG."""
    asked = request.num_frames
    if request.container == "png":
        if asked not in (None, 1):
            raise RequestError("num_frames", asked, "a png is one frame", "ask for 1 frame or name the file .mp4")
        return "png", _whole("num_frames", 1, model.num_frames)
    num_frames = _whole("num_frames", asked, model.num_frames)
    if num_frames == 1 and request.container == "mp4":
        raise RequestError("num_frames", 1, "an mp4 is 2 frames or more", "name the file .png or ask for more frames")
    return ("png" if num_frames == 1 else "mp4"), num_frames


def _size(request: Request, model: Model) -> tuple[int, int]:
    """The first of the model's sizes that has the width and the height asked for."""
    for width, height in model.sizes:
        if request.width in (None, width) and request.height in (None, height):
            return width, height
    known = ", ".join(f"{width}x{height}" for width, height in model.sizes)
    if model.sides is not None:
        return _sides(request, model, model.sides)
    widths = {width for width, _ in model.sizes}
    wrong = "height" if request.width is None or request.width in widths else "width"
    raise RequestError(
        wrong, getattr(request, wrong), f"{model.name} makes {known}", f"ask for {known} or leave the size out"
    )


def _sides(request: Request, model: Model, sides: Sides) -> tuple[int, int]:
    """A size that is not native; a side that was not asked for is that of the first native size."""
    width, height = model.sizes[0]
    chosen = {"width": request.width or width, "height": request.height or height}
    smallest, largest = sides.range
    for name, value in chosen.items():
        if not smallest <= value <= largest or value % sides.multiple:
            near = min(max(round(value / sides.multiple) * sides.multiple, smallest), largest)
            limit = f"must be {smallest} to {largest} and a multiple of {sides.multiple}"
            raise RequestError(name, value, limit, f"ask for {near}; {model.name} was trained at {width}x{height}")
    return chosen["width"], chosen["height"]


def _whole(field: str, value: int | None, allowed: Whole) -> int:
    number = int(_within(field, allowed.default if value is None else value, allowed.range))
    smallest = allowed.range[0]
    if (number - smallest) % allowed.every:
        below = number - (number - smallest) % allowed.every
        limit = f"must be {smallest}, {smallest + allowed.every}, {smallest + 2 * allowed.every} and so on"
        raise RequestError(field, number, limit, f"ask for {below} or {below + allowed.every}")
    return number


def _real(field: str, value: float | None, allowed: Real) -> float:
    return float(_within(field, allowed.default if value is None else value, allowed.range))


def _within(field: str, value: float, ends: tuple[float, float]) -> float:
    smallest, largest = ends
    if smallest <= value <= largest:
        return value
    unit = _UNITS.get(field)
    if value < smallest:
        remedy = f"ask for {smallest:g} or more"
    else:
        remedy = f"ask for {largest:g} {unit} or fewer" if unit else f"ask for {largest:g} or less"
    raise RequestError(field, value, f"must be {smallest:g} to {largest:g}", remedy)


def _scheduler(name: str | None, model: Model) -> str:
    if name is None:
        return model.schedulers[0]
    if name not in model.schedulers:
        raise SchedulerMismatch(name, model.name, model.schedulers)
    return name
