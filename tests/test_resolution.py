"""From a request to a Plan: defaults, limits, and that nothing but a Plan or a refusal ever comes out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook import catalogue
from flickbook.catalogue import Model, Whole, find, list_models
from flickbook.errors import MediaError, ModelNotFound, RequestError, SchedulerMismatch, WeightsError
from flickbook.resolution import notes, resolve, usual
from flickbook.spec import Plan, Request


def plan(**fields: object) -> Plan:
    return resolve(Request.of(**{"prompt": "a red circle", **fields}))


def test_the_models_choice() -> None:
    made = plan()
    assert (made.model, made.width, made.height, made.num_frames, made.fps) == ("builtin", 128, 128, 16, 8.0)
    assert (made.num_inference_steps, made.scheduler, made.container, made.task) == (25, "ddim", "mp4", "film")
    assert made.guidance_scale == find("builtin").guidance_scale.default


def test_what_is_asked_for_is_kept() -> None:
    fields = dict(
        negative_prompt="red, a blue square",
        num_frames=8,
        num_inference_steps=5,
        guidance_scale=2.5,
        fps=12.5,
        seed=2**63 - 1,
        width=128,
        height=128,
        scheduler="unipc",
        container="mp4",
    )
    made = plan(**fields)
    assert {name: getattr(made, name) for name in fields} == fields


def test_sizes_that_are_not_native() -> None:
    made = plan(model="text-to-video-ms-1.7b", width=320)
    assert (made.width, made.height, made.revision) == (320, 256, find(made.model).commit)
    for fields, message in (
        (
            {"width": 300},
            "width=300: each side must be 128 to 1024 and a multiple of 64; ask for 320x256; .* at 256x256",
        ),
        ({"height": 64}, "height=64: .*; ask for 256x128;"),
        ({"height": 9000}, "height=9000: .*; ask for 256x1024, or make 256x256 and add --upscale 4x"),
    ):
        with pytest.raises(RequestError, match=message):
            plan(model="text-to-video-ms-1.7b", **fields)


def test_long_films_are_made_of_windows() -> None:
    assert plan(num_frames=16).window == 0 and plan(num_frames=17).window == 16
    assert plan(model="text-to-video-ms-1.7b", num_frames=64).window == 0
    long = plan(model="zeroscope-v2-576w", num_frames=25)
    assert (long.window, long.stride) == (24, 6) and plan(model="zeroscope-v2-576w").window == 0
    short, long = plan(model="videocrafter2"), plan(model="videocrafter2", num_frames=17)
    assert (short.window, short.stride, short.scheduler, short.condition_fps) == (0, 0, "ddim-eta1", 28.0)
    assert (long.window, long.stride, long.scheduler, long.condition_fps) == (16, 4, "ddim", 28.0)


def test_several_prompts_along_time() -> None:
    made = plan(num_frames=48, prompt_at=((32, " noon "), (16, "dawn")))
    assert made.prompt_at == ((16, "dawn"), (32, "noon"))
    assert made.shape() != plan(num_frames=48).shape()
    for wrong, message in (
        (((48, "late"),), "prompt_at=48: must be a frame from 1 to 47"),
        (((0, "first"),), "prompt_at=0: must be a frame from 1 to 47"),
        (((8, "a"), (8, "b")), "prompt_at=8: has two prompts"),
        (((24, " "),), "prompt_at= : is empty"),
        (((5, "b"),), "prompt_at=0: this prompt is too short: no window of 16 frames has its middle"),
        (((44, "b"),), "prompt_at=44: this prompt is too short: no window of 16 frames has its middle"),
    ):
        with pytest.raises(RequestError, match=message):
            plan(num_frames=48, prompt_at=wrong)


def test_frames_that_come_in_steps(data: Path) -> None:
    frames = Whole(range=(5, 81), default=49, every=4)
    catalogue.add(find("builtin").model_copy(update={"name": "stepped", "num_frames": frames}))
    assert plan(model="stepped").num_frames == 49 and plan(model="stepped", num_frames=81).num_frames == 81
    with pytest.raises(RequestError, match="num_frames=50: must be 5, 9, 13 and so on; ask for 49 or 53"):
        plan(model="stepped", num_frames=50)


def test_an_unset_seed_is_drawn_for_each_plan() -> None:
    assert len({plan().seed for _ in range(20)}) == 20
    assert plan(seed=0).seed == 0


@pytest.mark.parametrize("fields", [{"container": "png"}, {"num_frames": 1}, {"container": "png", "num_frames": 1}])
def test_a_still(fields: dict[str, object]) -> None:
    made = plan(**fields)
    assert (made.task, made.num_frames, made.container) == ("picture", 1, "png")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ""}, 'prompt=: is empty; describe the film, for example "a red circle moving left"'),
        ({"prompt": " \n\t "}, "is empty"),
        ({"prompt": "x" * 2001}, "has 2001 characters, must be at most 2000; shorten it"),
        ({"prompt": "x" * 10**6}, "has 1000000 characters"),
        ({"prompt": "a\x1b[31mred"}, "contains the control character U\\+001B"),
        ({"prompt": "a\ud800"}, "contains the control character U\\+D800"),
        ({"negative_prompt": "\x00x"}, "negative_prompt=.*U\\+0000"),
        ({"num_frames": 999}, "^num_frames=999: must be 1 to 256; ask for 256 frames or fewer$"),
        ({"num_frames": 0}, "^num_frames=0: must be 1 to 256; ask for 1 or more$"),
        ({"num_frames": 10**5000}, "num_frames=a number too long to print: must be 1 to 256"),
        ({"num_inference_steps": -5}, "num_inference_steps=-5: must be 1 to 100"),
        ({"guidance_scale": 0.5}, "guidance_scale=0.5: must be 1 to 20"),
        ({"guidance_scale": 20.1}, "guidance_scale=20.1: must be 1 to 20; ask for 20 or less"),
        ({"fps": 0.0}, "fps=0.0: must be 1 to 60"),
        ({"seed": -1}, "seed=-1: must be 0 to 9223372036854775807"),
        ({"seed": 2**63}, "seed=9223372036854775808"),
        ({"width": 100}, "width=100: builtin makes 128x128; ask for 128x128 or leave the size out$"),
        ({"width": 10**5000}, "builtin makes 128x128; make 128x128 and add --upscale 4x, which gives 512x512$"),
        ({"width": 128, "height": 130}, "height=130: builtin makes 128x128"),
        ({"container": "png", "num_frames": 2}, "num_frames=2: png files have one frame"),
        ({"container": "mp4", "num_frames": 1}, "num_frames=1: mp4 files need 2 frames or more"),
    ],
)
def test_refusals_name_field_value_limit_and_remedy(fields: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        plan(**fields)


def test_limits_are_inclusive() -> None:
    assert plan(prompt="x" * 2000 + " \n").prompt == "x" * 2000
    assert plan(num_frames=256, num_inference_steps=100, guidance_scale=20.0, fps=60.0).num_inference_steps == 100
    assert plan(num_frames=2, num_inference_steps=1, guidance_scale=1.0, fps=1.0).guided() is False


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ModelNotFound, match="did you mean builtin") as caught:
        plan(model="Bultin")
    assert caught.value.nearest == ("builtin",)
    with pytest.raises(ModelNotFound) as caught:
        plan(model="z" * 10**6)
    assert caught.value.nearest == ()


def test_a_scheduler_that_does_not_fit_names_those_that_do() -> None:
    with pytest.raises(SchedulerMismatch, match="does not fit model builtin; choose one of ddim, dpm\\+\\+, unipc"):
        plan(scheduler="euler")


FIELDS = st.fixed_dictionaries(
    {"prompt": st.text() | st.just("a red circle")},
    optional={
        "model": st.just("builtin") | st.text(),
        "negative_prompt": st.none() | st.text(),
        "num_frames": st.none() | st.integers(-2, 20) | st.integers(250, 260) | st.integers(),
        "num_inference_steps": st.none() | st.integers(-2, 120) | st.integers(),
        "guidance_scale": st.none() | st.floats(0, 25) | st.floats(),
        "fps": st.none() | st.floats(0, 70) | st.floats(),
        "seed": st.none() | st.integers(-1, 2**63) | st.integers(),
        "width": st.none() | st.just(128) | st.integers(),
        "height": st.none() | st.just(128) | st.integers(),
        "scheduler": st.none() | st.sampled_from(["ddim", "dpm++", "unipc"]) | st.text(),
        "container": st.none() | st.sampled_from(["mp4", "png", "gif"]),
    },
)


@given(FIELDS)
def test_any_request_gives_a_plan_that_survives_json_or_a_refusal(fields: dict[str, object]) -> None:
    try:
        made = resolve(Request.of(**fields))
    except RequestError as error:
        assert error.field
        assert "\n" not in str(error)
        return
    assert Plan.from_json(made.to_json()) == made
    assert len(made.key()) == 64


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Any file: its pixels are not looked at here."""
    path = tmp_path / "begin.png"
    path.write_bytes(b"pixels")
    return path


