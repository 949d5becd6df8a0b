"""Resolution of a Request to a Plan: the only place that fills in defaults and enforces limits."""

from __future__ import annotations

import secrets
import unicodedata
from math import isfinite
from pathlib import Path
from typing import get_args

from flickbook import formats
from flickbook.catalogue import ADVISED, Model, Real, Whole, find, list_models, quoted
from flickbook.conditioning import audio_of, continuation, guides
from flickbook.errors import MediaError, RequestError, SchedulerMismatch, WeightsError
from flickbook.files import sha256
from flickbook.sizes import size_of, upsampling_of
from flickbook.spec import Container, Lora, Plan, Polish, Request, Speed
from flickbook.vocabulary import unknown_words, without_unknown, words
from flickbook.windows import prompt_of, starts

PROMPT_CHARACTERS = 2000
SEED_LIMIT = 2**63
#: A drawn seed is short enough to be read aloud and to be part of a file name.
DRAWN_SEED_BITS = 32

_NUMBERS = {
    "num_frames": "{} frames",
    "num_inference_steps": "{} steps",
    "guidance_scale": "guidance {}",
    "fps": "{} frames per second",
}
_UNITS = {"num_frames": "frames", "num_inference_steps": "steps", "fps": "frames per second"}


def resolve(request: Request, model_dir: Path | None = None, *, image_follows: bool = False) -> Plan:
    """Resolve a Request to a Plan: unset fields take the model's defaults, and an unset seed is drawn here.

    `model_dir` is the directory of the model's files, if not the catalogue's. With `image_follows`, the film begins
    from an image or latents that do not exist yet, so the Plan has none. Raises RequestError (or ModelNotFound,
    SchedulerMismatch) for the first field that the model does not support.
    """
    model = _model(request, model_dir)
    request = _preset(request, model)
    container, num_frames = _frames(request, model)
    width, height = size_of(request, model)
    seed = secrets.randbits(DRAWN_SEED_BITS) if request.seed is None else request.seed
    if not 0 <= seed < SEED_LIMIT:
        raise RequestError(
            "seed", seed, f"must be 0 to {SEED_LIMIT - 1}", "choose a seed in that range or leave it out"
        )
    steps = _whole("num_inference_steps", request.num_inference_steps, model.num_inference_steps)
    image, video = ("", "") if image_follows else _beginning(request, model)
    fps = _real("fps", request.fps, model.fps)
    polish = request.polish or Polish()
    # Polish may change the frame rate; it is checked again afterwards.
    rate = fps if polish.nothing() else None
    encoding = formats.encoding(
        container, request.codec, request.quality, request.pixel_format, num_frames=num_frames, fps=rate
    )
    return Plan(
        task="picture" if num_frames == 1 else "film",
        model=model.name,
        revision=model.revision(),
        prompt=_prompt("prompt", request.prompt, smallest=1 if model.prompted else 0),
        negative_prompt=_negative(request, model),
        width=width,
        height=height,
        num_frames=num_frames,
        fps=fps,
        num_inference_steps=steps,
        guidance_scale=_real("guidance_scale", request.guidance_scale, model.guidance_scale),
        seed=seed,
        scheduler=_scheduler(request.scheduler, model, num_frames),
        window=model.window if num_frames > model.window else 0,
        stride=model.stride if num_frames > model.window else 0,
        condition_fps=model.condition_fps,
        prompt_at=_prompt_at(request, num_frames, model.window or num_frames, model.stride),
        image=image,
        video=video,
        **guides(request, model, num_frames, fps),
        **continuation(request, model, num_frames, image_follows),
        latent_upsample=upsampling_of(request, model, width, height),
        strength=_strength(request, model, steps, image_follows),
        loras=_loras(request),
        speed=request.speed or "exact",
        polish=polish,
        **audio_of(request.audio, request.audio_fit, request.audio_fade, container),
        **encoding.model_dump(),
    )


