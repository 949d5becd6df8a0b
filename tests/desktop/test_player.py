"""Playing a reel."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from PIL import Image
from tests.desktop.conftest import until

from flickbook.desktop.frame_buffer import FrameBuffer
from flickbook.desktop.player import Player
from flickbook.desktop.theme import Theme

REEL = FrameBuffer(tuple(Image.new("RGB", (32, 24), (40 * number, 0, 0)) for number in range(5)), 20.0)


@pytest.fixture
def player(root: Any) -> Player:
    found = Player(root, Theme(root))
    found.pack(fill="both", expand=True)
    root.geometry("400x300")
    root.update()
    return found


@pytest.mark.slow
def test_it_plays_round_and_round(player: Player, root: Any) -> None:
    player.show(REEL)
    seen: list[int] = []

    def look() -> bool:
        if not seen or seen[-1] != player.index:
            seen.append(player.index)
        return len(seen) > 7 and set(seen) == set(range(5))

    # A machine with no time leaves frames out, each round others.
    until(look, root.update)
    assert seen[0] == 0 and any(later < earlier for earlier, later in pairwise(seen))


def test_it_pauses_steps_and_is_pulled(player: Player, root: Any) -> None:
    player.show(REEL)
    player.toggle()
    assert not player.playing
    at = player.index
    player.step(1)
    assert player.index == (at + 1) % 5
    player._pulled("3.4")
    root.update()
    assert player.index == 3 and not player.playing
    player.canvas.focus_force()
    root.update()
    player.canvas.event_generate("<space>")
    assert player.playing


def test_a_picture_stands_still_and_a_preview_has_no_controls(player: Player, root: Any) -> None:
    player.show(FrameBuffer(REEL.frames[:1], 1.0))
    player.toggle()
    assert not player.playing
    player.show(REEL, controls=False)
    root.update()
    assert player.playing and not player._scale.winfo_ismapped()
    player.clear()
    assert player.frame_buffer is None and not player.playing