def test_a_film_that_begins_from_a_picture_knows_its_hash(picture: Path) -> None:
    made = plan(image=str(picture))
    assert made.image == hashlib.sha256(b"pixels").hexdigest() and made.video == ""
    strength = find("builtin").strength
    assert strength is not None and made.strength == strength.default
    assert plan(image=str(picture), strength=0.5).strength == 0.5
    assert plan().strength is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": "P", "video": "P"}, "video=P: a film starts from one input; pass either --image or --video"),
        ({"strength": 0.5}, "strength=0.5: has no effect without an image or a video; leave it out"),
        ({"image": "P", "strength": 1.5}, "strength=1.5: must be 0.05 to 1; ask for 1 or less"),
        (
            {"image": "P", "strength": 0.05, "num_inference_steps": 4},
            "strength=0.05: leaves no step of 4; ask for",
        ),
        ({"image": "P", "model": "cogvideox-2b"}, "image=P: cogvideox-2b starts from text or video; leave it out, or"),
        ({"model": "stable-video-diffusion"}, "image=: stable-video-diffusion starts from image; add --image PATH"),
        (
            {"image": "P", "model": "stable-video-diffusion", "strength": 0.5},
            "strength=0.5: stable-video-diffusion does",
        ),
        ({"loras": (("P", 11.0),)}, "lora=11.0: its weight must be -10 to 10"),
    ],
)
def test_what_a_model_cannot_begin_from(picture: Path, fields: dict[str, object], message: str) -> None:
    fields = {name: str(picture) if value == "P" else value for name, value in fields.items()}
    if "loras" in fields:
        fields["loras"] = ((str(picture), 11.0),)
    with pytest.raises(RequestError) as refusal:
        plan(**fields)
    text = str(refusal.value)
    for field in ("image=", "video="):  # long paths are shortened
        if text.startswith(field):
            text = f"{field}P{text[text.index(': ') :]}" if not text.startswith("image=:") else text
    assert text.startswith(message)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="nothing.png: No such file"):
        plan(image=str(tmp_path / "nothing.png"))
    with pytest.raises(WeightsError, match="nothing.safetensors: No such file"):
        plan(loras=((str(tmp_path / "nothing.safetensors"), 1.0),))


