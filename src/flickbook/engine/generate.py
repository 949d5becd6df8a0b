"""`generate`: the library's main call, from a prompt to a Clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

from flickbook import settings
from flickbook.catalogue import find
from flickbook.conditioning import FILES, conditions_of
from flickbook.engine import sources
from flickbook.engine.films import OnStep, films, located, run_options_of
from flickbook.engine.polish import PolishOptions, check_names, finished, parse_polish
from flickbook.hub.fetch import available
from flickbook.keyframes import Condition
from flickbook.media.clip import Clip
from flickbook.resolution import notes, resolve, speed_of
from flickbook.spec import AudioFit, Control, LatentUpsample, Preset, Request


class FilmOptions(PolishOptions, total=False):
    """Polish options, and those of the sound, which is fitted to the finished film.

    `audio` is a file with a track, "none" for silence; `audio_fit` is pad (silence after a shorter track), trim (a
    longer one is cut) or loop (a shorter one is repeated); `audio_fade` is the duration of its fades in seconds.
    """

    audio: str | Path | None
    audio_fit: AudioFit | None
    audio_fade: float | None


def parted(options: FilmOptions) -> tuple[dict[str, Any], PolishOptions]:
    """The options of the sound, as fields of a Request, and the polish options."""
    sound: dict[str, Any] = {name: options.get(name) for name in ("audio", "audio_fit", "audio_fade")}
    sound["audio"] = None if sound["audio"] is None else str(sound["audio"])
    sound["audio_fade"] = None if sound["audio_fade"] is None else float(sound["audio_fade"])
    rest = {name: value for name, value in options.items() if name not in sound}
    return sound, cast(PolishOptions, rest)


def generate(
    prompt: str = "",
    *,
    model: str | None = None,
    preset: Preset | None = None,
    negative_prompt: str | None = None,
    num_frames: int | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    fps: float | None = None,
    seed: int | None = None,
    width: int | None = None,
    height: int | None = None,
    scheduler: str | None = None,
    prompt_at: Sequence[tuple[int, str]] | None = None,
    image: str | Path | None = None,
    video: str | Path | None = None,
    last_image: str | Path | None = None,
    conditions: Sequence[Condition | str] | None = None,
    reference_images: Sequence[str | Path] | None = None,
    control_video: str | Path | None = None,
    control: Control | None = None,
    face_video: str | Path | None = None,
    mask: str | Path | None = None,
    latent_upsample: LatentUpsample | None = None,
    strength: float | None = None,
    lora: str | Sequence[str] | None = None,
    precision: str = "auto",
    model_dir: str | Path | None = None,
    on_step: OnStep | None = None,
    cancel: Callable[[], bool] | None = None,
    **options: Unpack[FilmOptions],
) -> Clip:
    """Generate one film from a prompt.

    `width` and `height` are in pixels, `fps` in frames per second; `seed` is 0 to 2**63 - 1, random if None. Any other
    value that is None takes the model's default, or with `preset="recommended"` the catalogue entry's recommendation.
    `prompt_at` lists later prompts as (first frame, prompt). `image` or `video` is a file that the film starts from;
    `strength`, 0 to 1, is how much of it is generated anew. `last_image` is what it ends with, `conditions` are images
    at frames ("IMAGE@FRAME"), `reference_images` show its subjects, `control_video` steers its frames (`control`:
    "edges" computes them), `face_video` the face, `mask` is white where `video` is made anew. `latent_upsample` doubles
    the latents of a film of half the size: "plain" or "refine". `lora` names LoRAs as "PATH_OR_REPO[:weight]".
    `precision` is auto, fp32, bf16, fp16, fp8 or int8. `model_dir` is the directory of the model's files, if it is not
    the catalogue's. `on_step` is called with every Step. `cancel` is called between steps; if it returns True,
    Cancelled is raised. `num_frames=1` makes a still. `options` (`FilmOptions`) are sound, changes of frames, `speed`.

    Raises RequestError for a request that the model cannot fulfil, MediaError for inputs, HubError, WeightsError.
    """
    check_names(generate, options, FilmOptions)
    sound, polish_options = parted(options)
    fields: dict[str, Any] = dict(
        prompt=prompt, preset=preset, negative_prompt=negative_prompt, num_frames=num_frames, seed=seed
    )
    fields |= dict(num_inference_steps=num_inference_steps, guidance_scale=guidance_scale, fps=fps, strength=strength)
    fields |= dict(width=width, height=height, scheduler=scheduler, prompt_at=prompt_at, control=control)
    files = dict(image=image, video=video, last_image=last_image, control_video=control_video, mask=mask)
    files["face_video"], fields["latent_upsample"] = face_video, latent_upsample
    request = _request(model, lora, fields | files | sound, conditions, reference_images)
    return _made(request, None if model_dir is None else Path(model_dir), precision, polish_options, on_step, cancel)


def _request(
    model: str | None,
    lora: str | Sequence[str] | None,
    fields: dict[str, Any],
    conditions: Sequence[Condition | str] | None,
    reference_images: Sequence[str | Path] | None,
) -> Request:
    """The Request of the fields as a caller may write them: paths, whole numbers for real ones, lists."""
    for name in ("guidance_scale", "fps", "strength"):
        fields[name] = None if fields[name] is None else float(fields[name])
    for name in FILES:
        fields[name] = None if fields[name] is None else str(fields[name])
    if fields["prompt_at"] is not None:
        fields["prompt_at"] = tuple((frame, text) for frame, text in fields["prompt_at"])
    placed = [each if isinstance(each, Condition) else conditions_of([each])[0] for each in conditions or ()]
    return Request.of(
        **fields,
        model=model or settings.load().model,
        conditions=tuple(placed) or None,
        reference_images=tuple(str(path) for path in reference_images or ()) or None,
        loras=located([lora] if isinstance(lora, str) else lora or ()),
    )


def _made(
    request: Request,
    model_dir: Path | None,
    precision: str,
    polish_options: PolishOptions,
    on_step: OnStep | None,
    cancel: Callable[[], bool] | None,
) -> Clip:
    level, played = speed_of(polish_options.get("speed"))
    request = sources.complete(request.model_copy(update={"speed": level}))
    plan = resolve(request, model_dir)
    if model_dir is None:
        available(find(plan.model))
    polish, networks = parse_polish(plan.num_frames, plan.fps, {**polish_options, "speed": played})
    plan = plan.model_copy(update={"polish": polish})
    finished(plan)  # raises before anything is generated
    run_options = replace(run_options_of(plan, request, model_dir, precision), networks=networks)
    return next(films([plan], run_options, on_step=on_step, cancel=cancel)).noted(notes(request, plan, model_dir))
