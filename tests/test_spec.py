"""The records: what they hold, what they refuse, and that their JSON is canonical."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flickbook.errors import RequestError
from flickbook.keyframes import Keyframe
from flickbook.spec import (
    Encoding,
    Lora,
    Network,
    Placement,
    Plan,
    PlannedShot,
    Polish,
    Recipe,
    Record,
    Request,
    Run,
    Sidecar,
    Step,
    Treatment,
    schema,
)

PLAN = Plan(
    task="film",
    model="builtin",
    revision="0123456789ab",
    prompt="a réd circle",
    negative_prompt="",
    width=128,
    height=128,
    num_frames=16,
    fps=8.0,
    num_inference_steps=25,
    guidance_scale=3.0,
    seed=7,
    scheduler="ddim",
    container="mp4",
    codec="h264",
    quality=69,
    pixel_format="yuv420p",
)
CANONICAL = (
    '{"codec":"h264","condition_fps":null,"conditions":[],"container":"mp4","control":"","control_video":"","drift":null,'
    '"face_video":"","fade":0,"feedback":null,"fps":8.0,"guidance_scale":3.0,"height":128,'
    '"image":"","last_image":"","latent_upsample":"","latents":"","loras":[],"mask":"","model":"builtin","negative_prompt":"","num_frames":16,"num_inference_steps":25,'
    '"overlap":0,"pixel_format":"yuv420p","polish":{"camera":"","interpolate":1,"interpolator":null,"loop":"","rate":null,"speed":1.0,'
    '"steady":0.0,"text":"","trim":null,"upscale":1,"upscaler":null},"prompt":"a r\\u00e9d circle","prompt_at":[],'
    '"quality":69,"reference_images":[],"revision":"0123456789ab","scheduler":"ddim","schema_version":2,"seed":7,"shots":[],"speed":"exact","strength":null,'
    '"stride":0,"task":"film","video":"","width":128,"window":0}'
)
GUIDED: dict[str, Any] = {
    "last_image": "a" * 64,
    "conditions": (Keyframe(image="b" * 64, frame=8, strength=0.5),),
    "reference_images": ("c" * 64,),
    "control_video": "d" * 64,
    "control": "edges",
    "face_video": "f" * 64,
    "mask": "e" * 64,
    "latents": "f" * 64,
    "overlap": 8,
    "latent_upsample": "refine",
}
RECIPE = Recipe(
    plan=PLAN,
    placement=Placement(),
    weights={"unet/model.safetensors": "0" * 64},
    frames_sha256="f" * 64,
    versions={"torch": "2.13.0"},
    device_name="a processor",
)
TREATMENT = Treatment(
    sources=("a" * 64,),
    polish=Polish(trim=(2, 8)),
    width=9,
    height=9,
    num_frames=16,
    fps=8.0,
    container="gif",
    origin=RECIPE,
)
RUN = Run(seconds={"denoise": 1.5}, peak_memory_bytes=1, started_at="a", finished_at="b")


def changed(**values: object) -> Plan:
    return Plan.of(**{**PLAN.model_dump(), **values})


def test_the_canonical_json_of_a_plan_and_its_key() -> None:
    assert PLAN.to_json() == CANONICAL
    other = changed(speed="balanced", stride=4, condition_fps=28.0, prompt='"speed":"exact",', **GUIDED)
    text = other.to_json().replace('"camera":"",', "").replace('"fade":0,', "").replace('"shots":[],', "")
    assert other.key() == hashlib.sha256(text.encode()).hexdigest()


def older(text: str) -> str:
    """The JSON of a Plan without the fields that were added later."""
    values = json.loads(text)
    for later in ("speed", "stride", "condition_fps", "shots", "fade", *GUIDED):
        del values[later]
    del values["polish"]["camera"]
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def test_a_plan_that_was_kept_keeps_its_key() -> None:
    """A job that was paused before there was speed goes on from its checkpoint, which knows it by its key."""
    before = older(CANONICAL)
    assert PLAN.key() == hashlib.sha256(before.encode()).hexdigest()
    assert Plan.from_json(before) == PLAN
    quoted = changed(prompt='"speed":"exact",')
    before = older(quoted.to_json())
    assert quoted.key() == hashlib.sha256(before.encode()).hexdigest() and Plan.from_json(before) == quoted


@pytest.mark.parametrize("record", [PLAN, RECIPE, RUN, TREATMENT, Placement(), Request(prompt="x")])
def test_a_record_survives_json(record: Record) -> None:
    again = type(record).from_json(record.to_json())
    assert again == record
    assert again.to_json() == record.to_json()


def test_every_field_of_a_plan_changes_its_key() -> None:
    others = {
        "task": "picture",
        "model": "other",
        "revision": "other",
        "prompt": "other",
        "negative_prompt": "other",
        "width": 64,
        "height": 64,
        "num_frames": 8,
        "fps": 9.0,
        "num_inference_steps": 5,
        "guidance_scale": 1.0,
        "seed": 8,
        "scheduler": "unipc",
        "window": 16,
        "stride": 4,
        "condition_fps": 28.0,
        "prompt_at": ((8, "other"),),
        "image": "a" * 64,
        "video": "b" * 64,
        **GUIDED,
        "strength": 0.5,
        "loras": (Lora(name="other", sha256="c" * 64),),
        "speed": "balanced",
        "drift": 0.5,
        "feedback": 0.5,
        "shots": (PlannedShot(plan=PLAN),),
        "fade": 2,
        "audio": "e" * 64,
        "audio_fit": "loop",
        "audio_fade": 0.5,
        "polish": Polish(upscale=2, upscaler=Network(name="n", sha256="d" * 64)),
        "container": "png",
        "codec": "av1",
        "quality": "lossless",
        "pixel_format": "gbrp",
    }
    assert set(others) == set(Plan.model_fields) - {"schema_version"}
    keys = {changed(**{field: value}).key() for field, value in others.items()} | {PLAN.key()}
    assert len(keys) == len(others) + 1


def test_a_film_without_a_track_has_the_record_it_always_had() -> None:
    """The fields of the sound are in the text only if they are set, so older recipes and keys stay as they are."""
    assert "audio" not in PLAN.to_json()
    assert '"audio":"none"' in changed(audio="none").to_json()
    track = changed(audio="e" * 64, audio_fit="trim", audio_fade=1.5)
    assert Plan.from_json(track.to_json()) == track and Plan.from_json(PLAN.to_json()) == PLAN
    assert track.track() == "e" * 64 and changed(audio="none").track() == PLAN.track() == ""


def test_shape_is_what_a_batch_must_share() -> None:
    alike = {"prompt": "b", "negative_prompt": "n", "seed": 9, "fps": 12.0, "guidance_scale": 9.0}
    apart = {"model": "m", "revision": "r", "width": 64, "height": 64, "num_frames": 8, "num_inference_steps": 9}
    assert changed(**alike).shape() == PLAN.shape()
    apart |= {"image": "a" * 64, "video": "b" * 64, "strength": 0.5, "loras": (Lora(name="l", sha256="c" * 64),)}
    for field, value in {**apart, **GUIDED, "scheduler": "unipc", "guidance_scale": 1.0, "speed": "balanced"}.items():
        assert changed(**{field: value}).shape() != PLAN.shape(), field


def test_a_plan_knows_no_machine() -> None:
    """The committed list: a field that one machine decides belongs to Placement."""
    words = "audio audio_fit audio_fade container codec quality pixel_format "
    words += "schema_version task model revision prompt negative_prompt width height num_frames fps"
    words += " num_inference_steps guidance_scale seed scheduler window stride condition_fps"
    words += " prompt_at image video last_image conditions reference_images control_video control face_video mask"
    words += " latents overlap latent_upsample"
    words += " strength loras speed"
    words += " drift feedback shots fade polish"
    assert list(Plan.model_fields) == words.split()
    assert set(Plan.model_fields).isdisjoint(Placement.model_fields)


def test_a_recipe_holds_nothing_that_changes_between_equal_runs() -> None:
    words = "schema_version plan placement weights frames_sha256 audio_sha256 versions device_name kernels shots"
    assert list(Recipe.model_fields) == words.split()
    assert set(Recipe.model_fields).isdisjoint(Run.model_fields)


def test_every_choice_of_a_request_may_be_left_to_the_model() -> None:
    request = Request(prompt="x")
    unset = {name for name in Request.model_fields if getattr(request, name) is None}
    assert unset == set(Request.model_fields) - {"prompt", "model"}


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError):
        PLAN.seed = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"num_frames": "16"}, "num_frames"),
        ({"num_frames": True}, "num_frames"),
        ({"num_frames": 0}, "num_frames"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"fps": 0.0}, "fps"),
        ({"fps": math.nan}, "fps"),
        ({"guidance_scale": math.inf}, "guidance_scale"),
        ({"container": "avi"}, "container"),
        ({"schema_version": 3}, "schema_version"),
        ({"quality": 101}, "quality.constrained-int"),
        ({"device": "cuda"}, "device"),
    ],
)
def test_a_plan_refuses_what_it_cannot_hold(values: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        changed(**values)
    assert caught.value.field == field


def test_a_hash_must_be_a_hash() -> None:
    with pytest.raises(RequestError, match="frames_sha256"):
        Recipe.of(**{**RECIPE.model_dump(), "frames_sha256": "F" * 64})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(RequestError, match="container=: missing from the Plan; add it"):
        Plan.from_json("{}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([Plan, Recipe, Run, Request, Placement]), st.text() | st.binary() | JSON.map(json.dumps))
def test_any_text_is_a_record_or_refused(kind: type[Record], text: str | bytes) -> None:
    try:
        record = kind.from_json(text)
    except RequestError:
        return
    assert kind.from_json(record.to_json()) == record


@given(st.sampled_from(sorted(Plan.model_fields)), JSON)
def test_a_plan_with_any_one_field_replaced_is_whole_or_refused(field: str, value: object) -> None:
    text = json.dumps({**json.loads(CANONICAL), field: value})
    try:
        plan = Plan.from_json(text)
    except RequestError as error:
        assert str(error).startswith((field, "Plan"))
        return
    assert Plan.from_json(plan.to_json()) == plan


def test_a_step_needs_no_preview() -> None:
    step = Step("denoise", 1, 25, 0.5)
    assert step.preview is None


def test_a_recipe_of_schema_1_is_read() -> None:
    """As films that were made before carry it: what it lacks was not to be had."""
    old = json.loads(RECIPE.to_json())
    del old["kernels"]
    for name in ("polish", "codec", "quality", "pixel_format"):
        del old["plan"][name]
    old["schema_version"] = old["plan"]["schema_version"] = 1
    recipe = Recipe.from_json(json.dumps(old))
    assert isinstance(recipe.plan, Plan) and recipe.plan.polish.nothing() and recipe.plan.encoding() is None
    assert PLAN.encoding() == Encoding(container="mp4", codec="h264", quality=69, pixel_format="yuv420p")


def test_the_published_schema_is_that_of_the_records() -> None:
    published = Path(__file__).parents[1] / "docs" / "recipe.schema.json"
    write = "write it anew: python -m flickbook.spec > docs/recipe.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == schema(), write
    assert set(schema()["$defs"]) >= {"Recipe", "Run", "Plan", "Treatment", "Polish", "Placement"}
    assert all(each.get("description") for each in schema()["$defs"].values())
    assert set(schema()["properties"]) == set(Sidecar.model_fields)