def notes(request: Request, plan: Plan, model_dir: Path | None = None) -> list[str]:
    """Return notes for the user on how a Request was resolved. Raises ModelNotFound.

    They name words removed from the negative prompt, recommended settings that differ from the general advice, and
    published ones that the preset does not use.
    """
    model = _model(request, model_dir)
    found = []
    if model.name != request.model:
        terms = "" if model.licence == find(request.model).licence else f"; its licence is {model.licence}"
        found.append(f"speed turbo: made by {model.name}, in {plan.num_inference_steps} steps{terms}")
    removed = set(words(request.negative_prompt or "")) - set(words(plan.negative_prompt))
    if unknown := [
        word for word in unknown_words(request.negative_prompt or "", model.known_words()) if word in removed
    ]:
        found.append(f"{model.name} did not learn {quoted(unknown)}: left out of the negative prompt")
    if model.seen.get("guidance_scale") == "as evaluated" and plan.guidance_scale > 2 * model.guidance_scale.default:
        best = f"above {model.guidance_scale.default:g}, the best measured value of {model.name}"
        found.append(f"guidance {plan.guidance_scale:g} is far {best}: the film may follow the prompt less")
    if request.preset is not None and (other := _other_than_advised(request, plan, model)):
        preset_values, advice = (", ".join(texts) for texts in zip(*other, strict=True))
        found.append(f"preset {request.preset}: {preset_values}, as recommended for {model.name}, instead of {advice}")
    if request.preset is not None and (published := ", ".join(_published_besides(request, plan, model))):
        found.append(
            f"preset {request.preset}: {model.name} was published with {published}; they apply without the preset"
        )
    return found


def _model(request: Request, model_dir: Path | None) -> Model:
    model = find(request.model)
    model = model if model_dir is None else model.at(model_dir)
    return model.few_steps() if request.speed == "turbo" else model


def _preset(request: Request, model: Model) -> Request:
    """Apply the preset to the unset fields of a Request."""
    if request.preset is None:
        return request
    values = model.recommended.model_dump()
    if request.container is not None and request.container not in formats.FILMS:
        del values["num_frames"]  # a still image has one frame
    return request.model_copy(update={name: value for name, value in values.items() if getattr(request, name) is None})


def _other_than_advised(request: Request, plan: Plan, model: Model) -> list[tuple[str, str]]:
    """Return the preset's values that differ from the general advice: each with the advice."""
    found = []
    for name, (low, high) in ADVISED.items():
        value = getattr(plan, name)
        filled = getattr(request, name) is None and value == getattr(model.recommended, name)
        if filled and not low <= value <= high and not (plan.task == "picture" and name in ("num_frames", "fps")):
            found.append((_NUMBERS[name].format(f"{value:g}"), _NUMBERS[name].format(f"{low:g} to {high:g}")))
    return found


def _published_besides(request: Request, plan: Plan, model: Model) -> list[str]:
    """Return the model's published values that the preset replaced by ones inside the general advice."""
    found = []
    for name, (low, high) in ADVISED.items():
        default = getattr(model, name).default
        filled = getattr(request, name) is None and getattr(plan, name) == getattr(model.recommended, name) != default
        if filled and name in model.seen and not low <= default <= high:
            found.append(_NUMBERS[name].format(f"{default:g}"))
    return found


def nearest_frames(seconds: float, fps: float | None, model: Model) -> int:
    """Return the number of frames that is nearest to `seconds` and that the model supports.

    A film has two frames or more, if the model can make them.
    """
    smallest, largest = model.num_frames.range
    every = model.num_frames.every
    nearest = round((seconds * (fps or model.fps.default) - smallest) / every) * every + smallest
    fewest = smallest if smallest > 1 or largest == 1 else smallest + every
    most = largest - (largest - smallest) % every
    return min(max(nearest, fewest), most)


