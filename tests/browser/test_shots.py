"""The timeline of the studio: a film is built shot by shot, by keys and by mouse, drafted, and made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, expect
from tests.browser.chromium import Seen, jobs, studio
from tests.browser.test_access import AXE, CLIPS, RUN
from tests.patience import PATIENCE, until

from flickbook.engine.shots.plan import shooting
from flickbook.engine.shots.shot_list import parsed
from flickbook.media.read import read_any

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE * 1000)
RED, STAR = "a red circle moving left on a blue background", "a small yellow star spinning on a black background"


def shots_of(seen: Seen) -> Locator:
    """The blocks of the timeline, on its tab."""
    if seen.page.get_by_role("tab", name="Shots").count():
        seen.tab("Shots")
    else:  # on a narrow page
        seen.page.get_by_label("More tabs").click()
        seen.page.locator(".overflow-dropdown button", has_text="Shots").click()
    found = seen.page.locator(".fb-shot")
    found.first.wait_for()
    return found


def field(seen: Seen, name: str) -> Locator:
    """A field of the selected shot."""
    return seen.page.locator("flickbook-shot").get_by_label(name, exact=True)


def write(seen: Seen, *prompts: str, seconds: str = "0.5", steps: str = "2") -> None:
    """Give the shots their prompts, a length and steps."""
    for place, prompt in enumerate(prompts):
        seen.page.locator(".fb-block").nth(place).click()
        field(seen, "Prompt").fill(prompt)
        field(seen, "Seconds").fill(seconds)
        field(seen, "Seconds").press("Tab")
    seen.page.locator("flickbook-defaults").get_by_label("Steps").fill(steps)


def words(blocks: Locator) -> list[str]:
    return [each.partition(": ")[2].partition(",")[0] for each in labels(blocks)]


def labels(blocks: Locator) -> list[str]:
    return [str(each.get_attribute("aria-label")) for each in blocks.locator(".fb-block").all()]


@pytest.fixture
def blocks(seen: Seen) -> Iterator[Locator]:
    """The timeline with two shots that have prompts."""
    found = shots_of(seen)
    write(seen, RED, STAR)
    yield found


def test_shots_are_added_moved_resized_and_removed_by_keys(seen: Seen, blocks: Locator) -> None:
    page = seen.page
    total = page.locator(".fb-total")
    expect(total).to_contain_text("2 shots, 1.0 s")
    edge = page.get_by_role("slider", name="length of shot 1")
    edge.focus()
    width = blocks.first.bounding_box()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(edge).to_have_attribute("aria-valuenow", "8")
    expect(edge).to_have_attribute("aria-valuetext", "1.0 s, 8 frames")
    expect(edge).to_be_focused()
    expect(total).to_contain_text("2 shots, 1.5 s 12 frames")
    wider = blocks.first.bounding_box()
    assert width and wider and wider["width"] == pytest.approx(2 * width["width"], rel=0.02)
    page.keyboard.press("Home")
    expect(edge).to_have_attribute("aria-valuetext", "0.3 s, 2 frames")
    page.keyboard.press("Control+z")
    expect(edge).to_have_attribute("aria-valuenow", "8")

    page.get_by_role("button", name="add a shot").press("Enter")
    expect(blocks).to_have_count(3)
    field(seen, "Prompt").fill("a peaceful sunset over mountain ranges")
    page.get_by_role("button", name="move left").press("Enter")
    assert words(blocks) == [RED, "a peaceful sunset over mountain ranges", STAR]
    page.get_by_role("button", name="move left").press("Enter")
    expect(page.get_by_role("button", name="move left")).to_be_disabled()
    assert words(blocks)[0] == "a peaceful sunset over mountain ranges"
    page.get_by_role("button", name="duplicate the shot").press("Enter")
    expect(blocks).to_have_count(4)
    page.get_by_role("button", name="delete the shot").press("Enter")
    page.get_by_role("button", name="delete the shot").press("Enter")
    assert len(words(blocks)) == 2
    page.locator(".fb-block").first.focus()
    page.keyboard.press("Control+z")
    expect(blocks).to_have_count(3)


def test_shots_are_moved_and_resized_by_mouse(seen: Seen, blocks: Locator) -> None:
    page, mouse = seen.page, seen.page.mouse
    first, second = (blocks.nth(place).bounding_box() for place in (0, 1))
    assert first and second
    y, x = first["y"] + 40, first["x"] + first["width"] / 2
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + 20, y, steps=3)
    mouse.move(x + second["width"] * 0.8, y, steps=6)
    mouse.up()
    assert words(blocks) == [STAR, RED]
    edge = page.get_by_role("slider", name="length of shot 2").bounding_box()
    assert edge
    x = edge["x"] + edge["width"] / 2
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + second["width"] / 2, y, steps=4)
    expect(blocks.nth(1).locator(".fb-length")).to_have_text("0.8 s, 6 frames")
    mouse.move(x + second["width"], y, steps=4)
    mouse.up()
    expect(page.get_by_role("slider", name="length of shot 2")).to_have_attribute("aria-valuenow", "8")
    expect(field(seen, "Seconds")).to_have_value("1")
    # Escape cancels a drag: nothing changes.
    box = blocks.nth(1).bounding_box()
    assert box
    mouse.move(box["x"] + 40, y)
    mouse.down()
    mouse.move(first["x"] + 5, y, steps=4)
    page.keyboard.press("Escape")
    mouse.up()
    assert words(blocks) == [STAR, RED]


def test_a_kept_draft_gives_its_seed_and_the_film_is_made_of_it(seen: Seen, blocks: Locator) -> None:
    page = seen.page
    page.locator("flickbook-defaults").get_by_label("Steps").fill("16")  # fewer give no frame to begin from
    field(seen, "Begins").select_option("previous")
    seen.press("Make 3 drafts")
    refusal = page.locator('flickbook-refusal[for="shot"]')
    expect(refusal).to_contain_text("keep one first")
    blocks.nth(0).locator(".fb-block").click()
    for place in (0, 1):
        blocks.nth(place).locator(".fb-block").click()
        seen.press("Make 3 drafts")
        ready = page.locator("flickbook-takes .fb-draft:not([disabled])")
        expect(ready).to_have_count(3)
        page.wait_for_function("() => document.querySelectorAll('flickbook-takes img').length === 3")
        ready.nth(1).click()
        expect(ready.nth(1)).to_have_attribute("aria-pressed", "true")
        expect(blocks.nth(place).locator(".fb-strip i").first).to_be_visible()
    drafts = {job["seed"]: job for job in jobs(seen.url, kind="draft")}
    seeds = [int(each["seed"]) for each in saved(page)["shots"]]
    assert len(drafts) >= 6 and set(seeds) <= set(drafts)
    assert [bool(drafts[seed]["plan"]["image"]) for seed in seeds] == [False, True]

    page.locator("flickbook-timeline").get_by_role("button", name="Make the film").click()
    page.locator("flickbook-stage video:visible").wait_for()
    film = jobs(seen.url, kind="shots")[0]
    assert film["state"] == "completed" and film["plan"]["num_frames"] == 7
    assert [shot["plan"]["seed"] for shot in film["plan"]["shots"]] == seeds
    assert [shot["begins"] for shot in film["plan"]["shots"]] == ["", "previous"]
    assert {shot["plan"]["num_inference_steps"] for shot in film["plan"]["shots"]} == {16}
    page.locator(".fb-playhead:not([hidden])").wait_for(state="attached")
    # The drafts of shots are not among those of the tab Film, but the film is in the gallery.
    expect(page.locator("flickbook-drafts .fb-draft")).to_have_count(0)
    seen.tab("Gallery")
    expect(page.get_by_role("button", name=RED[:20]).first).to_be_visible()
    # The settings of the film fill the timeline.
    seen.tab("Shots")
    page.once("dialog", lambda dialog: dialog.accept())
    seen.press("New")
    assert set(words(blocks)) == {"no prompt yet"}
    seen.more()
    seen.press("Use these settings")
    expect(blocks.first.locator(".fb-block")).to_have_attribute("aria-label", f"shot 1: {RED}, 0.5 s")
    assert [int(each["seed"]) for each in saved(page)["shots"]] == seeds


def saved(page: Any) -> dict[str, Any]:
    """The list that the browser keeps."""
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    found: dict[str, Any] = json.loads(page.evaluate("localStorage.getItem('flickbook-shots')"))
    return found


def test_a_refusal_stands_beside_the_shot_that_it_names(seen: Seen, blocks: Locator) -> None:
    page = seen.page
    refusal = page.locator('flickbook-refusal[for="shot"]')
    make = page.locator("flickbook-timeline").get_by_role("button", name="Make the film")
    seen.expected = ("400",)
    field(seen, "Prompt").fill("")
    blocks.first.locator(".fb-block").click()
    expect(field(seen, "Prompt")).to_have_value(RED)
    make.click()
    expect(refusal).to_contain_text("Prompt: is empty")
    expect(page.get_by_role("heading", name="Shot 2 of 2")).to_be_visible()
    expect(field(seen, "Prompt")).to_have_attribute("aria-invalid", "true")
    assert "refused" in labels(blocks)[1] and "refused" not in labels(blocks)[0]
    field(seen, "Prompt").fill(STAR)
    expect(refusal).to_be_hidden()
    field(seen, "Seed").fill("seven")
    make.click()
    expect(refusal).to_contain_text("Seed seven: must be a whole number")
    field(seen, "Seed").fill("")
    page.get_by_label("Cross-fade, frames").fill("9")
    make.click()
    expect(page.locator('flickbook-refusal[for="shots"]')).to_contain_text("Cross-fade 9: shot 1 has 4 frames")


def test_a_reload_loses_nothing_and_the_list_is_a_file(seen: Seen, blocks: Locator, tmp_path: Path) -> None:
    page = seen.page
    frames, _ = read_any(CLIPS / "000.mp4")
    Image.fromarray(frames[0]).save(tmp_path / "first.png")
    page.locator("flickbook-shot").get_by_label("first picture", exact=True).set_input_files(tmp_path / "first.png")
    field(seen, "Caption").fill("The end")
    field(seen, "Camera").select_option("zoom-in")
    blocks.first.locator(".fb-block").click()
    field(seen, "Prompt").fill("{hero} moving left on a blue background")
    page.get_by_text("Subjects").click()
    page.get_by_label("Words for {name} in the prompts, one per line").fill("hero: a red circle")
    seen.open()
    blocks = shots_of(seen)
    assert words(blocks) == ["{hero} moving left on a blue background", STAR]
    with page.expect_download() as download:
        seen.press("Download list")
    path = tmp_path / str(download.value.suggested_filename)
    download.value.save_as(path)
    found = shooting(parsed(path.name, path.read_bytes(), tmp_path), {})
    assert [shot.plan.prompt for shot in found.plan.shots] == [RED, STAR]
    assert [shot.plan.num_frames for shot in found.plan.shots] == [4, 4]
    last = found.plan.shots[1].plan
    assert last.image and (last.polish.camera, last.polish.text) == ("zoom-in", "The end")

    page.locator("flickbook-timeline").get_by_role("button", name="Make the film").click()

    def ended() -> dict[str, Any] | None:
        found = [job for job in jobs(seen.url, kind="shots") if job["plan"]["shots"][1]["plan"]["polish"]["text"]]
        return found[0] if found and found[0]["state"] in ("completed", "failed") else None

    film = until(ended)
    made = film["plan"]["shots"]
    assert film["state"] == "completed", film["error"]
    assert [shot["plan"]["prompt"] for shot in made] == [RED, STAR]
    assert made[1]["plan"]["image"] == last.image

    page.once("dialog", lambda dialog: dialog.accept())
    seen.press("New")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["shots"][1]["guidance_scale"] = 3.5
    path.write_text(json.dumps(document), encoding="utf-8")
    page.get_by_label("a shot list").set_input_files(path)
    expect(page.locator(".fb-voice")).to_contain_text("The list is open, except the pictures.")
    assert words(blocks) == ["{hero} moving left on a blue background", STAR]
    blocks.nth(1).locator(".fb-block").click()
    expect(page.get_by_text("Also in this list: guidance_scale 3.5")).to_be_visible()
    page.locator("flickbook-timeline").get_by_role("button", name="Make the film").click()
    expect(page.locator('flickbook-refusal[for="shot"]')).to_contain_text("first.png is not in this browser")
    path.write_text('{"films": []}', encoding="utf-8")
    page.get_by_label("a shot list").set_input_files(path)
    expect(page.locator('flickbook-refusal[for="shots"]')).to_contain_text(
        "shots.json cannot be opened: it has no shots"
    )


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not here: make browser")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 900, 1440])
def test_axe_finds_nothing_and_nothing_hangs_over_the_edge(browser: Browser, url: str, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    seen = Seen.at(context.new_page(), url)
    blocks = shots_of(seen)
    for _ in range(6):
        seen.page.get_by_role("button", name="add a shot").click()
    write(seen, RED, STAR, seconds="2")
    field(seen, "Begins").select_option("previous")
    seen.expected = ("400",)
    seen.page.locator("flickbook-timeline").get_by_role("button", name="Make the film").click()
    expect(seen.page.locator('flickbook-refusal[for="shot"]')).to_contain_text("Prompt: is empty")
    assert blocks.count() == 8
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    seen.page.add_script_tag(path=AXE)
    seen.page.wait_for_timeout(700)
    assert [each for each in seen.page.evaluate(RUN) if each[0] in ("serious", "critical")] == []
    assert seen.faults() == []
    context.close()


def test_a_list_is_kept_apart_by_login_and_logging_out_removes_it(browser: Browser, tmp_path: Path) -> None:
    ada, bob = ("ada", "a long enough one"), ("bob", "another long one")
    with studio(tmp_path, "--auth", ":".join(ada), "--auth", ":".join(bob)) as url:
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)

        def log_in(name: str, password: str) -> Seen:
            page.goto(f"{url}/studio/")
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password or key").fill(password)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_selector("#fb-make")
            seen = Seen(page, url)
            shots_of(seen)
            return seen

        seen = log_in(*ada)
        field(seen, "Prompt").fill(RED)
        context.clear_cookies()  # the login ended without a log out
        seen = log_in(*bob)
        assert RED not in words(seen.page.locator(".fb-shot"))
        context.clear_cookies()
        seen = log_in(*ada)
        assert RED in words(seen.page.locator(".fb-shot"))
        page.once("dialog", lambda dialog: dialog.accept())
        seen.press("Log out")
        page.get_by_label("Name").wait_for()
        seen = log_in(*ada)
        assert RED not in words(seen.page.locator(".fb-shot"))
        assert httpx2.get(f"{url}/studio/session").status_code == 401
        context.close()
