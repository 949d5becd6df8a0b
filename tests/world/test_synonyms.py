"""Paraphrases of captions."""

from __future__ import annotations

import re

import numpy as np

from flickbook.vocabulary import words as words_of
from flickbook.world import scenes, synonyms
from flickbook.world.captions import brief_captions, captions
from flickbook.world.scenes import BACKGROUNDS, COLOURS, SHAPES, sample

GROUPS = ("core", "pair", "digits", "views")


def drawn(group: str, count: int) -> list[tuple[scenes.Scene, str, str]]:
    rng = np.random.default_rng(4)
    found = (sample(seed, group) for seed in range(count))
    return [(scene, *synonyms.both(scene, rng)) for scene in found]


def means(word: str) -> set[str]:
    """The words of a paraphrase that a word of a caption may have become, with itself."""
    return {word, *(part.strip() for part in synonyms.SYNONYMS.get(word, "").split(","))}


def test_a_scene_is_said_in_more_than_forty_ways() -> None:
    rng = np.random.default_rng(1)
    for group in GROUPS:
        assert len({synonyms.both(sample(7, group), rng)[0] for _ in range(200)}) > 40


def test_with_those_of_the_captions_there_are_more_than_500_words() -> None:
    known = {
        word
        for group in GROUPS
        for seed in range(300)
        for text in captions(sample(seed, group))
        for word in words_of(text)
    }
    assert len(known | synonyms.words()) > 500


def test_a_whole_paraphrase_names_the_colour_and_the_shape_of_its_scene() -> None:
    for scene, asked, meant in drawn("core", 300):
        if meant in brief_captions(scene):
            continue
        actor = scene.actors[0]
        for word in (actor.colour, actor.shape, scene.background):
            assert any(re.search(rf"\b{re.escape(other)}\b", asked) for other in means(word)), (asked, meant)


def test_what_is_meant_is_a_caption_of_training() -> None:
    for group in GROUPS:
        for scene, _, meant in drawn(group, 60):
            assert meant == captions(scene)[0] or meant in brief_captions(scene)


def test_articles_fit_their_words() -> None:
    for group in GROUPS:
        for _, asked, _ in drawn(group, 200):
            assert not re.search(r"\ba [aeio]|\ban [^aeiou]|\ban? an?\b", asked), asked


def test_no_word_stands_for_two_things_of_one_kind() -> None:
    for kind in (COLOURS, SHAPES, BACKGROUNDS):
        for word in kind:
            for other in set(kind) - {word}:
                assert not means(word) & means(other), (word, other)