def speed_of(value: str | float | None) -> tuple[Speed | None, float | None]:
    """Parse `speed`: a level ("exact", "balanced"), a playback speed (2, 0.5), or both ("balanced,2").

    Raises RequestError for other values, and for two of the same kind.
    """
    level: Speed | None = None
    played: float | None = None
    for word in [] if value is None else str(value).split(","):
        word = word.strip().lower()
        known = next((each for each in get_args(Speed) if each == word), None)
        number = None if known else _number(word)
        if (known is None and number is None) or (known and level) or (number is not None and played is not None):
            levels = ", ".join(get_args(Speed))
            limit = f"must be {levels}, a number, or one of each"
            raise RequestError(
                "speed", value, limit, "write balanced or turbo for faster sampling, 2 to play the film twice as fast"
            )
        level, played = known or level, played if number is None else number
    return level, played


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def usual(model: Model) -> Plan:
    """Return the Plan of a film with all defaults of the model, without an image or a video to begin from."""
    width, height = model.sizes[0]
    num_frames = model.num_frames.default
    return Plan(
        task="picture" if num_frames == 1 else "film",
        model=model.name,
        revision=model.revision(),
        prompt="a film",
        negative_prompt=model.negative_prompt,
        width=width,
        height=height,
        num_frames=num_frames,
        fps=model.fps.default,
        condition_fps=model.condition_fps,
        num_inference_steps=model.num_inference_steps.default,
        guidance_scale=model.guidance_scale.default,
        seed=0,
        scheduler=model.schedulers[0],
        **formats.encoding("png" if num_frames == 1 else "mp4").model_dump(),
    )


def _prompt(field: str, text: str, smallest: int) -> str:
    """Return `text` stripped. Raises RequestError if it is too short, too long, or not printable."""
    # The length is checked first, so that nothing below processes a megabyte twice.
    stripped = text.strip()
    if len(stripped) > PROMPT_CHARACTERS:
        limit = f"has {len(stripped)} characters, must be at most {PROMPT_CHARACTERS}"
        raise RequestError(field, stripped, limit, "shorten it")
    if len(stripped) < smallest:
        raise RequestError(field, text, "is empty", 'describe the film, for example "a red circle moving left"')
    for character in stripped:
        # Cc: control characters, including terminal escapes; Cs: lone surrogates, which no file can store.
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r":
            limit = f"contains the control character U+{ord(character):04X}"
            raise RequestError(field, stripped, limit, "remove it")
    return stripped


def _prompt_at(request: Request, num_frames: int, window: int, stride: int) -> tuple[tuple[int, str], ...]:
    """Return the prompts after the first, sorted by frame."""
    found = sorted(request.prompt_at or ())
    for place, (frame, _) in enumerate(found):
        if not 1 <= frame < num_frames:
            limit = f"must be a frame from 1 to {num_frames - 1}"
            raise RequestError("prompt_at", frame, limit, "the first prompt starts at frame 0")
        if place and frame == found[place - 1][0]:
            raise RequestError("prompt_at", frame, "has two prompts", "give each prompt its own frame")
    begins = [0, *(frame for frame, _ in found)]
    shown = {prompt_of(start, window, begins) for start in starts(num_frames, window, stride=stride)}
    for place, frame in enumerate(begins):
        if found and place not in shown:
            limit = f"this prompt is too short: no window of {min(window, num_frames)} frames has its middle in it"
            remedy = f"give each prompt {window // 2} frames or more"
            if num_frames <= window:
                limit, remedy = (
                    f"a film of up to {window} frames has one prompt",
                    "ask for more frames, or one prompt",
                )
            raise RequestError("prompt_at", frame, limit, remedy)
    return tuple((frame, _prompt("prompt_at", text, smallest=1)) for frame, text in found)


def _beginning(request: Request, model: Model) -> tuple[str, str]:
    """Return the SHA-256 of the image and of the video that a film begins from, "" if there is none."""
    named = {"image": request.image, "video": request.video}
    inputs = {kind: path for kind, path in named.items() if path is not None}
    if len(inputs) > 1:
        raise RequestError(
            "video", Path(request.video or "").name, "a film starts from one input", "pass either --image or --video"
        )
    for kind, path in inputs.items():
        if kind not in model.inputs:
            able = [other.name for other in list_models() if kind in other.inputs]
            limit = f"{model.name} starts from {' or '.join(model.inputs)}"
            remedy = f"leave it out, or choose a model that can: {', '.join(able)}"
            if request.speed == "turbo":
                limit, remedy = f"{limit} at speed turbo", "leave it out, or write exact for the speed"
            raise RequestError(kind, Path(path).name, limit, remedy)
    if not inputs and "text" not in model.inputs:
        kind = model.inputs[0]
        raise RequestError(kind, "", f"{model.name} starts from {' or '.join(model.inputs)}", f"add --{kind} PATH")
    hashes = {}
    for kind, path in inputs.items():
        if kind == "video" and formats.is_frames(path):
            formats.check_numbers(path)
        try:
            hashes[kind] = formats.digest(path) if kind == "video" else sha256(path)
        except OSError as error:
            raise MediaError(path, error.strerror or "cannot be read", "check the path") from None
    return hashes.get("image", ""), hashes.get("video", "")