def test_a_model_that_takes_no_words_needs_none(picture: Path) -> None:
    assert plan(prompt="", image=str(picture), model="stable-video-diffusion").prompt == ""


def test_loras_are_known_by_their_hash(picture: Path) -> None:
    (lora,) = plan(loras=((str(picture), 0.5),)).loras
    assert (lora.name, lora.weight, lora.sha256) == ("begin", 0.5, hashlib.sha256(b"pixels").hexdigest())


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_what_is_usual_is_what_is_made_when_nothing_is_asked_for(model: Model) -> None:
    made = usual(model)
    if "text" in model.inputs and not model.needs:
        unset = resolve(Request(prompt="a film", model=model.name, seed=0))
        assert made == unset
    assert (made.width, made.height) == model.sizes[0] and made.num_frames == model.num_frames.default


@pytest.mark.parametrize("model", ["flux-schnell", "sdxl-turbo"])
def test_a_negative_prompt_is_refused_where_guidance_is_fixed(model: str) -> None:
    with pytest.raises(RequestError, match=r"^negative_prompt=rain: has no effect"):
        plan(model=model, negative_prompt="rain")
    assert plan(model=model, negative_prompt=" ").negative_prompt == ""


def test_negative_words_that_the_model_never_learned_are_left_out_and_named() -> None:
    request = Request(prompt="a red circle", negative_prompt="blurry, grainy, a green star")
    made = resolve(request)
    assert made.negative_prompt == "a green star"
    assert notes(request, made) == ['builtin did not learn "blurry", "grainy": left out of the negative prompt']
    other = Request(prompt="a red circle", model="text-to-video-ms-1.7b", negative_prompt="blurry, low quality")
    assert resolve(other).negative_prompt == "blurry, low quality" and notes(other, resolve(other)) == []


