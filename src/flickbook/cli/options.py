"""Options shared by several commands: each is defined once, and grouped."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

#: What help shows as the default of an option whose default the model decides.
_MODELS: Final = "the model's"

ModelDir = Annotated[Path | None, typer.Option(help="Directory of the model's files, if not the download directory.")]
Model = Annotated[str | None, typer.Option(help="Model; `flickbook models list` shows all.", show_default="builtin")]
Preset = Annotated[str | None, typer.Option(help="recommended: use the model's recommended values for unset options.")]
NegativePrompt = Annotated[
    str | None, typer.Option(help="Description of what the film should not show.", show_default=_MODELS)
]
NumFrames = Annotated[int | None, typer.Option(help="Number of frames; 1 makes an image.", show_default=_MODELS)]
NumInferenceSteps = Annotated[
    int | None,
    typer.Option(help="Number of denoising steps; more take longer and give finer detail.", show_default=_MODELS),
]
GuidanceScale = Annotated[
    float | None, typer.Option(help="Guidance scale: how closely the film follows the prompt.", show_default=_MODELS)
]
Fps = Annotated[float | None, typer.Option(help="Frames per second.", show_default=_MODELS)]
Seed = Annotated[int | None, typer.Option(help="Random seed: the same seed gives the same film; random if unset.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels.", show_default=_MODELS)]
Scheduler = Annotated[
    str | None, typer.Option(help="Sampler; `flickbook models show` lists those of a model.", show_default=_MODELS)
]
PromptAt = Annotated[list[str] | None, typer.Option(metavar="FRAME:PROMPT", help="Prompt from a frame on; repeatable.")]
Image = Annotated[Path | None, typer.Option(help="Image to start from; of a video, the last frame is used.")]
Video = Annotated[Path | None, typer.Option(help="Video to start from, or numbered frames as frames/%05d.png.")]
LastImage = Annotated[Path | None, typer.Option(help="Image that the film ends with; of a video, the first frame.")]
ConditionOption = Annotated[
    list[str] | None,
    typer.Option(metavar="IMAGE@FRAME[:STRENGTH]", help="Image at a frame, or at seconds as 1.5s; repeatable."),
]
ReferenceImage = Annotated[list[Path] | None, typer.Option(help="Image of a subject that the film shows; repeatable.")]
ControlVideo = Annotated[
    Path | None, typer.Option(help="Video of edges, depth or poses that steers each frame, or numbered frames.")
]
ControlOption = Annotated[str | None, typer.Option(help="edges: compute the edges of --control-video.")]
FaceVideo = Annotated[Path | None, typer.Option(help="Video of the face that --control-video moves, cut to the face.")]
Mask = Annotated[Path | None, typer.Option(help="Image or video that is white where --video is made anew.")]
LatentUpsample = Annotated[
    str | None,
    typer.Option(help="Make the film at half its size, then double its latents: plain, or refine in a few more steps."),
]
Strength = Annotated[float | None, typer.Option(help="Denoising strength for --image and --video, 0 to 1.")]
Audio = Annotated[
    str | None,
    typer.Option(metavar="FILE|none", help="Sound under the film: an audio file or a video; none for silence."),
]
AudioFit = Annotated[
    str | None,
    typer.Option(help="pad: silence after a shorter sound; trim: also cut a longer one; loop: repeat a shorter one."),
]
AudioFade = Annotated[float | None, typer.Option(help="Seconds over which the sound of --audio fades in and out.")]
Lora = Annotated[list[str] | None, typer.Option(metavar="PATH_OR_REPO[:WEIGHT]", help="LoRA to apply; repeatable.")]
Precision = Annotated[str, typer.Option(help="Precision of the weights: auto, fp32, bf16, fp16, fp8 or int8.")]
Count = Annotated[int, typer.Option(help="Number of films; the seed increases by one from each to the next.")]
RetryBelow = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME:VALUE", help="Try another seed if this quality score is below VALUE; repeatable."),
]
Retries = Annotated[int, typer.Option(help="Number of other seeds to try.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write; the suffix selects the format.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Yes = Annotated[bool, typer.Option("--yes", help="Download a missing model without asking.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

#: Options for the sound of a film.
AUDIO: Mapping[str, Any] = {"audio": Audio, "audio_fit": AudioFit, "audio_fade": AudioFade}
#: Options for the content of a film and its sampling.
FILM: Mapping[str, Any] = {
    "model": Model,
    "preset": Preset,
    "negative_prompt": NegativePrompt,
    "num_frames": NumFrames,
    "num_inference_steps": NumInferenceSteps,
    "guidance_scale": GuidanceScale,
    "fps": Fps,
    "seed": Seed,
    "size": Size,
    "scheduler": Scheduler,
    "prompt_at": PromptAt,
    "image": Image,
    "video": Video,
    "last_image": LastImage,
    "condition": ConditionOption,
    "reference_image": ReferenceImage,
    "control_video": ControlVideo,
    "control": ControlOption,
    "face_video": FaceVideo,
    "mask": Mask,
    "latent_upsample": LatentUpsample,
    "strength": Strength,
    "lora": Lora,
    **AUDIO,
}
#: Options for the film's file format.
ENCODING: Mapping[str, Any] = {
    "codec": Annotated[str | None, typer.Option(help="h264, h265, av1, vp9, ffv1, or a hardware encoder.")],
    "quality": Annotated[str | None, typer.Option(help="0 to 100 (best), or lossless.")],
    "pixel_format": Annotated[str | None, typer.Option(help="yuv420p (8 bits) or yuv420p10le (10 bits).")],
}
#: Polish options, in the order in which they are applied.
POLISH: Mapping[str, Any] = {
    "trim": Annotated[str | None, typer.Option(metavar="A:B", help="Keep seconds A to B, or frames with 8:24f.")],
    "steady": Annotated[bool, typer.Option("--steady", help="Remove flicker and colour drift.")],
    "interpolate": Annotated[
        str | None, typer.Option(metavar="Nx", help="Multiply the number of frames by N, 2x to 8x.")
    ],
    "interpolator": Annotated[
        str | None, typer.Option(metavar="PATH", help="RIFE network for --interpolate, a safetensors file.")
    ],
    "upscale": Annotated[str | None, typer.Option(metavar="Nx", help="Multiply width and height by N, 2x to 4x.")],
    "upscaler": Annotated[str | None, typer.Option(help="lanczos, or a Real-ESRGAN network, a safetensors file.")],
    "camera": Annotated[
        str | None,
        typer.Option(help="Camera move: pan-left, pan-right, tilt-up, tilt-down, zoom-in or zoom-out."),
    ],
    "loop": Annotated[str | None, typer.Option(help="Make the film loop: pingpong, blend or cut.")],
    "speed": Annotated[float | None, typer.Option(help="Playback speed: 2 is twice as fast, 0.5 half as fast.")],
    "rate": Annotated[float | None, typer.Option(help="Frames per second, at the same playback speed.")],
    "text": Annotated[str | None, typer.Option(help="Caption over the film.")],
}
#: Polish options of commands that run a model, where `speed` also selects the sampling speed.
FINISH: Mapping[str, Any] = {
    **POLISH,
    "speed": Annotated[
        str | None,
        typer.Option(
            help="Sampling speed: exact, balanced (faster) or turbo (few steps); playback speed, as 2 or 0.5; "
            "or both, as balanced,2."
        ),
    ],
}
#: The groups that help shows options in.
_PANELS: Final[Mapping[str, Iterable[Any]]] = {
    "Film": FILM.values(),
    "Finishing": [*FINISH.values(), *POLISH.values()],
    "Encoding": ENCODING.values(),
    "Model files": [ModelDir, Precision, Yes],
    "Several films": [Count, RetryBelow, Retries],
    "Output": [Output, Overwrite, AsJson],
}
for _panel, _kinds in _PANELS.items():
    for _kind in _kinds:
        _kind.__metadata__[0].rich_help_panel = _panel


def taking(**groups: Mapping[str, Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of `groups` to a command. Unset options are None; each group becomes one mapping of its name."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        parameters: list[inspect.Parameter] = []
        for each in inspect.signature(command, eval_str=True).parameters.values():
            group = groups.get(each.name)
            parameters += [each] if group is None else [_unset(name, kind) for name, kind in group.items()]

        @wraps(command)
        def called(*args: Any, **values: Any) -> Any:
            together = {name: {option: values.pop(option) for option in group} for name, group in groups.items()}
            return command(*args, **values, **together)

        # Keyword-only, because options without a default may precede an argument with one, and Typer calls by name.
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        # Typer reads this signature; it would otherwise follow __wrapped__ to the command's own.
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        del called.__wrapped__
        return called

    return decorated


def _unset(name: str, kind: Any) -> inspect.Parameter:
    flag = kind.__origin__ is bool
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False if flag else None, annotation=kind)
