"""The forms of the studio: a component for each field, with the limits of the selected model.

Each component has the name of its field in the body of `/api/v1/jobs`; polish options are called "polish.…". The page
reads the values itself and sends them like any other client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import gradio as gr

from flickbook import catalogue, formats
from flickbook.catalogue import Model, Real, Whole
from flickbook.learn.tuning.config import TuneConfig, trainable_models
from flickbook.resolution import PROMPT_CHARACTERS
from flickbook.server.api.requests import Precision
from flickbook.spec import NO_AUDIO, Loop

FILMS: Final = tuple(name for name in formats.FILMS if name != "frames")
PICTURES: Final = formats.STILLS
PRECISIONS: Final = get_args(Precision)
#: Codecs of the containers that offer a choice, without those that need certain hardware.
CODECS: Final = tuple(
    dict.fromkeys(
        codec
        for name in FILMS
        for codec in formats.FORMS[name].codecs
        if len(formats.FORMS[name].codecs) > 1 and not formats.CODECS[codec].hardware
    )
)
LOOPS: Final = tuple(each for each in get_args(Loop) if each)
Fields = dict[str, Any]


def film_models() -> list[tuple[str, str]]:
    """Return the models that make films, as choices of a Dropdown."""
    able = (each for each in catalogue.list_models() if each.num_frames.range[1] > 1)
    return [(each.title, each.name) for each in able]


def picture_models() -> list[tuple[str, str]]:
    """Return the models that make a single image from a prompt; those that make only images come first."""
    able = [each for each in catalogue.list_models() if each.num_frames.range[0] == 1]
    able = [each for each in able if "text" in each.inputs and not each.needs]
    able.sort(key=lambda each: (each.name != "builtin", each.num_frames.range[1] > 1))
    return [(each.title, each.name) for each in able]


def sizes(model: Model) -> list[str]:
    """Return the sizes that suit a model best, and if possible sizes of half and one and a half times these."""
    found = list(model.sizes)
    if model.sides is not None:
        low, high = model.sides.range
        for width, height in model.sizes:
            for factor in (0.5, 1.5):
                pair = [round(side * factor / model.sides.multiple) * model.sides.multiple for side in (width, height)]
                if all(low <= side <= high for side in pair):
                    found.append((pair[0], pair[1]))
    return [f"{width}x{height}" for width, height in dict.fromkeys(found)]


def ranges(model: Model) -> dict[str, dict[str, Any]]:
    """Return the limits, choices and default of each component that depends on the model."""
    strength = model.strength
    usual = f"Model default: {model.negative_prompt}" if model.negative_prompt else "What the film should not show"
    frames = _limits(model.fewest_frames, model.num_frames, model.num_frames.every) | {"label": timed(model)}
    limits = {
        "num_inference_steps": _limits(model.num_inference_steps.range[0], model.num_inference_steps, 1),
        "guidance_scale": _limits(model.guidance_scale.range[0], model.guidance_scale, 0.1),
        "fps": _limits(model.fps.range[0], model.fps, 1),
        "size": {"choices": sizes(model), "value": sizes(model)[0]},
        "scheduler": {"choices": list(model.schedulers), "value": model.schedulers[0]},
        "negative_prompt": {"placeholder": usual},
        # A model without a strength leaves the field empty.
        "strength": {"value": None} if strength is None else _limits(strength.range[0], strength, 0.05),
        "latent_upsample": {"choices": _upsampling(model), "value": "", "visible": model.latent_upsampler is not None},
        "hint": {"value": f"{model.good_at}. {model.faults}. Recommended: {model.advice()}."},
    }
    return limits if model.num_frames.range[1] == 1 else {"num_frames": frames} | limits


def _upsampling(model: Model) -> list[tuple[str, str]]:
    """Return how the model can double latents, with labels."""
    upsampler = model.latent_upsampler
    can_refine = upsampler is not None and bool(upsampler.refine)
    found = [("none", ""), ("plain: half the size first, then doubled latents", "plain")]
    return [*found, ("refine: a few more steps after that", "refine")] if can_refine else found


def timed(model: Model) -> str:
    """Return the label of the frames with their duration; static/form.js updates it."""
    return f"Frames ({model.num_frames.default / model.fps.default:.1f} s)"


def _limits(low: float, limits: Whole | Real, step: float) -> dict[str, Any]:
    """Return the limits of a Slider. Without a choice the slider is fixed, because its ends must not be equal."""
    high = limits.range[1]
    still = {"maximum": low + step, "interactive": False} if high <= low else {"maximum": high, "interactive": True}
    return {"minimum": low, "step": step, "value": limits.default} | still


def chosen(choices: list[tuple[str, str]], value: str) -> str:
    """Return `value` if it is one of the choices, else the first choice."""
    return value if value in [name for _, name in choices] else choices[0][1]


def model_box(choices: list[tuple[str, str]], value: str) -> gr.Dropdown:
    """Return the model component."""
    return gr.Dropdown(choices, value=chosen(choices, value), label="Model", filterable=True)


def prompt_box(placeholder: str) -> gr.Textbox:
    """Return the prompt component."""
    return gr.Textbox(label="Prompt", placeholder=placeholder, lines=2, max_lines=8, max_length=PROMPT_CHARACTERS)


def numbers(model: Model, film: bool = True) -> Fields:
    """Return the sliders that are always visible."""
    limits, found = ranges(model), dict[str, Any]()
    if film:
        found["num_frames"] = gr.Slider(precision=0, **limits["num_frames"])
    found["num_inference_steps"] = gr.Slider(label="Steps", precision=0, **limits["num_inference_steps"])
    return found


def seed() -> Fields:
    """Return the seed field, its random button, and its checkbox."""
    with gr.Row(equal_height=True, elem_classes="fb-seed"):
        number = gr.Textbox(label="Seed", placeholder="random for each film", max_lines=1, max_length=20, scale=4)
        dice = gr.Button("Random", size="sm", scale=1, min_width=64, elem_classes="fb-dice")
        lock = gr.Checkbox(label="Keep seed", scale=2, min_width=110, elem_classes="fb-lock")
    draw = f"() => String(Math.floor(Math.random() * {2**32}))"
    dice.click(None, None, number, js=draw, api_visibility="private")
    return {"seed": number, "keep_seed": lock}


def details(model: Model, film: bool = True) -> Fields:
    """Return the components of the collapsed settings."""
    limits = ranges(model)
    found: Fields = {
        "negative_prompt": gr.Textbox(label="Negative prompt", lines=1, max_lines=4, **limits["negative_prompt"]),
        "guidance_scale": gr.Slider(
            label="Guidance", info="How closely to follow the prompt", **limits["guidance_scale"]
        ),
    }
    if film:
        found["fps"] = gr.Slider(label="Frames per second", **limits["fps"])
    found["size"] = gr.Dropdown(label="Size", allow_custom_value=True, **limits["size"])
    if film:
        found["latent_upsample"] = gr.Dropdown(label="Latent upsampling", **limits["latent_upsample"])
    found["scheduler"] = gr.Dropdown(label="Scheduler", **limits["scheduler"])
    found["speed"] = gr.Dropdown(
        [("exact", "exact"), ("balanced: faster, nearly identical", "balanced"), ("turbo: few steps", "turbo")],
        value="exact",
        label="Speed",
    )
    found["precision"] = gr.Dropdown(list(PRECISIONS), value="auto", label="Precision")
    found["loras"] = gr.Textbox(
        label="LoRAs", info="Names in the LoRA folder with their weights: ink:0.8, film-grain:0.5", placeholder="none"
    )
    found["container"] = gr.Dropdown(list(FILMS if film else PICTURES), value="mp4" if film else "png", label="Format")
    # Not a Number component: it shows and sends 0 when it is empty.
    found["quality"] = gr.Textbox(
        label="Quality", info="0 to 100, or lossless", placeholder="format default", max_length=8, lines=1
    )
    if film:
        found["codec"] = gr.Dropdown([("format default", ""), *CODECS], value="", label="Codec")
        found["pixel_format"] = gr.Dropdown(
            [("8 bits", ""), ("10 bits", "yuv420p10le")], value="", label="Colour depth"
        )
    return found


def along() -> Fields:
    """Return the component of later prompts."""
    return {
        "prompt_at": gr.Textbox(
            label="Later prompts, one per line",
            info="First frame and prompt, for example 8: a blue square on a white background",
            placeholder="none",
            lines=2,
            max_lines=8,
        )
    }


def training() -> Fields:
    """Return the components of a training."""
    models = [(each.title, each.name) for each in trainable_models()]
    return {
        "name": gr.Textbox(label="Name of the LoRA", placeholder="zigzag", max_lines=1, max_length=64),
        "model": gr.Dropdown(models, value=chosen(models, "builtin"), label="Model", filterable=True),
        "prompt": gr.Textbox(
            label="Prompt of the samples", placeholder="the first caption", lines=1, max_length=PROMPT_CHARACTERS
        ),
        "iterations": gr.Slider(10, 4000, value=TuneConfig.iterations, step=10, precision=0, label="Updates"),
        "rank": gr.Slider(1, 128, value=TuneConfig.rank, step=1, precision=0, label="Rank"),
    }


def training_details() -> Fields:
    """Return the components of a training's collapsed settings."""
    usual = "model default"
    return {
        "sample_every": gr.Slider(0, 500, value=50, step=10, precision=0, label="Updates between samples"),
        "batch": gr.Textbox(label="Clips in each update", placeholder=str(TuneConfig.batch), max_lines=1, max_length=4),
        "prior": gr.Textbox(label="Prior examples in each update", placeholder=usual, max_lines=1, max_length=4),
        "prior_prompts": gr.Textbox(
            label="Prior prompts, one per line",
            info="Their films shall stay as they are. The built-in model has its own; others forget without them",
            placeholder=usual,
            lines=2,
            max_lines=8,
        ),
        "num_frames": gr.Textbox(label="Frames of each clip", placeholder=usual, max_lines=1, max_length=6),
        "lr": gr.Textbox(label="Learning rate", placeholder=usual, max_lines=1, max_length=12),
        "target_modules": gr.Dropdown(
            [(usual, ""), ("attention", "attention"), ("all", "all")], value="", label="Layers"
        ),
        "validation": gr.Textbox(
            label="Share of clips held out", placeholder="0.1; 0 for a few clips", max_lines=1, max_length=6
        ),
    }


