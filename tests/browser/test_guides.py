"""The inputs that guide a film, in a browser: which are shown, what is sent, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from tests.browser import chromium
from tests.browser.chromium import FILM, PATIENCE, Seen, jobs
from tests.browser.test_studio import VIDEO
from tests.contract.cases import CASES
from tests.server.working import png

from flickbook.media.clip import Clip

pytestmark = pytest.mark.slow
#: The tiny models: what the catalogue calls them, the function that builds them, and what they need.
TINY = (("Tiny VACE", "wan_vace", ()), ("Tiny edges", "ad_control", ("control_video",)))


@pytest.fixture(scope="module")
def url(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A studio with two tiny models that take more than a picture."""
    place = tmp_path_factory.mktemp("studio")
    models = []
    for title, build, needs in TINY:
        case = next(each for each in CASES if each.build == build)
        case.save(place / build)
        named = {"name": title.lower().replace(" ", "-"), "title": title, "needs": needs}
        models.append(case.model(place / build).model_copy(update=named).model_dump(mode="json"))
    (place / "flickbook").mkdir()
    (place / "flickbook" / "models.json").write_text(json.dumps(models))
    with chromium.studio(place) as found:
        yield found


@pytest.fixture
def dance(tmp_path: Path) -> Path:
    """A film of a moving square."""
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[20:40, 4 * number : 4 * number + 20] = 255
    return Clip(frames, 8.0).save(tmp_path / "dance.mp4")


def choose(seen: Seen, title: str) -> None:
    """Select a model on the tab of films."""
    box = seen.page.get_by_label("Model", exact=True).first
    box.click()
    box.fill(title)
    seen.page.get_by_role("option", name=title).first.click()
    frames = "16" if title == "Flickbook built-in" else "5"
    expect(seen.page.get_by_label("number input for Frames").first).to_have_value(frames, timeout=PATIENCE * 1000)


def shown(seen: Seen) -> list[str]:
    """The inputs that are shown."""
    return [str(each.get_attribute("data-name")) for each in seen.page.locator(".fb-guide:visible").all()]


def take(seen: Seen, name: str, *files: Path) -> None:
    """Choose files for an input."""
    seen.page.locator(f".fb-guide[data-name={name}] input[type=file]").set_input_files(list(files))


def test_a_model_shows_its_inputs_and_they_guide_the_film(seen: Seen, dance: Path, tmp_path: Path) -> None:
    pictures = [tmp_path / f"{name}.png" for name in ("ada", "can", "noon")]
    for number, path in enumerate(pictures):
        path.write_bytes(png() + bytes(number))  # equal pictures in files of their own
    assert shown(seen) == []
    choose(seen, "Tiny VACE")
    seen.page.locator(".fb-guide[data-name=mask]").wait_for()
    assert shown(seen) == ["last_image", "conditions", "reference_images", "control_video", "mask"]
    take(seen, "reference_images", *pictures[:2])
    take(seen, "conditions", pictures[2])
    take(seen, "last_image", pictures[2])
    take(seen, "control_video", dance)
    take(seen, "mask", pictures[0])
    seen.page.get_by_label("kind of the control video").select_option("edges")
    seen.page.get_by_label("Prompt", exact=True).first.fill(FILM)
    seen.press("Make the film")
    seen.page.get_by_text("noon.png has no frame").wait_for()
    seen.page.get_by_label("frame of noon.png").fill("2")
    seen.press("Make the film")
    seen.page.get_by_text("Mask given-mask.png: has no effect without a video; add the film to start from").wait_for()
    seen.expected = ("400",)
    seen.page.locator(".fb-guide[data-name=mask]").get_by_role("button", name="remove ada.png").click()
    seen.press("Make the film")
    seen.page.wait_for_selector(VIDEO)
    plan = jobs(seen.url)[0]["plan"]
    assert (len(plan["reference_images"]), len(plan["control_video"]), plan["control"]) == (2, 64, "edges")
    assert len(plan["last_image"]) == 64
    assert [each["frame"] for each in plan["conditions"]] == [2] and not plan.get("mask")
    # Drafts have them too, and another model has none of them.
    seen.press("Eight drafts")
    seen.page.wait_for_function("() => document.querySelectorAll('.fb-draft:not([disabled])').length === 8")
    assert {draft["plan"]["control_video"] for draft in jobs(seen.url, kind="draft")} == {plan["control_video"]}
    choose(seen, "Flickbook built-in")
    seen.page.locator(".fb-guide[data-name=control_video]").wait_for(state="hidden")
    assert shown(seen) == []


def test_a_model_says_what_it_needs(seen: Seen, dance: Path) -> None:
    choose(seen, "Tiny edges")
    seen.page.get_by_text("Control video, which this model needs").wait_for()
    seen.page.get_by_label("Prompt", exact=True).first.fill(FILM)
    # The notes on the prompt, which a pause of the typist requests, must not ask for an estimate that is refused.
    seen.page.evaluate(
        "([prompt, model]) => document.querySelector('flickbook-notes').look(prompt, model)", [FILM, "tiny-edges"]
    )
    seen.press("Make the film")
    seen.page.get_by_text("Control video: Tiny edges needs one; choose a file").wait_for()
    take(seen, "control_video", dance)
    seen.press("Make the film")
    seen.page.wait_for_selector(VIDEO)
    assert len(jobs(seen.url)[0]["plan"]["control_video"]) == 64


@pytest.mark.parametrize("width", [390, 1440])
def test_the_inputs_fit_the_page(browser: Browser, url: str, dance: Path, tmp_path: Path, width: int) -> None:
    (tmp_path / "ada.png").write_bytes(png())
    context = browser.new_context(viewport={"width": width, "height": 1000})
    seen = Seen.at(context.new_page(), url)
    choose(seen, "Tiny VACE")
    take(seen, "control_video", dance)
    take(seen, "conditions", tmp_path / "ada.png")
    seen.page.get_by_label("kind of the control video").scroll_into_view_if_needed()
    for each in seen.page.locator(".fb-guide:visible, .fb-guide:visible *").all():
        place = each.bounding_box()
        assert place is None or (place["x"] >= 0 and place["x"] + place["width"] <= width)
    context.close()
    assert seen.faults() == []
