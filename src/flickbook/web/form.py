"""The forms of the studio: a component for each field, within the limits of the model that is chosen.

Each component stands for the field of its name in the body of `/api/v1/jobs`; those of a Polish are called
"polish.…". What they hold is read by the page itself, and sent as anybody else would send it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import gradio as gr

from flickbook import catalogue
from flickbook.catalogue import Model
from flickbook.resolution import PROMPT_CHARACTERS

FILMS: Final = ("mp4", "webm", "mkv", "gif", "webp", "apng")
PICTURES: Final = ("png", "jpg", "webp", "avif")
PRECISIONS: Final = ("auto", "fp32", "bf16", "fp16", "fp8", "int8")
CODECS: Final = ("h264", "h265", "av1", "vp9", "ffv1")
LOOPS: Final = ("pingpong", "blend", "cut")
Fields = dict[str, Any]


def film_models() -> list[tuple[str, str]]:
    """The models of films, as a Dropdown names them."""
    return [(each.title, each.name) for each in catalogue.list_models() if each.num_frames.range[1] > 1]


def picture_models() -> list[tuple[str, str]]:
    """The models that make a single picture of words; those that make nothing else come first."""
    able = [each for each in catalogue.list_models() if each.num_frames.range[0] == 1 and "text" in each.inputs]
    able.sort(key=lambda each: (each.name != "builtin", each.num_frames.range[1] > 1))
    return [(each.title, each.name) for each in able]


def sizes(model: Model) -> list[str]:
    """The sizes that a model is best at, and, where it can, those of half and one and a half times."""
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
    """What each component that depends on the model is told: its limits, its choices, and the model's own value."""
    frames, steps, guidance, fps = model.num_frames, model.num_inference_steps, model.guidance_scale, model.fps
    strength = model.strength
    usual = f"The model's own: {model.negative_prompt}" if model.negative_prompt else "What it should not show"
    return {
        "num_frames": {
            "minimum": max(2, frames.range[0]),
            "maximum": frames.range[1],
            "step": frames.every,
            "value": frames.default,
        },
        "num_inference_steps": {"minimum": steps.range[0], "maximum": steps.range[1], "value": steps.default},
        "guidance_scale": {"minimum": guidance.range[0], "maximum": guidance.range[1], "value": guidance.default},
        "fps": {"minimum": fps.range[0], "maximum": fps.range[1], "value": fps.default},
        "size": {"choices": sizes(model), "value": sizes(model)[0]},
        "scheduler": {"choices": list(model.schedulers), "value": model.schedulers[0]},
        "negative_prompt": {"placeholder": usual},
        "strength": {
            "visible": strength is not None,
            "minimum": strength.range[0] if strength else 0.05,
            "maximum": strength.range[1] if strength else 1.0,
            "value": strength.default if strength else 0.8,
        },
        "hint": {"value": f"{model.good_at}. {model.faults}."},
    }


def model_box(choices: list[tuple[str, str]], value: str) -> gr.Dropdown:
    """Which model."""
    known = value if value in [name for _, name in choices] else choices[0][1]
    return gr.Dropdown(choices, value=known, label="Model", filterable=True)


def prompt_box(label: str, placeholder: str, lines: int = 2) -> gr.Textbox:
    """What it shows."""
    return gr.Textbox(label=label, placeholder=placeholder, lines=lines, max_lines=8, max_length=PROMPT_CHARACTERS)


def numbers(model: Model, film: bool = True) -> Fields:
    """The sliders that most people look at."""
    told, found = ranges(model), dict[str, Any]()
    if film:
        found["num_frames"] = gr.Slider(label="Frames", precision=0, **told["num_frames"])
    found["num_inference_steps"] = gr.Slider(label="Steps", step=1, precision=0, **told["num_inference_steps"])
    return found


def seed() -> Fields:
    """The seed, its dice, and its lock."""
    with gr.Row(equal_height=True, elem_classes="fb-seed"):
        number = gr.Textbox(label="Seed", placeholder="drawn anew for each film", max_lines=1, max_length=20, scale=4)
        dice = gr.Button("Roll", size="sm", scale=1, min_width=64, elem_classes="fb-dice")
        lock = gr.Checkbox(label="Keep it", scale=2, min_width=110, elem_classes="fb-lock")
    draw = f"() => String(Math.floor(Math.random() * {2**32}))"
    dice.click(None, None, number, js=draw, api_visibility="private")
    return {"seed": number, "keep_seed": lock}