def finishing() -> Fields:
    """Return the components of the polish options."""
    return {
        "polish.interpolate": gr.Dropdown(
            [("none", ""), ("2x", "2x"), ("3x", "3x"), ("4x", "4x")], value="", label="Interpolate frames"
        ),
        "polish.upscale": gr.Dropdown(
            [("none", ""), ("2x", "2x"), ("3x", "3x"), ("4x", "4x")], value="", label="Upscale"
        ),
        "polish.steady": gr.Slider(0, 1, value=0, step=0.05, label="Reduce flicker"),
        "polish.loop": gr.Dropdown([("none", ""), *[(each, each) for each in LOOPS]], value="", label="Loop"),
        "polish.speed": gr.Slider(0.25, 4, value=1, step=0.05, label="Playback speed"),
        "polish.trim": gr.Textbox(
            label="Trim", placeholder="whole film; 0.5:1.5 in seconds, 4:12f in frames", max_length=40
        ),
        "polish.rate": gr.Dropdown([("unchanged", ""), "12", "24", "30", "60"], value="", label="Output frame rate"),
        "polish.text": gr.Textbox(label="Caption", max_length=200),
    }


def sound() -> Fields:
    """Return the components of a film's sound; its file is chosen in `flickbook-sound`."""
    return {
        "audio": gr.Dropdown([("as the model makes it", ""), ("none", NO_AUDIO)], value="", label="Sound"),
        "audio_fit": gr.Dropdown(
            [("silence after a shorter one", ""), ("also cut a longer one", "trim"), ("repeat a shorter one", "loop")],
            value="",
            label="Fit of the sound file",
        ),
        "audio_fade": gr.Slider(0, 10, value=0, step=0.1, label="Fade of the sound file, in seconds"),
    }


