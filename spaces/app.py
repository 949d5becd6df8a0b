"""Flickbook as a Hugging Face Space: a prompt, previews while the film is denoised, and the film."""

from __future__ import annotations

import base64
import html
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.utils import is_zero_gpu_space
from making import MODELS, making, planned

from flickbook import formats
from flickbook.errors import FlickbookError
from flickbook.hub.fetch import fetch
from flickbook.jobs.eta import Pace, Past
from flickbook.media.clip import Clip
from flickbook.media.embedded import carried
from flickbook.media.sheet import contact_sheet
from flickbook.spec import Plan, Step

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
#: The most visitors in the queue; more are refused.
WAITING: Final = 8
PHASES: Final = {"load": "loading the model", "encode": "encoding the prompt", "decode": "decoding frames"}
#: Fields with limits: their labels, and the steps between their values.
SLIDERS: Final = {
    "num_frames": ("Frames", 1),
    "num_inference_steps": ("Steps: more take longer and give finer detail", 1),
    "guidance_scale": ("Guidance: how closely the film follows the prompt", 0.5),
    "fps": ("Frames per second", 1),
}
CSS: Final = """
#stage, #stage .html-container { padding: 0 !important }
#stage img, #stage div.hint { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 8px }
#stage div.hint { display: grid; place-items: center; background: var(--background-fill-secondary) }
#stage div.bar { height: 6px; margin-top: 12px; border-radius: 3px; background: var(--border-color-primary) }
#stage div.bar i { display: block; height: 100%; border-radius: 3px; background: var(--color-accent) }
#stage p { margin: 8px 0 0; color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums }
#film:not(:has(video)), #sheet:not(:has(img)) { display: none }
"""
#: Secondary text, with more contrast than in the theme.
QUIET: Final = {"body_text_color_subdued": "*neutral_600", "block_info_text_color": "*neutral_600"}
DARK: Final = {f"{name}_dark": "*neutral_300" for name in QUIET}
DOWN: Final = ["download"]
#: Timings of the films of this process, newest first, for the estimate of the next one.
past: list[Past] = []


def stage(said: str = "", picture: str = "", share: float | None = None) -> str:
    """HTML of the latest preview, the progress bar and a status line."""
    hint = '<div class="hint">Previews of the film appear here.</div>'
    shown = f'<img src="{picture}" alt="preview of the film">' if picture else hint
    bar = "" if share is None else f'<div class="bar"><i style="width:{share:.1%}"></i></div>'
    return f'{shown}{bar}<p role="status">{html.escape(said)}</p>'


def words(step: Step, left: float | None) -> str:
    """The progress of a run: "denoising, step 5 of 25, about 3 s left"."""
    if step.phase == "denoise" and left is None and step.index:
        left = step.seconds / step.index * (step.total - step.index)
    said = f"denoising, step {step.index} of {step.total}" if step.phase == "denoise" else PHASES.get(step.phase, "")
    return said if left is None else f"{said}, about {max(1, round(left))} s left"


def film(
    prompt: str,
    negative_prompt: str | None = None,
    model: str = "builtin",
    num_frames: int | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    fps: float | None = None,
    seed: int | None = None,
    draw_seed: bool = False,
) -> Iterator[tuple[Any, ...]]:
    """Make a film from a prompt; omitted fields take the model's defaults.

    Returns the stage's HTML, the film, its frames in a row, its recipe and its seed.
    """
    asked = {name: value for name, value in locals().items() if name != "draw_seed"}
    # JSON writes 16 or 16.0.
    whole = {name: int(value) for name, value in asked.items() if isinstance(value, float) and value.is_integer()}
    try:
        yield from made(*planned(asked | whole | ({"seed": None} if draw_seed else {})))
    except FlickbookError as error:
        # The page shows it as HTML.
        raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from None


