"""Playing a reel."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.desktop.conftest import until

from flickbook.desktop.frame_buffer import FrameBuffer
from flickbook.desktop.widgets.player import Player
from flickbook.desktop.widgets.theme import Theme

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


@pytest.mark.parametrize(("room", "width"), [((400, 300), 256), ((190, 200), 128), ((100, 100), 76)])
def test_a_film_is_enlarged_by_whole_multiples(player: Player, root: Any, room: tuple[int, int], width: int) -> None:
    player.canvas.configure(width=room[0], height=room[1])
    root.geometry("")
    until(lambda: (player.canvas.winfo_width(), player.canvas.winfo_height()) == room, root.update)
    frame = Image.effect_noise((128, 128), 90).convert("RGB")
    shown = player._fitted(frame)
    assert shown.size == (width, width)
    if width >= 128:  # no colour of its own between two pixels
        assert np.array_equal(np.asarray(shown)[:: width // 128, :: width // 128], np.asarray(frame))
