"""The studio's page: tabs and forms. The modules in `static` draw everything that updates.

Gradio lays out the forms and applies a model's limits. The running job, the queue and the gallery are custom elements,
`<flickbook-…>`, which call `/api/v1` like any other client. Closing a tab or losing the connection therefore changes
nothing.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any, Final

import gradio as gr

from flickbook import catalogue
from flickbook.server.access.dependencies import Guard
from flickbook.server.service import Service
from flickbook.web import form
from flickbook.web.endpoint import endpoint
from flickbook.web.form import Fields
from flickbook.web.login import ABOUT, PATH
from flickbook.web.theme import theme

_HEAD: Final = f"""<link rel="stylesheet" href="{PATH}/own/studio.css">
<link rel="stylesheet" href="{PATH}/own/shots/timeline.css">
<script type="module" src="{PATH}/own/studio.js"></script>
<link rel="icon" href="{PATH}/own/icon.svg">
<meta name="color-scheme" content="light dark">"""
_HEADER: Final = f"""<header class="fb-header"><h1>Flickbook</h1><p>{ABOUT}</p>
<flickbook-line></flickbook-line><flickbook-leave></flickbook-leave></header>"""
_PROMPT: Final = "a red circle moving left on a blue background"


def page(service: Service, guard: Guard) -> tuple[gr.Blocks, dict[str, Any]]:
    """Return the page and its theme and head for mounting."""
    model = service.settings.model
    with gr.Blocks(title="Flickbook studio", analytics_enabled=False) as blocks:
        _own(_HEADER)
        with gr.Tabs(elem_id="fb-tabs"):
            with gr.Tab("Film", id="film"):
                film = _film(model)
            with gr.Tab("Picture", id="picture"):
                picture = _picture(model)
            with gr.Tab("Sequence", id="sequence"):
                sequence = _sequence(model)
            with gr.Tab("Shots", id="shots"):
                _shots(model)
            with gr.Tab("Batch", id="batch"):
                _batch()
            with gr.Tab("Tune", id="tune"):
                _tune()
            with gr.Tab("Gallery", id="gallery"):
                _own("<flickbook-gallery></flickbook-gallery>")
            with gr.Tab("Models", id="models"):
                _own("<flickbook-models></flickbook-models>")
        _bridge("film", film)
        _bridge("picture", picture)
        _bridge("sequence", sequence)
        endpoint(service, guard)
    # Its events only read jobs and forms; the computation runs in workers.
    blocks.queue(default_concurrency_limit=64, api_open=True)
    return blocks, {"theme": theme(), "head": _HEAD}


def _own(text: str) -> gr.HTML:
    """Return custom elements with their own styles."""
    return gr.HTML(text, padding=False, apply_default_css=False, elem_classes="fb-own")


def _stage() -> None:
    _own("<flickbook-stage></flickbook-stage>")
    _own("<flickbook-queue></flickbook-queue>")


def _labels(fields: Fields) -> str:
    """Return the labels of fields by name, as JSON for errors."""
    return json.dumps({name: each.label.partition(" (")[0].partition(",")[0] for name, each in fields.items()})


def _sent(button: gr.Button, what: str, fields: Fields) -> None:
    """Make a button send the values of a form, from the browser."""
    words = f"(...values) => window.flickbook.send({json.dumps(what)}, {_labels(fields)}, values)"
    button.click(None, list(fields.values()), fields.get("seed"), js=words, api_visibility="private")


def _notes(what: str, prompt: gr.Textbox, model: gr.Dropdown) -> None:
    """Request notes on a prompt from the browser, while it is typed and when the model changes."""
    words = f"(prompt, model) => window.flickbook.note({json.dumps(what)}, prompt, model)"
    for each in (prompt, model):
        each.change(None, [prompt, model], None, js=words, api_visibility="private")


def _follows(fields: Fields, hint: gr.Markdown, recommend: gr.Button, examples: gr.HTML | None = None) -> None:
    """Apply the limits of the selected model to a form, and fill in its recommended settings on request."""
    components: Fields = fields | {"hint": hint}
    outputs = [components[name] for name in form.ranges(catalogue.find("builtin")) if name in components]

    def change(name: str) -> dict[Any, Any]:
        changes = form.changed(name, components)
        return changes if examples is None else changes | {examples: _examples(name)}

    changed = outputs if examples is None else [*outputs, examples]
    quiet: Fields = {"show_progress": "hidden", "api_visibility": "private"}
    fields["model"].change(change, fields["model"], changed, **quiet)
    filled = list(form.recommended("builtin", fields))
    recommend.click(lambda name: form.recommended(name, fields), fields["model"], filled, **quiet)


def _examples(name: str) -> str:
    words = " | ".join(json.dumps(each) for each in catalogue.find(name).examples)
    return f"<flickbook-examples prompts='{html.escape(words)}'></flickbook-examples>" if words else ""


def _film(usual: str) -> Fields:
    choices = form.film_models()
    found = catalogue.find(form.chosen(choices, usual))
    with gr.Row(elem_classes="fb-desk"):
        with gr.Column(scale=5, min_width=280):
            prompt = form.prompt_box(_PROMPT)
            examples = _own(_examples(found.name))
            with gr.Row(elem_classes="fb-go"):
                go = gr.Button("Make the film", variant="primary", elem_id="fb-make", scale=2)
                drafts = gr.Button("Eight drafts", elem_id="fb-drafts", scale=1)
            _own('<flickbook-refusal for="film"></flickbook-refusal>')
            _own('<flickbook-notes for="film"></flickbook-notes>')
            model = form.model_box(choices, usual)
            fields: Fields = {"prompt": prompt, "model": model}
            fields |= form.numbers(found) | form.seed()
            _own('<flickbook-begin for="film"></flickbook-begin>')
            _own(f'<flickbook-guides for="film" model="{html.escape(found.name)}"></flickbook-guides>')
            words = "(model) => window.flickbook.guided('film', model)"
            model.change(None, model, None, js=words, api_visibility="private")
            fields["strength"] = gr.Slider(
                label="Strength",
                info="How much of the picture or film changes",
                elem_classes="fb-strength",
                **form.ranges(found)["strength"],
            )
            with gr.Accordion("More settings", open=False):
                hint = gr.Markdown(form.ranges(found)["hint"]["value"])
                recommend = gr.Button("Use the recommended settings", size="sm")
                fields |= form.along() | form.details(found)
            with gr.Accordion("Finishing", open=False):
                fields |= form.finishing()
            with gr.Accordion("Sound", open=False):
                _own('<flickbook-sound for="film"></flickbook-sound>')
                fields |= form.sound()
        with gr.Column(scale=7, min_width=280):
            _own("<flickbook-drafts></flickbook-drafts>")
            _stage()
    _follows(fields, hint, recommend, examples)
    _notes("film", prompt, model)
    timed = [fields["num_frames"], fields["fps"]]
    words = "(frames, fps) => window.flickbook.timed(frames, fps)"
    for each in timed:
        each.change(None, timed, timed[0], js=words, api_visibility="private")
    _sent(go, "film", fields)
    _sent(drafts, "drafts", fields)
    return fields


def _picture(usual: str) -> Fields:
    with gr.Row(elem_classes="fb-desk"):
        with gr.Column(scale=5, min_width=280):
            prompt = form.prompt_box("a peaceful sunset over mountain ranges")
            _own('<flickbook-notes for="picture"></flickbook-notes>')
            model = form.model_box(form.picture_models(), usual)
            found = catalogue.find(str(model.value))
            fields: Fields = {"prompt": prompt, "model": model} | form.numbers(found, film=False) | form.seed()
            _own('<flickbook-begin for="picture"></flickbook-begin>')
            go = gr.Button("Make the picture", variant="primary")
            _own('<flickbook-refusal for="picture"></flickbook-refusal>')
            with gr.Accordion("More settings", open=False):
                hint = gr.Markdown(form.ranges(found)["hint"]["value"])
                recommend = gr.Button("Use the recommended settings", size="sm")
                fields |= form.details(found, film=False)
        with gr.Column(scale=7, min_width=280):
            _stage()
    _follows(fields, hint, recommend)
    _notes("picture", prompt, model)
    _sent(go, "picture", fields)
    return fields


def _sequence(usual: str) -> Fields:
    with gr.Row(elem_classes="fb-desk"):
        with gr.Column(scale=5, min_width=280):
            gr.Markdown("A film through several prompts; each prompt blends into the next.")
            prompts = gr.Textbox(
                label="Prompts, one per line",
                lines=4,
                max_lines=16,
                placeholder="a large red circle on a blue background\na large blue square on a white background",
            )
            _own('<flickbook-notes for="sequence"></flickbook-notes>')
            model = form.model_box(form.picture_models(), usual)
            found = catalogue.find(str(model.value))
            fields: Fields = {"prompts": prompts, "model": model}
            fields["frames_per"] = gr.Slider(1, 240, value=24, step=1, precision=0, label="Frames per prompt")
            fields |= form.numbers(found, film=False) | form.seed()
            go = gr.Button("Make the sequence", variant="primary")
            _own('<flickbook-refusal for="sequence"></flickbook-refusal>')
            with gr.Accordion("More settings", open=False):
                hint = gr.Markdown(form.ranges(found)["hint"]["value"])
                recommend = gr.Button("Use the recommended settings", size="sm")
                fields["drift"] = gr.Slider(
                    0, 1, value=0.3, step=0.05, label="Drift", info="How far things move between prompts"
                )
                fields["feedback"] = gr.Slider(
                    0,
                    1,
                    value=0,
                    step=0.05,
                    label="Feedback",
                    info="How much each frame is redrawn over the one before; 0 is off",
                )
                more = form.details(found)
                fields |= {name: each for name, each in more.items() if name != "loras"}
        with gr.Column(scale=7, min_width=280):
            _stage()
    _follows(fields, hint, recommend)
    _notes("sequence", prompts, model)
    _sent(go, "sequence", fields)
    return fields


def _shots(usual: str) -> None:
    named = html.escape(usual)
    _own(f'<flickbook-timeline model="{named}"></flickbook-timeline>')
    with gr.Row(elem_classes="fb-desk"):
        with gr.Column(scale=5, min_width=280):
            _own(f'<flickbook-shot model="{named}"></flickbook-shot>')
        with gr.Column(scale=7, min_width=280):
            _stage()


def _batch() -> None:
    with gr.Row(elem_classes="fb-desk"):
        with gr.Column(scale=5, min_width=280):
            gr.Markdown(
                "One film per row. Each row needs a `prompt`; other columns are fields of a film, such as "
                "`seed`, `num_frames` and `model`."
            )
            rows = gr.Textbox(
                label="Rows: CSV with a header line, or one JSON object per line",
                lines=8,
                max_lines=24,
                placeholder='prompt,seed\n"a red circle moving left on a blue background",7',
            )
            _own("<flickbook-rows></flickbook-rows>")
            go = gr.Button("Make the films", variant="primary")
            _own('<flickbook-refusal for="batch"></flickbook-refusal>')
        with gr.Column(scale=7, min_width=280):
            _stage()
    _sent(go, "batch", {"rows": rows})


def _tune() -> None:
    with gr.Row(elem_classes="fb-desk"):
        with gr.Column(scale=5, min_width=280):
            gr.Markdown("Teach a model a style, a subject or a motion from clips of your own.")
            _own("<flickbook-clips></flickbook-clips>")
            fields = form.training()
            with gr.Row(elem_classes="fb-go"):
                go = gr.Button("Tune", variant="primary", scale=2)
                check = gr.Button("Check", scale=1)
            _own('<flickbook-refusal for="tune"></flickbook-refusal>')
            _own("<flickbook-report></flickbook-report>")
            with gr.Accordion("More settings", open=False):
                fields |= form.training_details()
        with gr.Column(scale=7, min_width=280):
            _stage()
    _sent(go, "tune", fields)
    words = f"(...values) => window.flickbook.check({_labels(fields)}, values)"
    check.click(None, list(fields.values()), None, js=words, api_visibility="private")


def _bridge(name: str, fields: Fields) -> None:
    """Let the page fill a form with the values of a Plan: its script sets this component's value and triggers a
    change."""
    words = f"window.flickbook_fill_{name} = (text) => {{ props.value = text; trigger('change'); }};"
    bridge = gr.HTML("", html_template="<span hidden></span>", js_on_load=words, visible="hidden")
    outputs = list(fields.values())
    fill: Callable[[str], dict[Any, Any]] = lambda text: form.filled(json.loads(text or "{}"), fields)  # noqa: E731
    bridge.change(fill, bridge, outputs, show_progress="hidden", api_visibility="private")
