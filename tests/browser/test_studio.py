"""The studio as a person uses it: films are made, watched, stopped and found again, in a true browser."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect
from tests.browser.chromium import FILM, PATIENCE, Seen, jobs, studio
from tests.clicks import track, wav

from flickbook.resolution import resolve
from flickbook.spec import Request

pytestmark = pytest.mark.slow
VIDEO = "flickbook-stage video:visible"
PREVIEW = "flickbook-stage img.fb-preview:visible"
#: Steps of a film in whose middle something happens, and that is made to its end: the most there are, of few frames.
LONG = 100


def make(seen: Seen, prompt: str = FILM, steps: int = 2, frames: int | None = 4) -> str:
    """Ask for a film; its id. Without `frames`, nobody touches their number."""
    before = {job["id"] for job in jobs(seen.url)}
    seen.page.get_by_label("Prompt", exact=True).first.fill(prompt)
    seen.number("Steps", steps)
    if frames is not None:
        seen.number("Frames", frames)
    seen.press("Make the film")
    seen.page.wait_for_function("() => /^[0-9]+ job/.test(document.querySelector('flickbook-line').textContent)")
    (new,) = {job["id"] for job in jobs(seen.url)} - before
    return new


def idle(seen: Seen) -> None:
    """Wait until all that was asked for is done."""
    for words in ("^[0-9]+ job", "^queue empty$"):
        seen.page.wait_for_function(f"() => /{words}/.test(document.querySelector('flickbook-line').textContent)")


def made(url: str, **fields: object) -> str:
    """A film that was made by another client."""
    asked = {"prompt": FILM, "num_inference_steps": 2, "num_frames": 4, **fields}
    answer = httpx2.post(f"{url}/v1/videos/sync", json=asked, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return jobs(url, state="completed")[0]["id"]  # type: ignore[no-any-return]


def test_a_film_emerges_and_plays(seen: Seen) -> None:
    id = make(seen, steps=LONG, frames=8)
    first = seen.page.wait_for_selector(PREVIEW).get_attribute("src")
    seen.status("Denoising")
    seen.page.locator("flickbook-stage .fb-left:visible", has_text="left").wait_for()
    seen.page.wait_for_function(
        """(before) => {
          const now = document.querySelector("flickbook-stage img.fb-preview")?.src;
          return now && now !== before;
        }""",
        arg=first,
    )
    film = seen.page.wait_for_selector(VIDEO)
    seen.page.wait_for_function("() => document.querySelector('flickbook-stage video').readyState === 4")
    at = film.evaluate("(video) => video.currentTime")
    seen.page.wait_for_function("(at) => document.querySelector('flickbook-stage video').currentTime !== at", arg=at)
    # The film itself comes by a link of the service's own.
    assert "/media/job_" in str(film.get_attribute("src")) and "signature=" in str(film.get_attribute("src"))
    assert film.evaluate("(video) => [video.videoWidth, video.videoHeight]") == [128, 128]
    assert httpx2.get(f"{seen.url}/api/v1/jobs/{id}").json()["plan"]["num_frames"] == 8


def test_a_film_is_stopped(seen: Seen) -> None:
    id = make(seen, steps=LONG, frames=None)
    seen.page.wait_for_selector(PREVIEW)
    seen.press("Cancel")
    seen.status("cancelled")
    job = httpx2.get(f"{seen.url}/api/v1/jobs/{id}").json()
    assert job["state"] == "cancelled"
    # What nobody touched is the model's and the format's own choice.
    usual = resolve(Request.of(prompt=FILM, num_inference_steps=LONG, seed=job["plan"]["seed"]))
    assert job["plan"] == usual.model_dump(mode="json")


def test_a_film_is_paused_and_resumed(seen: Seen) -> None:
    id = make(seen, steps=LONG, frames=8)
    seen.page.wait_for_selector(PREVIEW)
    seen.press("Pause")
    seen.status("paused")
    seen.press("Resume")
    seen.page.wait_for_selector(VIDEO)
    job = httpx2.get(f"{seen.url}/api/v1/jobs/{id}").json()
    assert job["state"] == "completed" and job["attempt"] == 2


def test_a_closed_tab_changes_nothing(browser: Browser, seen: Seen) -> None:
    make(seen, steps=LONG, frames=8)  # not over before the page is there again
    seen.page.wait_for_selector(PREVIEW)
    seen.page.close()
    again = Seen.at(browser.new_page(), seen.url)
    again.status("Denoising")
    again.page.wait_for_selector(PREVIEW)
    again.page.wait_for_selector(VIDEO)
    again.page.close()


def test_a_cut_line_is_told_and_mended(seen: Seen) -> None:
    make(seen, steps=LONG)
    seen.page.wait_for_selector(PREVIEW)
    seen.expected = ("ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_CHANGED", "connection")
    seen.page.context.set_offline(True)
    seen.status("unreachable")
    seen.page.context.set_offline(False)
    seen.page.wait_for_selector(VIDEO)


def test_drafts_are_chosen_and_finished(seen: Seen) -> None:
    seen.page.get_by_label("Prompt", exact=True).first.fill(FILM)
    seen.number("Steps", 8)
    seen.number("Frames", 4)
    seen.press("Eight drafts")
    ready = seen.page.locator(".fb-draft:not([disabled])")
    seen.page.wait_for_function("() => document.querySelectorAll('.fb-draft:not([disabled])').length === 8")
    pictures = "() => [...document.querySelectorAll('.fb-draft img')].filter((each) => each.naturalWidth > 0).length"
    seen.page.wait_for_function(f"{pictures} === 8")
    wall, stage = (seen.page.locator(each).filter(visible=True).bounding_box() for each in (".fb-wall", ".fb-screen"))
    assert wall is not None and stage is not None and wall["y"] < stage["y"]
    seeds = sorted(job["seed"] for job in jobs(seen.url, kind="draft"))
    ready.nth(2).click()
    assert ready.nth(2).get_attribute("aria-pressed") == "true"
    seen.press("Finish 1")
    idle(seen)
    seen.page.wait_for_selector(VIDEO)
    film = jobs(seen.url, kind="film", state="completed")[0]
    assert film["seed"] == seeds[2] and film["parent"] is not None
    notes = httpx2.get(f"{seen.url}/api/v1/jobs/{film['id']}/run").json()["notes"]
    assert any("resumed from step" in note for note in notes)


def test_a_dropped_film_fills_the_form(seen: Seen, tmp_path: Path) -> None:
    id = made(seen.url, seed=4711, prompt="a small yellow star spinning on a black background", num_frames=12)
    film = httpx2.get(f"{seen.url}/api/v1/jobs/{id}/film").content
    drop(seen, "film.mp4", film)
    seen.page.wait_for_function("() => [...document.querySelectorAll('textarea')][0].value.includes('yellow star')")
    patience = PATIENCE * 1000
    expect(seen.page.get_by_label("Seed").first).to_have_value("4711", timeout=patience)
    expect(seen.page.get_by_label("number input for Frames").first).to_have_value("12", timeout=patience)
    plan = httpx2.get(f"{seen.url}/api/v1/jobs/{id}").json()["plan"] | {"seed": 2**62 + 1}
    drop(seen, "film.json", json.dumps({"plan": plan}).encode())
    seen.page.get_by_text("The form has these settings, except the seed.").wait_for()
    expect(seen.page.get_by_label("Seed").first).to_have_value("", timeout=patience)
    drop(seen, "notes.mp4", b"no film at all")
    seen.page.locator(".fb-voice.wrong.shown").wait_for()
    seen.expected = ("400",)


def drop(seen: Seen, name: str, data: bytes) -> None:
    """Drop a file onto the page."""
    script = """([name, numbers]) => {
      const held = new DataTransfer();
      held.items.add(new File([new Uint8Array(numbers)], name));
      for (const kind of ["dragover", "drop"])
        document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: held, bubbles: true, cancelable: true}));
    }"""
    seen.page.evaluate(script, [name, list(data)])


def test_what_is_refused_stands_beside_the_button(seen: Seen) -> None:
    seen.page.get_by_label("Prompt", exact=True).first.fill(FILM)
    seen.page.get_by_label("Seed").first.fill("seven")
    seen.press("Make the film")
    refusal = seen.page.locator('flickbook-refusal[for="film"]')
    refusal.get_by_text("Seed seven: must be a whole number").wait_for()
    assert refusal.get_attribute("role") == "alert"
    seen.page.get_by_label("Seed").first.fill("")
    seen.page.get_by_label("Prompt", exact=True).first.fill("")
    seen.press("Make the film")
    refusal.get_by_text("Prompt: is empty").wait_for()
    seen.expected = ("400",)


def test_unknown_words_are_named_while_one_types_and_under_the_film(seen: Seen) -> None:
    prompt = seen.page.get_by_label("Prompt", exact=True).first
    notes = seen.page.locator('flickbook-notes[for="film"]')
    prompt.fill("a red circl")
    notes.get_by_text('did not learn "circl" (nearest: "circle")').wait_for()
    prompt.fill(FILM)
    notes.wait_for(state="hidden")
    make(seen, "a red circl")
    seen.page.locator("flickbook-stage .fb-notes:visible", has_text='did not learn "circl"').wait_for()


def test_the_running_film_stays_on_the_stage_and_the_next_one_follows(seen: Seen) -> None:
    title = seen.page.locator("flickbook-stage .fb-title").filter(visible=True)
    make(seen, "a red circle", steps=LONG, frames=None)
    seen.page.wait_for_selector(PREVIEW)
    seen.page.get_by_label("Prompt", exact=True).first.fill("a blue square")
    seen.number("Steps", 2)
    seen.number("Frames", 4)
    seen.press("Make the film")
    seen.page.locator("flickbook-queue li:visible", has_text="a blue square").wait_for()
    assert title.inner_text() == "a red circle"
    seen.press("Cancel")
    expect(title).to_have_text("a blue square", timeout=PATIENCE * 1000)
    seen.page.wait_for_selector(VIDEO)


def test_a_film_is_shown_at_a_whole_multiple_of_its_size_with_one_main_action(seen: Seen) -> None:
    made(seen.url)
    seen.open()
    film = seen.page.wait_for_selector(f"{VIDEO}.fb-crisp")
    size = film.evaluate("(film) => [film.clientWidth, film.clientHeight, getComputedStyle(film).imageRendering]")
    assert size[0] > 0 and size[0] % 128 == 0 and size[0] == size[1] and size[2] == "pixelated"
    buttons = seen.page.locator("flickbook-stage .fb-actions button").filter(visible=True)
    assert buttons.all_inner_texts() == ["Download"]
    with seen.page.expect_download() as saved:
        buttons.first.click()
    assert saved.value.suggested_filename.endswith(".mp4")


def test_the_duration_stands_beside_the_frames(seen: Seen) -> None:
    box = seen.page.get_by_label("number input for Frames (2.0 s)").filter(visible=True)
    box.fill("24")
    seen.page.get_by_label("number input for Frames (3.0 s)").filter(visible=True).wait_for()


def test_a_picture_a_sequence_and_a_batch_are_made(seen: Seen) -> None:
    backend = seen.backend("Picture")
    backend.get_by_label("Prompt", exact=True).fill("a peaceful sunset over mountain ranges")
    backend.get_by_label("number input for Steps").fill("4")
    backend.get_by_role("button", name="Make the picture").click()
    backend.locator("flickbook-stage img.fb-film").wait_for()
    backend = seen.backend("Sequence")
    backend.get_by_label("Prompts, one per line").fill(
        "a red circle on a blue background\na blue circle on a red background"
    )
    backend.get_by_label("number input for Frames per prompt").fill("2")
    backend.get_by_label("number input for Steps").fill("2")
    backend.get_by_role("button", name="Make the sequence").click()
    backend.locator("flickbook-stage video").wait_for()
    assert jobs(seen.url)[0]["kind"] == "sequence"
    backend = seen.backend("Batch")
    rows = "prompt,seed,num_frames,num_inference_steps\na red circle,1,4,2\na blue circle,2,4,2"
    backend.get_by_label("Rows").fill(rows)
    backend.get_by_role("button", name="Make the films").click()
    idle(seen)
    assert [job["seed"] for job in jobs(seen.url, limit="2")] == [2, 1]
    backend.get_by_label("Rows").fill("prompt,num_frames\na red circle,9999999")
    backend.get_by_role("button", name="Make the films").click()
    backend.locator('flickbook-refusal[for="batch"]').get_by_text("num_frames=9999999").wait_for()
    seen.expected = ("400",)


def test_a_film_goes_on_from_the_last_frame_of_another(seen: Seen) -> None:
    made(seen.url, num_frames=8)
    seen.open()
    seen.more()
    seen.press("Continue from the last frame")
    seen.page.locator("flickbook-begin[for=film] img").wait_for()
    make(seen, steps=4)
    seen.page.wait_for_selector(VIDEO)
    assert jobs(seen.url)[0]["plan"]["image"] is not None


def test_a_sound_file_is_under_the_film(seen: Seen, tmp_path: Path) -> None:
    tone = wav(tmp_path / "tone.wav", track([0.25, 0.75], 1))
    seen.open()
    form = seen.page.get_by_role("tabpanel").first
    form.get_by_role("button", name="Sound").click()
    form.locator("flickbook-sound input").set_input_files(tone)
    form.locator("flickbook-sound audio").wait_for()
    assert form.get_by_text("tone.wav").is_visible()
    make(seen, frames=None)
    seen.page.wait_for_selector(VIDEO)
    job = jobs(seen.url)[0]
    assert len(job["plan"]["audio"]) == 64 and "audio_fit" not in job["plan"]
    seen.page.wait_for_function("() => document.querySelector('flickbook-stage video').webkitAudioDecodedByteCount > 0")
    # A longer one is refused in the form, with the remedy, and cut if that is chosen.
    longer = wav(tmp_path / "long.wav", track([0.25], 9))
    form.locator("flickbook-sound input").set_input_files(longer)
    seen.press("Make the film")
    seen.page.get_by_text("lasts 9 seconds, and the film 2; set the audio fit to trim").wait_for()
    seen.expected = ("400",)
    form.locator("flickbook-sound").get_by_role("button", name="Remove").click()
    assert form.locator("flickbook-sound audio").count() == 0


def test_a_stranger_sees_nothing_of_it(browser: Browser, tmp_path: Path) -> None:
    ada, bob = ("ada", "a long enough one"), ("bob", "another long one")
    with studio(tmp_path, "--auth", ":".join(ada), "--auth", ":".join(bob)) as url:
        pages = []
        for name, password in (ada, bob):
            page = browser.new_context().new_page()
            page.goto(f"{url}/studio/")
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password or key").fill(password)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_selector("#fb-make")
            pages.append(page)
        own, other = pages
        own.get_by_label("Prompt", exact=True).first.fill(FILM)
        own.get_by_label("number input for Steps").first.fill("4")
        own.get_by_role("button", name="Make the film").click()
        own.wait_for_selector(VIDEO)
        other.reload()
        other.get_by_text("Your film appears here.").first.wait_for()
        other.get_by_role("tab", name="Gallery").click()
        other.get_by_text("Nothing here yet.").wait_for()
        cookie = json.dumps([each["name"] for each in other.context.cookies()])
        assert "flickbook_session" in cookie
        own.get_by_role("button", name="Log out").click()
        own.get_by_label("Name").wait_for()
        assert [page.request.get(f"{url}/api/v1/jobs").status for page in pages] == [401, 200]
        own.goto(f"{url}/studio/")
        own.get_by_label("Name").wait_for()
        for page in pages:
            page.context.close()