def made(plan: Plan, run_options: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the outputs of `film` while it is made, and at the end those of the finished film."""
    model, picture, clip = MODELS[plan.model], "", None
    if model.repo:
        said = f"downloading {model.title}, {model.download_gb:g} GB, unless it is here already"
        yield stage(said), None, None, None, plan.seed
        fetch(model)
    warm = bool(past) and past[0].plan.model == plan.model and not is_zero_gpu_space()
    pace = Pace(plan, past, warm=warm)
    with closing(making(plan, run_options)) as told:
        for each in told:
            if isinstance(each, Clip):
                clip = each
                continue
            step, found = each
            picture = f"data:image/webp;base64,{base64.b64encode(found).decode()}" if found else picture
            share, left = pace.after(step)
            yield stage(words(step, left), picture, share), None, None, None, plan.seed
    assert clip is not None and clip.run is not None
    past[:] = [Past(plan, clip.run.seconds), *past[:39]]
    # Gradio serves its own copy.
    with tempfile.TemporaryDirectory() as folder:
        path = clip.save(Path(folder) / f"flickbook-{plan.seed}{formats.FORMS[plan.container].suffixes[0]}")
        recipe = json.loads(carried(path)[0].to_json())
        said = "; ".join([f"{sum(clip.run.seconds.values()):.1f} s, seed {plan.seed}", *clip.run.notes])
        moves = plan.task == "film"
        sheet = contact_sheet([clip.frames], [plan.prompt]) if moves else path
        yield f"<p>{html.escape(said)}</p>", path if moves else None, sheet, recipe, plan.seed


def looks(name: str) -> dict[str, dict[str, Any]]:
    """The properties of the page's fields for a model: its description, example prompts, limits and defaults."""
    model = MODELS[name]
    fetched = f" Its files are downloaded first, {model.download_gb:g} GB." if model.repo else ""
    found: dict[str, dict[str, Any]] = {
        "model": {"info": f"{model.summary}. Licence: {model.licence}.{fetched}"},
        "examples": {"samples": [[each] for each in model.examples]},
        "negative_prompt": {"value": model.negative_prompt},
    }
    for field, (_, step) in SLIDERS.items():
        limits = getattr(model, field)
        low, high = limits.range
        found[field] = {"minimum": low, "maximum": high, "value": limits.default, "interactive": low < high}
        found[field]["step"] = getattr(limits, "every", step)
    return found


def page() -> gr.Blocks:
    """The page: the fields of a film, and its previews and result."""
    name = next(iter(MODELS))
    look = looks(name)
    with gr.Blocks(title="Flickbook", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        gr.Markdown("# Flickbook\nShort films from text prompts. Each film carries the recipe to make it again.")
        with gr.Row():
            with gr.Column():
                prompt = gr.Textbox(MODELS["builtin"].examples[0], label="Prompt", lines=2)
                examples = gr.Dataset(components=[prompt], label="Examples", **look["examples"])
                titles = [(each.title, each.name) for each in MODELS.values()]
                model = gr.Dropdown(titles, value=name, label="Model", filterable=False, **look["model"])
                with gr.Row():
                    go = gr.Button("Make the film", variant="primary", min_width=120)
                    stop = gr.Button("Stop", min_width=120)
                with gr.Accordion("More", open=False):
                    negative = gr.Textbox(label="Negative prompt", **look["negative_prompt"])
                    sliders = [gr.Slider(label=label, **look[field]) for field, (label, _) in SLIDERS.items()]
                    seed = gr.Number(1, label="Seed: the same seed gives the same film", precision=0)
                    draw = gr.Checkbox(True, label="Random seed each time")
            with gr.Column():
                video = gr.Video(label="Film", show_label=False, elem_id="film", autoplay=True, loop=True, buttons=DOWN)
                shown = gr.HTML(stage(), label="Stage", elem_id="stage")
                sheet = gr.Image(label="Frames", show_label=False, elem_id="sheet", buttons=[*DOWN, "fullscreen"])
                with gr.Accordion("Recipe", open=False):
                    recipe = gr.JSON(label="Recipe", show_label=False)
        # Values are not preprocessed, so that the error of the library names the limits.
        asked = [prompt, negative, model, *sliders, seed, draw]
        how: Any = {"show_progress": "minimal", "show_progress_on": shown, "scroll_to_output": True}
        seen = [shown, video, sheet, recipe, seed]
        run = gr.on([go.click, prompt.submit], film, asked, seen, preprocess=False, **how)
        own: Any = {"api_visibility": "private", "show_progress": "hidden"}
        stop.click(lambda: stage("Stopped."), None, shown, cancels=[run], **own)
        changed = [model, examples, negative, *sliders]
        model.change(lambda of: [gr.update(**each) for each in looks(of).values()], model, changed, **own)
        examples.click(lambda row: row[0], examples, prompt, **own)
    return blocks.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)


if __name__ == "__main__":
    fonts: Any = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    theme = gr.themes.Default(primary_hue="indigo", **fonts).set(**QUIET, **DARK)
    page().launch(theme=theme, css=CSS, run_history=False, ssr_mode=False, footer_links=["api", "gradio"])