def changed(name: str, fields: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the updates of the components when another model is selected."""
    limits = ranges(catalogue.find(name))
    return {fields[field]: gr.update(**update) for field, update in limits.items() if field in fields}


def recommended(name: str, fields: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the updates of the components for a model's recommended settings."""
    values = catalogue.find(name).recommended.model_dump()
    return {fields[field]: gr.update(value=value) for field, value in values.items() if field in fields}


def filled(plan: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the updates of the components for the values of a Plan. Limits are included if the model is known here."""
    model = next((each for each in catalogue.list_models() if each.name == plan.get("model")), None)
    limits: dict[str, dict[str, Any]] = ranges(model) if model is not None else {}
    values = _values(plan, fields)
    if model is None:
        values.pop("model", None)
    names = [name for name in fields if name in limits or name in values]
    return {
        fields[name]: gr.update(**limits.get(name, {}) | ({"value": values[name]} if name in values else {}))
        for name in names
    }


def _values(plan: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the components by field name."""
    polish, turns = plan.get("polish") or {}, [tuple(turn) for turn in plan.get("prompt_at") or ()]
    values: dict[str, Any] = {name: plan[name] for name in fields if plan.get(name) is not None}
    seed = plan.get("seed")
    values |= {"seed": "" if seed is None else str(seed), "keep_seed": seed is not None}
    values["speed"] = plan.get("speed") or "exact"  # old recipes have no speed
    values["latent_upsample"] = plan.get("latent_upsample") or ""
    # A Plan contains the hashes of LoRA files; the name of a training's is given beside it.
    values["loras"] = str(plan.get("lora_text") or "")
    if plan.get("width") and plan.get("height"):
        values["size"] = f"{plan['width']}x{plan['height']}"
    if plan.get("task") == "sequence":
        values["prompts"] = "\n".join([str(plan.get("prompt", "")), *(str(text) for _, text in turns)])
        values["frames_per"] = int(plan.get("num_frames", 24)) // (1 + len(turns))
    else:
        values["prompt_at"] = "\n".join(f"{frame}: {text}" for frame, text in turns)
    values["codec"] = plan["codec"] if plan.get("codec") in CODECS else ""
    values["pixel_format"] = plan["pixel_format"] if plan.get("pixel_format") == "yuv420p10le" else ""
    for factor in ("interpolate", "upscale"):
        values[f"polish.{factor}"] = f"{polish[factor]}x" if polish.get(factor, 1) in (2, 3, 4) else ""
    values |= {"polish.steady": polish.get("steady") or 0, "polish.loop": polish.get("loop") or ""}
    values |= {"polish.speed": polish.get("speed") or 1, "polish.rate": "", "polish.text": polish.get("text") or ""}
    values["polish.trim"] = f"{polish['trim'][0]}:{polish['trim'][1]}f" if polish.get("trim") else ""
    if values.get("container") not in FILMS + PICTURES:
        values.pop("container", None)
    # A Plan contains the hash of the sound file, not the file.
    values["audio"] = NO_AUDIO if plan.get("audio") == NO_AUDIO else ""
    values |= {"audio_fit": plan.get("audio_fit") or "", "audio_fade": plan.get("audio_fade") or 0}
    values["quality"] = "" if plan.get("quality") is None else str(plan["quality"])
    return {name: value for name, value in values.items() if name in fields}