def _strength(request: Request, model: Model, steps: int, image_follows: bool) -> float | None:
    # Of latents, as of an image, a model without image input has no share to make anew.
    follows = (image_follows or request.latents is not None) and "image" in model.inputs
    has_input = follows or request.image is not None or request.video is not None
    if request.strength is not None and not (has_input and model.strength):
        limit = f"{model.name} does not use it" if has_input else "has no effect without an image or a video"
        raise RequestError("strength", request.strength, limit, "leave it out")
    if not has_input or model.strength is None:
        return None
    strength = _real("strength", request.strength, model.strength)
    if int(steps * strength) < 1:
        limit = f"leaves no step of {steps}"
        raise RequestError("strength", strength, limit, f"ask for {1 / steps:.2g} or more, or for more steps")
    return strength


def _loras(request: Request) -> tuple[Lora, ...]:
    found = []
    for path, weight in request.loras or ():
        if not -10 <= weight <= 10:
            raise RequestError("lora", weight, "its weight must be -10 to 10", "1 is the weight it was trained for")
        try:
            found.append(Lora(name=Path(path).stem, sha256=sha256(path), weight=weight))
        except OSError as error:
            raise WeightsError(path, error.strerror or "cannot be read", "check the path of the LoRA") from None
    return tuple(found)


def _negative(request: Request, model: Model) -> str:
    if request.negative_prompt is None:
        return model.negative_prompt
    if request.negative_prompt.strip() and (not model.prompted or model.guidance_scale.range[1] <= 1):
        limit = f"has no effect with {model.name}" + (" at speed turbo" if request.speed == "turbo" else "")
        raise RequestError("negative_prompt", request.negative_prompt, limit, "leave it out")
    text = _prompt("negative_prompt", request.negative_prompt, smallest=0)
    # Guidance would steer away from the arbitrary meaning that the network gives an unknown word, and degrade the film.
    return without_unknown(text, model.known_words())


def _frames(request: Request, model: Model) -> tuple[Container, int]:
    """Return the container and the number of frames, which determine each other: an image has one frame."""
    requested, container = request.num_frames, request.container
    if container is not None and container not in formats.FILMS:
        if requested not in (None, 1):
            limit = f"{container} files have one frame"
            raise RequestError("num_frames", requested, limit, "ask for 1 frame or name the file .mp4")
        return container, _whole("num_frames", 1, model.num_frames)
    num_frames = _whole("num_frames", requested, model.num_frames)
    if num_frames == 1 and container not in (None, *formats.STILLS):
        limit = (
            "shot-%04d.png needs 2 frames or more"
            if container == "frames"
            else f"{container} files need 2 frames or more"
        )
        raise RequestError("num_frames", 1, limit, "name the file .png or ask for more frames")
    return container or ("png" if num_frames == 1 else "mp4"), num_frames


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
    limit = f"must be {smallest:g} to {largest:g}"
    if smallest == largest:
        limit, remedy = f"must be {smallest:g}", "leave it out"
    raise RequestError(field, value, limit, remedy)


def _scheduler(name: str | None, model: Model, num_frames: int) -> str:
    """Return the requested scheduler, or the model's first one.

    A long film shares noise between frames. A sampler that adds its own noise to each frame would destroy that, so for
    long films the first scheduler without added noise is the default.
    """
    if name is None:
        quiet = [each for each in model.schedulers if each != "ddim-eta1"]
        return quiet[0] if model.window and num_frames > model.window else model.schedulers[0]
    if name not in model.schedulers:
        raise SchedulerMismatch(name, model.name, model.schedulers)
    return name
