"""Poses: each action moves a body in its own way."""

from __future__ import annotations

import pytest

from flickbook.world import book
from flickbook.world.book.pose import Pose, pose

ACTIONS = sorted({action for actions in book.ACTIONS.values() for action in actions})


def film(action: str, phase: float = 0.0) -> list[Pose]:
    return [pose(action, index / 15, phase) for index in range(16)]


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_poses_that_move(action: str) -> None:
    moments = film(action)
    assert len({(each.turn, each.beat) for each in moments}) == 16
    assert all(abs(each.along) < 16 and -3 < each.up < 16 and 0.7 < each.squash < 1.2 for each in moments)


def test_the_way_is_covered_evenly_around_the_middle() -> None:
    moments = film("running")
    assert moments[0].along == pytest.approx(-moments[-1].along)
    assert moments[-1].along > film("walking")[-1].along > 5
    assert {each.along for each in film("sleeping")} == {0.0}


def test_a_jump_leaves_the_ground_and_returns() -> None:
    heights = [each.up for each in film("jumping")]
    assert max(heights) > 9 and min(heights) == 0


def test_only_sleepers_close_their_eyes() -> None:
    assert [action for action in ACTIONS if film(action)[0].asleep] == ["sleeping"]


def test_the_phase_shifts_the_steps() -> None:
    assert film("walking", 0.25)[0].wave() == pytest.approx(1.0)
    assert film("walking", 0.0)[0].wave() == pytest.approx(0.0)


def test_an_unknown_action_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        pose("juggling", 0.0, 0.0)
