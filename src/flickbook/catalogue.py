"""The models as data, and `resolve`: the one place where defaults are filled in and limits are refused."""

from __future__ import annotations

import difflib
import hashlib
import secrets
import tomllib
import unicodedata
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from flickbook.errors import ModelNotFound, RequestError, SchedulerMismatch, escaped
from flickbook.spec import Container, Plan, Record, Request

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


class Real(Record):
    """The real numbers a field may take, both ends included, and the one it takes when unset."""

    range: tuple[float, float]
    default: float


class Model(Record):
    """One entry of models.toml: what a model is, and what it can be asked for. Sizes are (width, height) in pixels."""

    name: str
    title: str
    summary: str
    family: str
    directory: str
    licence: str
    sizes: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)]
    num_frames: Whole
    num_inference_steps: Whole
    guidance_scale: Real
    fps: Real
    schedulers: Annotated[tuple[str, ...], Field(min_length=1)]
    negative_prompt: str
    memory_gib: float
    bigger: str

    @field_validator("sizes", mode="before")
    @classmethod
    def _sizes(cls, sizes: object) -> object:
        """models.toml writes a size as people do: "128x128"."""
        if not isinstance(sizes, list):
            return sizes
        return tuple(tuple(map(int, size.split("x"))) if isinstance(size, str) else tuple(size) for size in sizes)

    def path(self) -> Path:
        """The directory of the model's files, in diffusers' layout; it may be missing from a damaged installation."""
        return _PACKAGE / self.directory

    def revision(self) -> str:
        """What names the exact files: 12 hexadecimal digits of the SHA-256 of manifest.json; "none" without one."""
        try:
            return hashlib.sha256((self.path() / "manifest.json").read_bytes()).hexdigest()[:12]
        except OSError:
            return "none"  # the engine refuses missing weights; resolving a Plan needs none

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


@cache
def list_models() -> tuple[Model, ...]:
    """Every model that this version can run, in the order of models.toml."""
    with (_PACKAGE / "models.toml").open("rb") as file:
        tables = tomllib.load(file)
    # Through lax validation: TOML knows arrays, records hold tuples.
    return tuple(Model.model_validate({"name": name, **table}, strict=False) for name, table in tables.items())


def find(name: str) -> Model:
    """The model of this name. Raises ModelNotFound with the nearest names."""
    models = {model.name: model for model in list_models()}
    if name in models:
        return models[name]
    # A hostile name may be a megabyte long; matching is quadratic.
    raise ModelNotFound(name, difflib.get_close_matches(name[:100].lower(), models, n=3, cutoff=0.5))


def resolve(request: Request) -> Plan:
    """The Plan of a Request: every unset field takes the model's choice, and an unset seed is drawn here, once.

    Raises RequestError (or ModelNotFound, SchedulerMismatch) for the first field that the model cannot serve.
    """
    model = find(request.model)
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
    widths = {width for width, _ in model.sizes}
    wrong = "height" if request.width is None or request.width in widths else "width"
    raise RequestError(
        wrong, getattr(request, wrong), f"{model.name} makes {known}", f"ask for {known} or leave the size out"
    )


def _whole(field: str, value: int | None, allowed: Whole) -> int:
    return int(_within(field, allowed.default if value is None else value, allowed.range))


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