def test_a_guidance_that_spoils_the_built_in_film_is_told() -> None:
    request = Request(prompt="a red circle", guidance_scale=8.0)
    assert [note.partition(":")[0] for note in notes(request, resolve(request))] == [
        "guidance 8 is far above 2.5, the best measured value of builtin"
    ]
    assert notes(request, resolve(request.model_copy(update={"guidance_scale": 4.0}))) == []


def test_a_preset_fills_what_is_unset_and_tells_where_it_leaves_the_advice() -> None:
    request = Request(prompt="a panda", model="text-to-video-ms-1.7b", preset="recommended")
    made = resolve(request)
    assert (made.num_frames, made.num_inference_steps, made.guidance_scale, made.fps) == (16, 25, 9.0, 8.0)
    assert made.negative_prompt.startswith("blurry, low quality") and notes(request, made) == []
    changed = resolve(request.model_copy(update={"guidance_scale": 3.0, "num_frames": 4, "negative_prompt": ""}))
    assert (changed.guidance_scale, changed.num_frames, changed.negative_prompt, changed.fps) == (3.0, 4, "", 8.0)
    large = Request(prompt="a panda", model="wan-2.1-1.3b", preset="recommended", num_inference_steps=40)
    (note,) = notes(large, resolve(large))
    assert note == (
        "preset recommended: 81 frames, guidance 5, 16 frames per second, as recommended for wan-2.1-1.3b, "
        "instead of 16 to 24 frames, guidance 7 to 9, 6 to 8 frames per second"
    )


def test_a_preset_inside_the_advice_tells_what_was_published() -> None:
    request = Request(prompt="a panda", model="videocrafter2", preset="recommended")
    made = resolve(request)
    assert (made.num_frames, made.num_inference_steps, made.guidance_scale, made.fps) == (16, 30, 9.0, 8.0)
    assert notes(request, made) == [
        "preset recommended: videocrafter2 was published with 50 steps, guidance 12, 10 frames per second; "
        "they apply without the preset"
    ]
    changed = request.model_copy(update={"num_inference_steps": 40, "guidance_scale": 12.0, "fps": 10.0})
    assert notes(changed, resolve(changed)) == []


def test_a_preset_leaves_a_picture_one_frame_and_a_fixed_guidance_alone() -> None:
    request = Request(prompt="a panda", model="flux-schnell", preset="recommended")
    made = resolve(request)
    assert (made.task, made.guidance_scale, made.num_inference_steps) == ("picture", 1.0, 4)
    (note,) = notes(request, made)
    assert note.startswith("preset recommended: 4 steps, guidance 1, as recommended for flux-schnell, instead of")
    assert resolve(Request(prompt="a star", preset="recommended", container="png")).num_frames == 1
