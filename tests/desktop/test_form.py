"""The fields: their limits are the model's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flickbook import catalogue
from flickbook.desktop.form import Form
from flickbook.desktop.sources.source import Offer
from flickbook.desktop.widgets.theme import Theme
from flickbook.errors import RequestError
from flickbook.resolution import resolve
from flickbook.spec import Request

OFFERS = [Offer(model, model.name == "builtin") for model in catalogue.list_models()]


@pytest.fixture
def form(root: Any) -> Form:
    made: list[int] = []
    found = Form(root, Theme(root), lambda: made.append(1))
    found.pack(fill="both", expand=True)
    found.offer(OFFERS, "builtin")
    found.made = made  # type: ignore[attr-defined]
    root.update()
    return found


def choose(form: Form, name: str) -> None:
    form.fields["model"].current([offer.model.name for offer in form._listed].index(name))
    form.fields["model"].event_generate("<<ComboboxSelected>>")
    form.update()


@pytest.mark.slow
def test_what_is_left_alone_is_the_models_choice(form: Form) -> None:
    form.say("a red circle moving left")
    plan = resolve(form.request().model_copy(update={"seed": 1}))
    assert plan == resolve(Request.of(prompt="a red circle moving left", seed=1))


def test_another_model_brings_its_own_limits_and_defaults(form: Form) -> None:
    for name in ("text-to-video-ms-1.7b", "zeroscope-v2-576w"):
        choose(form, name)
        model = catalogue.find(name)
        assert form.fields["num_inference_steps"].get() == str(model.num_inference_steps.default)
        assert form.fields["guidance_scale"].get() == f"{model.guidance_scale.default:g}"
        smallest, largest = model.num_frames.range
        assert form._labels["num_frames"].cget("text").endswith(f" s) {max(2, smallest)}–{largest}")
        width, height = model.sizes[0]
        form.say("a panda")
        assert (form.request().width, form.request().height) == (width, height)


@pytest.mark.slow
def test_every_model_that_is_offered_takes_what_the_form_says(form: Form, tmp_path: Path) -> None:
    """A film or a picture from words, or from a picture: what the form fills in is refused by no model."""
    form.say("a panda")
    Image.new("RGB", (64, 64)).save(tmp_path / "first.png")
    form.inputs._ask = lambda several: [str(tmp_path / "first.png")]
    for picture in (False, True):
        form.picture.set(picture)
        form._kind()
        assert form._listed and form._listed[0].here
        for offer in form._listed:
            choose(form, offer.model.name)
            form.inputs.clear()
            for name in {"image" if "text" not in offer.model.inputs else "", *offer.model.needs} - {""}:
                form.inputs.choose[name].invoke()
            plan = resolve(form.request())
            assert plan.model == offer.model.name and (plan.num_frames == 1) is picture


def test_a_model_shows_the_pictures_that_it_reads(form: Form) -> None:
    form.say("a bird")
    form.inputs._ask = lambda several: ["/films/ada.png", "/films/can.png"] if several else ["/films/first.png"]
    mapped = lambda: [name for name, row in form.inputs.rows.items() if row.winfo_manager()]  # noqa: E731
    assert mapped() == ["image"] and form.request().image is None
    choose(form, "wan-2.1-vace-1.3b")
    assert mapped() == ["image", "last_image", "reference_images"]
    for name in ("image", "last_image", "reference_images"):
        form.inputs.choose[name].invoke()
    form.inputs.choose["reference_images"].invoke()
    request = form.request()
    assert (request.image, request.last_image) == ("/films/first.png", "/films/first.png")
    assert request.reference_images == ("/films/ada.png", "/films/can.png") * 2
    form.inputs.remove["last_image"].invoke()
    assert form.request().last_image is None
    choose(form, "wan-2.1-1.3b")
    assert mapped() == [] and form.request().image is None, "what a model does not read is not sent"
    choose(form, "wan-2.1-i2v-14b")
    form.inputs.clear()
    with pytest.raises(RequestError, match="image=: Wan 2.1 I2V 14B 480P starts from one; choose a picture"):
        form.request()


def test_a_picture_asks_for_no_frames(form: Form) -> None:
    form.fields["picture"].invoke()
    form.say("a red circle")
    assert form.request().num_frames == 1 and not form.fields["num_frames"].winfo_ismapped()
    form.fields["film"].invoke()
    form.update()
    assert form.request().num_frames == 16 and form.fields["num_frames"].winfo_ismapped()


def test_what_is_no_number_or_no_size_is_refused(form: Form) -> None:
    form.say("a panda")
    choose(form, "text-to-video-ms-1.7b")
    for field, text in (("num_inference_steps", "2.5"), ("guidance_scale", "much"), ("seed", "x"), ("size", "wide")):
        before = form.fields[field].get()
        form.fields[field].set(text) if field != "seed" else form.fields[field].insert(0, text)
        with pytest.raises(RequestError, match=f"^{field}={text}: ") as caught:
            form.request()
        form.blame(caught.value.field)
        assert str(form._labels[field].cget("style")) == "SoftFault.TLabel"
        form.update()
        assert form.fields[field].winfo_ismapped()
        form.fields[field].set(before) if field != "seed" else form.fields[field].delete(0, "end")
    form.fields["size"].set("320x192")
    assert (form.request().width, form.request().height) == (320, 192)


def test_a_plan_comes_back_as_it_was(form: Form) -> None:
    requested = Request.of(
        prompt="a green square", model="text-to-video-ms-1.7b", num_frames=24, num_inference_steps=9, seed=2**40,
        guidance_scale=7.25, fps=12.5, width=320, height=192, scheduler="unipc", negative_prompt="green",
    )  # fmt: skip
    plan = resolve(requested)
    assert form.fill(plan) == ""
    assert resolve(form.request()) == plan
    lora = plan.model_copy(update={"prompt_at": ((8, "a blue square"),)})
    assert form.fill(lora) == "later prompts"
    with pytest.raises(RequestError, match="model=gone: is not available here"):
        form.fill(plan.model_copy(update={"model": "gone"}))


def test_the_recommended_settings_are_shown_and_filled_in(form: Form) -> None:
    form.offer([Offer(catalogue.find("text-to-video-ms-1.7b"), True)], "")
    form.fields["guidance_scale"].set("2")
    form._recommend()
    request = form.request()
    assert (request.guidance_scale, request.num_inference_steps) == (9.0, 25)
    assert request.negative_prompt == "blurry, low quality, distorted, artifacts, flicker, jitter"
    assert "25 steps, guidance 9" in str(form._advice.cget("text"))


def test_return_makes_it_and_tab_goes_on(form: Form, root: Any) -> None:
    root.focus_force()
    form.prompt.focus_force()
    root.update()
    form.prompt.event_generate("<Return>")
    form.fields["seed"].focus_force()
    form.fields["seed"].event_generate("<Return>")
    assert form.made == [1, 1]  # type: ignore[attr-defined]
    assert form.words == ""
    order, widget = [], form.prompt
    for _ in range(6):
        widget = widget.tk_focusNext()  # type: ignore[assignment]
        order.append(next((name for name, field in form.fields.items() if field == widget), ""))
    assert order[:5] == ["model", "num_frames", "num_inference_steps", "size", "seed"]


def test_the_duration_stands_beside_the_frames(form: Form) -> None:
    assert form._labels["num_frames"].cget("text") == "Frames (2.0 s) 2–256"
    form.fields["num_frames"].set("24")
    assert form._labels["num_frames"].cget("text") == "Frames (3.0 s) 2–256"
    form.fields["fps"].set("12")
    assert form._labels["num_frames"].cget("text") == "Frames (2.0 s) 2–256"
    form.fields["num_frames"].set("")
    assert form._labels["num_frames"].cget("text") == "Frames 2–256"
