"""Captions of the picture book: they name everything, in many forms."""

from __future__ import annotations

import numpy as np

from flickbook.world import book
from flickbook.world.book import Page, captions


def named(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def test_the_plain_caption_reads_as_a_prompt_does() -> None:
    assert captions.caption(Page("panda", "surfing", "beach", "sunset")) == "a panda surfing at the beach at sunset"
    assert captions.caption(Page("cat", "running", "snow", "night")) == "a cat running in the snow at night"
    assert captions.caption(Page("astronaut", "walking", "city", "day")).startswith("an astronaut walking on a city")
    assert captions.caption(Page("boat", "driving", "beach", "day")) == "a boat sailing at the beach by day"


def test_every_word_has_a_caption() -> None:
    for subject, action, place in book.COMBINATIONS:
        for light in book.LIGHTS:
            text = captions.caption(Page(subject, action, place, light))
            assert subject in text and captions.LIGHT_WORDS[light][0] in text


def test_descriptions_name_subject_action_place_and_light() -> None:
    rng = np.random.default_rng(5)
    scenes = {place: (*words, captions.SCENES[place]) for place, words in captions.PLACE_WORDS.items()}
    for _ in range(1500):
        page = book.sample(rng)
        text = captions.describe(page, rng)
        assert named(text, captions.SUBJECT_WORDS[page.subject]), text
        assert named(text, captions.action_words(page)), text
        assert named(text, (*scenes[page.place], *captions.place_words(page))), text
        assert named(text, captions.LIGHT_WORDS[page.light]), text
        if "to the left" in text or "to the right" in text:
            assert f"to the {page.direction}" in text
        assert text == text.strip() and "  " not in text and len(text.split()) < 28


def test_descriptions_have_many_forms_and_repeat() -> None:
    page = Page("cat", "running", "snow", "night")
    texts = [captions.describe(page, np.random.default_rng(seed)) for seed in range(300)]
    assert len(set(texts)) > 100
    assert texts.count(captions.caption(page)) >= 6
    assert texts[7] == captions.describe(page, np.random.default_rng(7))


def test_brief_prompts_name_the_subject_and_leave_something_out() -> None:
    rng = np.random.default_rng(6)
    whole, brief = [], []
    for _ in range(300):
        page = book.sample(rng)
        text = captions.describe_briefly(page, rng)
        assert named(text, captions.SUBJECT_WORDS[page.subject]), text
        brief.append(len(text))
        whole.append(len(captions.describe(page, rng)))
    assert sum(brief) < 0.75 * sum(whole)


def test_articles_are_right() -> None:
    rng = np.random.default_rng(8)
    for _ in range(800):
        page = book.sample(rng)
        words = f"{captions.describe(page, rng)} {captions.describe_briefly(page, rng)}".split()
        for article, noun in zip(words, words[1:], strict=False):
            if article == "a":
                assert noun[0] not in "aeiou", (article, noun)
            if article == "an":
                assert noun[0] in "aeiou", (article, noun)


def test_nothing_goes_through_a_place_while_it_stays() -> None:
    rng = np.random.default_rng(9)
    for _ in range(800):
        page = book.sample(rng)
        if page.action in ("standing", "sleeping", "dancing", "surfing"):
            text = captions.describe(page, rng)
            assert not any(f"through {where}" in text for where in ("the forest", "the city", "the snow", "a meadow"))


def test_what_flies_is_over_the_place_and_not_on_it() -> None:
    assert captions.caption(Page("bird", "flying", "city", "night")) == "a bird flying over the city at night"
    rng = np.random.default_rng(10)
    for _ in range(400):
        page = book.sample(rng)
        if page.action == "flying":
            text = captions.describe(page, rng)
            assert " on the sand" not in text and " on the grass" not in text and " on a city street" not in text