def details(model: Model, film: bool = True) -> Fields:
    """What is folded away: how the model works."""
    told = ranges(model)
    found: Fields = {
        "negative_prompt": gr.Textbox(label="Negative prompt", lines=1, max_lines=4, **told["negative_prompt"]),
        "guidance_scale": gr.Slider(
            label="Guidance", info="How closely to follow the prompt", step=0.1, **told["guidance_scale"]
        ),
    }
    if film:
        found["fps"] = gr.Slider(label="Frames a second", step=1, **told["fps"])
    found["size"] = gr.Dropdown(label="Size", allow_custom_value=True, **told["size"])
    found["scheduler"] = gr.Dropdown(label="Scheduler", **told["scheduler"])
    found["precision"] = gr.Dropdown(list(PRECISIONS), value="auto", label="Precision")
    found["loras"] = gr.Textbox(
        label="LoRAs", info="Names in the LoRA folder with their weights: ink:0.8, film-grain:0.5", placeholder="none"
    )
    found["container"] = gr.Dropdown(list(FILMS if film else PICTURES), value="mp4" if film else "png", label="Format")
    found["quality"] = gr.Slider(0, 100, value=75, step=1, label="Quality of the file")
    if film:
        found["codec"] = gr.Dropdown([("the format's own", ""), *CODECS], value="", label="Codec")
        found["pixel_format"] = gr.Dropdown(
            [("8 bits", ""), ("10 bits", "yuv420p10le")], value="", label="Colour depth"
        )
    return found


def along() -> Fields:
    """Other prompts from some frame on."""
    return {
        "prompt_at": gr.Textbox(
            label="Later prompts, one a line",
            info="From which frame on: 8: a blue square on a white background",
            placeholder="none",
            lines=2,
            max_lines=8,
        )
    }


def finishing() -> Fields:
    """What is done to the frames once they are made."""
    return {
        "polish.interpolate": gr.Dropdown(
            [("as they are", ""), ("2x", "2x"), ("3x", "3x"), ("4x", "4x")], value="", label="Frames in between"
        ),
        "polish.upscale": gr.Dropdown(
            [("as it is", ""), ("2x", "2x"), ("3x", "3x"), ("4x", "4x")], value="", label="Enlarge"
        ),
        "polish.steady": gr.Slider(0, 1, value=0, step=0.05, label="Steady the light"),
        "polish.loop": gr.Dropdown([("no loop", ""), *[(each, each) for each in LOOPS]], value="", label="Loop"),
        "polish.speed": gr.Slider(0.25, 4, value=1, step=0.05, label="Speed"),
        "polish.trim": gr.Textbox(
            label="Keep only", placeholder="all of it; 0.5:1.5 in seconds, 4:12f in frames", max_length=40
        ),
        "polish.rate": gr.Dropdown(
            [("as it is", ""), "12", "24", "30", "60"], value="", label="Frames a second, resampled"
        ),
        "polish.text": gr.Textbox(label="Text over the film", max_length=200),
    }


def changed(name: str, fields: Mapping[str, Any]) -> dict[Any, Any]:
    """What the components become when another model is chosen."""
    told = ranges(catalogue.find(name))
    return {fields[field]: gr.update(**said) for field, said in told.items() if field in fields}


def _trim(span: Any) -> str:
    return f"{span[0]}:{span[1]}f" if span else ""


def filled(plan: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[Any, Any]:
    """What the components become to hold a Plan's choices, as far as this machine knows its model."""
    model = next((each for each in catalogue.list_models() if each.name == plan.get("model")), None)
    told: dict[str, dict[str, Any]] = ranges(model) if model is not None else {}
    polish = plan.get("polish") or {}
    said: dict[str, Any] = {name: plan[name] for name in fields if plan.get(name) is not None}
    said["size"] = f"{plan.get('width')}x{plan.get('height')}"
    said["seed"], said["keep_seed"] = str(plan.get("seed", "")), True
    said["loras"] = ""  # their files are known by what is in them, and not by a name
    for factor in ("interpolate", "upscale"):
        said[f"polish.{factor}"] = f"{polish[factor]}x" if polish.get(factor, 1) in (2, 3, 4) else ""
    said["polish.steady"], said["polish.loop"] = polish.get("steady") or 0, polish.get("loop") or ""
    said["prompt_at"] = "\n".join(f"{frame}: {text}" for frame, text in plan.get("prompt_at") or ())
    said["codec"] = plan["codec"] if plan.get("codec") in CODECS else ""
    said["pixel_format"] = plan["pixel_format"] if plan.get("pixel_format") == "yuv420p10le" else ""
    said["polish.speed"] = polish.get("speed") or 1
    said["polish.rate"], said["polish.trim"] = "", _trim(polish.get("trim"))
    said["polish.text"] = polish.get("text") or ""
    if said.get("container") not in FILMS + PICTURES:
        said.pop("container", None)
    if not isinstance(said.get("quality"), int):
        said.pop("quality", None)
    if model is None:
        said.pop("model", None)
    names = [name for name in fields if name in told or name in said]
    return {
        fields[name]: gr.update(**told.get(name, {}), **({"value": said[name]} if name in said else {}))
        if name not in told or name not in said
        else gr.update(**{**told[name], "value": said[name]})
        for name in names
    }
