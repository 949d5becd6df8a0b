"""How the grammar says a view: its sentences, and the words for each of its traits.

A text is an option of a rule: `{symbol}` in it stands for one of that symbol's options. `world/grammar.py` expands
them; the symbols `film`, `show` and `watch` are its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flickbook.world.words import Rules


@dataclass(frozen=True)
class Phrases:
    """Sentences that name every trait, short ones, words that name no trait, and by trait and word those that do."""

    whole: tuple[str, ...]
    brief: tuple[str, ...]
    scenery: Rules
    traits: dict[str, dict[str, Rules]]

    def rules(self, traits: Mapping[str, str]) -> Rules:
        """The rules with a word for each trait. Raises KeyError for an unknown trait or word."""
        found = {"whole": self.whole, "brief": self.brief} | self.scenery
        for trait, word in traits.items():
            found |= self.traits[trait][word]
        return found

    def every_rules(self) -> Iterator[Rules]:
        """Rules that together hold every option."""
        yield {"sentences": self.whole + self.brief} | self.scenery
        for values in self.traits.values():
            yield from values.values()


def _way(way: str) -> Rules:
    return {
        "way": (way, way, f"to the {way}", f"to the {way}", f"towards the {way}", f"toward the {way}", f"{way}wards")
    }


#: The directions of what moves sideways.
SIDES = {"left": _way("left"), "right": _way("right")}
