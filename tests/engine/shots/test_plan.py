"""Plans of several shots: where each begins, and shots that do not join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flickbook.engine.shots import shot_list
from flickbook.engine.shots.plan import plan_of as plan_again
from flickbook.engine.shots.plan import shooting
from flickbook.errors import RequestError
from flickbook.spec import Plan

PROMPT = "a red circle moving left on a blue background"


def plan_of(*shots: dict[str, Any], **document: Any) -> Plan:
    found = shot_list.of({"shots": [{"prompt": PROMPT} | each for each in shots], **document})
    return shooting(found, {"model": "builtin"}).plan


def test_shots_follow_each_other() -> None:
    plan = plan_of({"seconds": 2}, {"num_frames": 12}, {"seconds": 1}, defaults={"seed": 7})
    assert plan.task == "shots" and plan.num_frames == 16 + 12 + 8
    assert [frame for frame, _ in plan.prompt_at] == [16, 28]
    assert [shot.plan.seed for shot in plan.shots] == [7, 8, 9]


def test_a_cross_fade_shortens_the_film() -> None:
    plan = plan_of({}, {}, {}, fade=4)
    assert plan.num_frames == 3 * 16 - 2 * 4 and [frame for frame, _ in plan.prompt_at] == [12, 24]


def test_a_shot_that_begins_from_the_one_before_does_not_repeat_its_last_frame() -> None:
    plan = plan_of({}, {"begins": "previous"})
    assert plan.num_frames == 31 and plan.shots[1].plan.strength == 0.85


def test_a_drawn_seed_is_that_of_the_first_shot_and_counts_on() -> None:
    plan = plan_of({}, {"seed": 5}, {})
    first, second, third = (shot.plan.seed for shot in plan.shots)
    assert (second, third) == (5, first + 2) and plan.seed == first


def test_a_seed_out_of_range_is_refused_and_not_wrapped() -> None:
    with pytest.raises(RequestError, match="shot 1.*seed=-1"):
        plan_of({}, {}, defaults={"seed": -1})


def test_equal_shots_have_equal_keys_and_other_fades_do_not() -> None:
    defaults = {"seed": 7}
    assert plan_of({}, {}, defaults=defaults).key() == plan_of({}, {}, defaults=defaults).key()
    assert plan_of({}, {}, defaults=defaults, fade=2).key() != plan_of({}, {}, defaults=defaults).key()


@pytest.mark.parametrize(
    ("shots", "fade", "message"),
    [
        (({}, {"upscale": "2x"}), 0, "256x256.*size of shot 2 and must be 128x128"),
        (({}, {"fps": 12}), 0, "frame rate of shot 2"),
        (({"begins": "previous"},), 0, "shot 1.*no shot before the first"),
        (({}, {"num_frames": 4}, {}), 4, "hold a fade of 2"),
        (({"seconds": 100},), 0, "makes 0.12 to 32 seconds"),
        (({"num_frames": 8, "seconds": 1},), 0, "cannot be combined"),
        (({"prompt": ""},), 0, "shot 1.*is empty"),
        (({}, {"camera": "left"}), 0, "shot 2.*choose pan-left"),
        (({"seed": -1},), 0, "shot 1.*seed=-1"),
    ],
)
def test_shots_that_do_not_join_are_refused(shots: tuple[dict[str, Any], ...], fade: int, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        plan_of(*shots, fade=fade)


def test_a_picture_of_a_subject_is_refused_if_no_model_reads_references(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "hero.png")
    subjects = {"hero": {"words": "a red circle", "image": str(tmp_path / "hero.png")}}
    document = {"subjects": subjects, "shots": [{"prompt": "{hero} moving left"}]}
    with pytest.raises(RequestError, match="builtin takes no reference images.*wan-2.1-vace"):
        shooting(shot_list.of(document), {"model": "builtin"})
    plan = shooting(shot_list.of(document), {"model": "wan-2.1-vace-1.3b"}).plan
    assert len(plan.shots[0].plan.reference_images) == 1 and plan.shots[0].plan.prompt == "a red circle moving left"


def test_a_camera_move_is_words_for_models_that_read_it_and_a_moving_view_for_the_others() -> None:
    document = {"shots": [{"prompt": "a fox runs.", "camera": "pan-left"}]}
    (shot,) = shooting(shot_list.of(document), {"model": "wan-2.2-5b"}).plan.shots
    assert shot.plan.prompt == "a fox runs. The camera pans to the left." and shot.plan.polish.camera == ""
    assert plan_of({"camera": "pan-left"}).shots[0].plan.polish.camera == "pan-left"


def test_a_model_without_image_input_cannot_begin_from_a_shot() -> None:
    document = {"shots": [{"prompt": "a fox"}, {"prompt": "a fox", "begins": "previous"}]}
    with pytest.raises(RequestError, match="shot 2.*cogvideox-2b cannot begin from an image.*choose builtin"):
        shooting(shot_list.of(document), {"model": "cogvideox-2b"})


@pytest.mark.parametrize(
    ("model", "frames", "overlap", "made"),
    [("builtin", 16, 8, 23), ("wan-2.1-1.3b", 81, 17, 97), ("ltx-video", 161, 25, 185), ("ltx-video", 249, 9, 257)],
)
def test_a_shot_begins_from_the_latents_of_the_one_before(model: str, frames: int, overlap: int, made: int) -> None:
    shots = [{"prompt": "a circle", "num_frames": frames}, {"prompt": "a circle", "num_frames": frames}]
    shots[1]["begins"] = "previous"
    found = shooting(shot_list.of({"shots": shots}), {"model": model})
    second = found.plan.shots[1].plan
    assert (second.overlap, second.num_frames, second.latents) == (overlap, made, "")
    assert found.plan.num_frames == 2 * frames - 1, "the last frame is not repeated"
    assert plan_again(found.request) == found.plan


@pytest.mark.parametrize(
    "changes",
    [
        {"fade": 2},
        {"camera": "zoom-in"},
        {"before": {"camera": "zoom-in"}},
        {"before": {"text": "one"}},
        {"num_frames": 256},
    ],
)
def test_a_shot_begins_from_the_last_frame_if_the_latents_do_not_fit(changes: dict[str, Any]) -> None:
    before, fade = changes.pop("before", {}), changes.pop("fade", 0)
    shots = [{"prompt": "a circle", **before}, {"prompt": "a circle", "begins": "previous", **changes}]
    found = shooting(shot_list.of({"shots": shots, "fade": fade}), {"model": "builtin"})
    second = found.plan.shots[1].plan
    assert second.overlap == 0 and second.num_frames == changes.get("num_frames", 16)
    assert found.request.shots is not None and found.request.shots[1].request.overlap is None
