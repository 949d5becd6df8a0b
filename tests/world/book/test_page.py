"""Pages: what fits, what is held out, and what is drawn by lot."""

from __future__ import annotations

import numpy as np

from flickbook.world import book
from flickbook.world.book import Page


def pages(count: int, heldout: bool = False) -> list[Page]:
    rng = np.random.default_rng(11)
    return [book.page(book.sample(rng, heldout), number) for number in range(count)]


def test_the_book_has_its_words() -> None:
    assert len(book.SUBJECTS) >= 16 and len(book.PLACES) == 8 and len(book.LIGHTS) == 3
    done = {action for actions in book.ACTIONS.values() for action in actions}
    assert done >= {"walking", "running", "jumping", "flying", "swimming", "surfing", "dancing", "sleeping"}
    assert all("standing" in actions for actions in book.ACTIONS.values())


def test_what_makes_no_sense_does_not_fit() -> None:
    assert not book.fits("tree", "running", "meadow")
    assert not book.fits("boat", "driving", "space")
    assert not book.fits("cat", "swimming", "city")
    assert not book.fits("bird", "flying", "underwater")
    assert not book.fits("dragon", "flying", "space")
    assert book.fits("panda", "surfing", "beach")


def test_training_never_sees_a_held_out_pair() -> None:
    held = {(c[0], w) for c in book.COMBINATIONS for w in c[1:] if w not in _free(c[0])}
    assert held
    for each in pages(3000):
        assert not book.held_out(each) and book.fits(each.subject, each.action, each.place)
        assert (each.subject, each.action) not in held and (each.subject, each.place) not in held


def _free(subject: str) -> set[str]:
    """The actions and places of a subject that some page of training shows."""
    seen = [c for c in book.COMBINATIONS if c[0] == subject and not book.held_out(Page(*c, light="day"))]
    return {word for c in seen for word in c[1:]}


def test_evaluation_sees_only_held_out_pairs() -> None:
    found = pages(300, heldout=True)
    assert all(book.held_out(each) and book.fits(each.subject, each.action, each.place) for each in found)
    assert len({(each.subject, each.action) for each in found}) > 20


def test_the_rule_never_changes() -> None:
    """These pairs were held out when a model was trained: another answer would leak them."""
    for subject, action in (("cat", "flying"), ("dog", "dancing"), ("panda", "flying"), ("person", "swimming")):
        assert book.held_out(Page(subject, action, "beach", "day"))
    for subject, place in (("panda", "desert"), ("person", "meadow"), ("astronaut", "underwater"), ("bus", "snow")):
        assert book.held_out(Page(subject, "standing", place, "night"))
    assert not book.held_out(Page("panda", "surfing", "beach", "sunset"))


def test_a_share_of_the_pairs_is_held_out_and_every_word_is_seen() -> None:
    held = [c for c in book.COMBINATIONS if book.held_out(Page(*c, light="day"))]
    assert 0.08 < len(held) / len(book.COMBINATIONS) < 0.35
    assert set(book.SUBJECTS) == {each.subject for each in pages(600)}
    for subject in book.SUBJECTS:
        free = _free(subject)
        assert len(free & set(book.PLACES)) >= min(3, sum(book.fits(subject, "standing", p) for p in book.PLACES))
    for word in (*book.PLACES, *{a for actions in book.ACTIONS.values() for a in actions}):
        assert sum(word in _free(subject) for subject in book.SUBJECTS) >= 3, word


def test_pages_repeat_with_their_generator_and_vary() -> None:
    assert pages(20) == pages(20)
    found = pages(400)
    assert {each.light for each in found} == set(book.LIGHTS)
    assert {each.direction for each in found} == set(book.DIRECTIONS)
    assert len({each.seed for each in found}) == 400
