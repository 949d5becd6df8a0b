"""The gallery: films are found, kept, compared, gone on from, and deleted."""

from __future__ import annotations

import pytest
from tests.browser.chromium import Seen, jobs
from tests.browser.test_studio import VIDEO, made

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def films(url: str) -> list[str]:
    """Two films, the older first."""
    return [made(url, prompt="a green square", seed=1), made(url, prompt="a tall white triangle", seed=2)]


@pytest.fixture
def gallery(seen: Seen, films: list[str]) -> Seen:
    seen.tab("Gallery")
    seen.page.wait_for_function("() => document.querySelectorAll('.fb-card').length >= 2")
    return seen


def cards(seen: Seen, count: int) -> None:
    seen.page.wait_for_function("(count) => document.querySelectorAll('.fb-card').length === count", arg=count)


def test_films_are_found_by_their_words(gallery: Seen) -> None:
    gallery.page.get_by_label("search the prompts").fill("TRIANGLE")
    cards(gallery, 1)
    gallery.page.get_by_label("search the prompts").fill("nothing like it")
    cards(gallery, 0)
    gallery.page.get_by_text("Nothing here yet.").wait_for()


def test_favourites_stand_by_themselves(gallery: Seen) -> None:
    gallery.page.locator(".fb-card").first.click()
    gallery.page.locator("dialog .fb-more > summary").click()
    gallery.page.get_by_role("dialog").get_by_role("button", name="Favourite").click()
    gallery.page.get_by_role("dialog").get_by_text("★ Favourite").wait_for()
    gallery.page.keyboard.press("Escape")
    gallery.page.get_by_label("Favourites only").check()
    cards(gallery, 1)
    assert "triangle" in gallery.page.locator(".fb-card").inner_text()


def test_two_films_play_in_step(gallery: Seen) -> None:
    for place in (0, 1):
        gallery.page.locator(".fb-grid input[type=checkbox]").nth(place).check()
    gallery.press("Compare")
    gallery.page.wait_for_function(
        "() => [...document.querySelectorAll('dialog video')].every((v) => v.readyState === 4)"
    )
    # The first film pauses as soon as it plays: the other one is paused before it plays, which rejects its promise.
    first = gallery.page.locator("dialog video").first
    first.evaluate("(film) => ['pause', 'play', 'pause'].forEach((name) => film.dispatchEvent(new Event(name)))")
    gallery.page.get_by_role("button", name="Play or pause").click()
    gallery.page.get_by_label("position in the films").fill("500")
    gap = """() => { const [one, other] = document.querySelectorAll("dialog video");
      return one.currentTime > 0 && Math.abs(one.currentTime - other.currentTime) < 0.05; }"""
    gallery.page.wait_for_function(gap)
    gallery.page.keyboard.press("Escape")


def test_a_recipe_is_read_and_a_film_made_again(gallery: Seen) -> None:
    gallery.page.locator(".fb-card").first.click()
    dialog = gallery.page.get_by_role("dialog")
    dialog.get_by_text("More", exact=True).click()
    dialog.get_by_text("Recipe", exact=True).click()
    dialog.get_by_text('"frames_sha256"').wait_for()
    with gallery.page.expect_download() as saved:
        dialog.get_by_role("button", name="Download recipe").click()
    assert saved.value.suggested_filename.endswith("-recipe.json")
    dialog.get_by_role("button", name="Make again with a new seed").click()
    gallery.tab("Film")
    gallery.page.wait_for_selector(VIDEO)
    newest = jobs(gallery.url, state="completed")[0]
    assert newest["prompt"] == "a tall white triangle" and newest["seed"] != 2


def test_a_film_is_deleted_once_somebody_said_so_twice(gallery: Seen) -> None:
    before = len(jobs(gallery.url, state="completed"))
    gallery.page.on("dialog", lambda asked: asked.accept())
    gallery.page.locator(".fb-card").first.click()
    gallery.page.locator("dialog .fb-more > summary").click()
    gallery.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    cards(gallery, before - 1)
    assert len(jobs(gallery.url, state="completed")) == before - 1
