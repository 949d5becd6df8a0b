"""Captions of the picture book: they name everything, in many forms."""

from __future__ import annotations

import numpy as np

from flickbook.world import book, grammar
from flickbook.world.book import Page, captions
from flickbook.world.scenes import Scene, sample


def named(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def scene(subject: str, action: str, place: str, light: str) -> Scene:
    words = {"subject": subject, "action": action, "place": place, "light": light, "direction": "left"}
    return Scene("book", 0, traits=words)


def drawn(count: int, brief: bool = False) -> list[tuple[Page, str]]:
    """Pages drawn by lot, each with a caption of the grammar."""
    rng = np.random.default_rng(5)
    scenes = [sample(seed, "book") for seed in range(count)]
    return [(Page(**each.traits), grammar.caption(each, rng, brief)) for each in scenes]


def test_the_plain_caption_reads_as_a_prompt_does() -> None:
    for words, text in (
        (("panda", "surfing", "beach", "sunset"), "a panda surfing at the beach at sunset"),
        (("cat", "running", "snow", "night"), "a cat running in the snow at night"),
        (("boat", "driving", "beach", "day"), "a boat sailing at the beach by day"),
        (("bird", "flying", "city", "night"), "a bird flying over the city at night"),
        (("astronaut", "walking", "city", "day"), "an astronaut walking on a city street by day"),
    ):
        assert grammar.canonical(scene(*words)) == text


def test_every_word_has_a_caption() -> None:
    for subject, action, place in book.COMBINATIONS:
        for light in book.LIGHTS:
            text = grammar.canonical(scene(subject, action, place, light))
            assert subject in text and captions.LIGHT_WORDS[light][0] in text


def test_captions_name_subject_action_place_and_light() -> None:
    places = {place: (*words, captions.SCENES[place]) for place, words in captions.PLACE_WORDS.items()}
    for page, text in drawn(1500):
        assert named(text, captions.SUBJECT_WORDS[page.subject]), text
        assert named(text, captions.action_words(page)), text
        assert named(text, (*places[page.place], *captions.place_words(page))), text
        assert named(text, (*captions.LIGHT_WORDS[page.light], *captions.TIME_WORDS[page.light])), text
        if "to the left" in text or "to the right" in text:
            assert f"to the {page.direction}" in text


def test_a_page_is_said_in_forty_orders_and_more() -> None:
    forms = captions.rules(scene("cat", "running", "snow", "night").traits)["whole"]
    assert len(set(forms)) >= 40
    texts = grammar.paraphrases(scene("cat", "running", "snow", "night"), 300, np.random.default_rng(1))
    assert len({text.split()[0] for text in texts}) >= 10


def test_brief_captions_name_the_subject_and_leave_something_out() -> None:
    for page, text in drawn(400, brief=True):
        assert named(text, captions.SUBJECT_WORDS[page.subject]), text
    whole, brief = (sum(len(text) for _, text in drawn(400, brief=each)) for each in (False, True))
    assert brief < 0.75 * whole


def test_nothing_goes_through_a_place_while_it_stays() -> None:
    for page, text in drawn(1200):
        if page.action in ("standing", "sleeping", "dancing", "surfing"):
            assert not any(f"through {where}" in text for where in ("the forest", "the city", "the snow", "a meadow"))


def test_what_flies_is_over_the_place_and_not_on_it() -> None:
    for page, text in drawn(1200):
        if page.action == "flying":
            assert " on the sand" not in text and " on the grass" not in text and " on a city street" not in text
