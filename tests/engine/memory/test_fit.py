"""Whether a film fits a machine: on machines made by hand, and against what real runs take here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook import catalogue
from flickbook.catalogue import find
from flickbook.engine.memory import device, fit, footprint
from flickbook.engine.memory.fit import Machine, estimate
from flickbook.errors import RequestError
from flickbook.resolution import resolve
from flickbook.spec import Placement, Plan, Request

MIB, GIB = 2**20, 2**30
MODELSCOPE = "text-to-video-ms-1.7b"
MakePlan = Callable[..., Plan]


def machine(**changes: Any) -> Machine:
    """A machine made by hand: a laptop of 16 GiB, 12 of them free."""
    laptop = {"device": "cpu", "device_name": "a laptop", "memory_total": 16 * GIB, "memory_free": 12 * GIB}
    laptop |= {"gpu_total": 0, "gpu_free": 0, "disk_free": 10**12, "bf16": True, "cores": 4}
    return Machine(**{**laptop, **changes})


def card(gib: float, **changes: Any) -> Machine:
    """The same with a GPU of so many GiB, all but half a GiB of them free."""
    gpu = {"device": "cuda", "device_name": "a card", "gpu_total": int(gib * GIB), "gpu_free": int((gib - 0.5) * GIB)}
    return machine(**{**gpu, "memory_total": 64 * GIB, "memory_free": 60 * GIB, **changes})


SMALL = machine(memory_total=4 * GIB, memory_free=int(2.5 * GIB), bf16=False)


def film(model: str, **fields: Any) -> Plan:
    return resolve(Request.of(prompt="a panda surfing", model=model, seed=1, **fields))


def estimate_of(model: str, on: Machine, precision: str = "auto", records: Any = (), **plan: Any) -> fit.Estimate:
    return estimate(find(model), film(model, **plan), on, precision, None, records)


# ---- machines ----


def test_the_built_in_film_fits_a_small_laptop() -> None:
    answer = estimate_of("builtin", SMALL)
    assert answer.fits and answer.remedy == "" and answer.basis == "computed"
    assert answer.placement == Placement() and answer.download == 0
    assert 350 * MIB < answer.peak < 500 * MIB and answer.room == SMALL.memory_free


def test_a_film_too_large_for_a_laptop_is_refused_with_a_fitting_model() -> None:
    answer = estimate_of(MODELSCOPE, SMALL)
    assert not answer.fits and "--model builtin" in answer.remedy
    assert estimate_of("builtin", SMALL).fits


def test_a_processor_without_bfloat16_computes_in_float32() -> None:
    assert estimate_of(MODELSCOPE, machine(bf16=False)).placement.dtype == "float32"
    assert estimate_of(MODELSCOPE, machine()).placement.dtype == "bfloat16"
    assert estimate_of("builtin", machine()).placement.dtype == "float32"
    assert estimate_of(MODELSCOPE, card(24, bf16=False)).placement.dtype == "float16"


@pytest.mark.parametrize(("on", "dtype"), [(machine(), "bfloat16"), (machine(bf16=False), "float32")])
@pytest.mark.parametrize("speed", ["balanced", "turbo"])
def test_faster_speeds_use_bfloat16_where_the_cpu_supports_it(speed: str, on: Machine, dtype: str) -> None:
    assert estimate_of("builtin", on, speed=speed).placement.dtype == dtype


def test_a_card_of_8_gib_runs_modelscope_whole_and_larger_films_in_pieces() -> None:
    on = card(8)
    assert estimate_of(MODELSCOPE, on).placement == Placement(device="cuda", dtype="bfloat16", decode_frames=16)
    larger = estimate_of("zeroscope-v2-xl", on)
    assert larger.fits and larger.placement.device == "cuda" and larger.placement.decode_frames < 16
    assert larger.peak <= on.gpu_free


def test_a_24_gib_card_needs_fewer_fallbacks_than_an_8_gib_card() -> None:
    for model in ("zeroscope-v2-xl", "cogvideox-2b"):
        small, large = estimate_of(model, card(8)), estimate_of(model, card(24))
        assert large.fits and large.placement.device == "cuda"
        assert not small.fits or given_up(small.placement) >= given_up(large.placement)


def given_up(placement: Placement) -> tuple[bool, ...]:
    return (placement.device == "cpu", placement.offload != "none", placement.decode_frames < 16)


def test_a_card_of_80_gib_runs_a_model_of_14_billion_whole() -> None:
    answer = estimate_of("wan-2.1-14b", card(80, memory_free=200 * GIB))
    assert answer.fits and answer.placement == Placement(device="cuda", dtype="bfloat16", decode_frames=16)
    assert answer.basis == "believed"


def test_offloaded_weights_must_fit_into_host_memory() -> None:
    roomy, tight = card(8), card(8, memory_free=4 * GIB)
    waiting = estimate_of("wan-2.1-1.3b", roomy)
    assert waiting.fits and waiting.placement.offload != "none" and waiting.host > 10 * GIB
    answer = estimate_of("wan-2.1-1.3b", tight)
    assert not answer.fits and answer.host > answer.host_room == 4 * GIB


def test_a_film_too_large_for_the_gpu_falls_back_to_the_cpu() -> None:
    answer = estimate_of(MODELSCOPE, card(1))
    assert answer.fits and answer.placement.device == "cpu" and answer.placement.offload == "none"
    assert answer.device_name == device.device_name("cpu") and answer.room == 60 * GIB


def test_too_little_disk_space_is_a_reason() -> None:
    answer = estimate_of(MODELSCOPE, machine(disk_free=GIB))
    assert answer.download == 3_670_000_000
    assert not answer.fits and "2.6 GB of disk" in answer.remedy


# ---- remedies and precision ----


@pytest.mark.parametrize("free", [6, 7, 9])
def test_every_remedy_makes_the_film_fit(free: int) -> None:
    """Whatever is named makes a film that fits."""
    on, size = machine(memory_free=free * GIB, bf16=False), {"width": 1024, "height": 1024, "num_frames": 64}
    answer = estimate_of(MODELSCOPE, on, "bf16", **size)
    assert not answer.fits and answer.remedy
    words = answer.remedy.replace(",", " ").split()
    if "--size" in words:
        width, height = map(int, words[words.index("--size") + 1].split("x"))
        assert estimate_of(MODELSCOPE, on, "bf16", **{**size, "width": width, "height": height}).fits
    if "--num-frames" in words:
        count = int(words[words.index("--num-frames") + 1])
        assert estimate_of(MODELSCOPE, on, "bf16", **{**size, "num_frames": count}).fits
        assert not estimate_of(MODELSCOPE, on, "bf16", **{**size, "num_frames": count + 1}).fits
    if "--model" in words:
        assert estimate_of(words[words.index("--model") + 1], on).fits


def test_half_precision_is_a_remedy_for_float32() -> None:
    on = machine(memory_free=7 * GIB)
    assert estimate_of(MODELSCOPE, on).fits
    assert "--precision bf16" in estimate_of(MODELSCOPE, on, "fp32").remedy


@pytest.mark.parametrize("precision", ["fp64", "", "half", "fp16"])
def test_an_unknown_or_unavailable_precision_is_refused(precision: str) -> None:
    with pytest.raises(RequestError, match="precision"):
        estimate_of("builtin", machine(), precision)


def test_int8_needs_less_memory_than_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    on = card(80)
    if find_spec("torchao") is None:
        with pytest.raises(RequestError, match="precision=fp8: needs the package torchao"):
            estimate_of("wan-2.1-14b", on, "fp8")
    monkeypatch.setattr(fit, "find_spec", lambda name: object())  # as on a machine that has it
    sixteen, eight = estimate_of("wan-2.1-14b", on, "bf16"), estimate_of("wan-2.1-14b", on, "fp8")
    assert eight.weights < 0.7 * sixteen.weights and eight.placement.quantize == "fp8"


# ---- what grows ----

SIDES = st.integers(2, 16).map(lambda side: 64 * side)


@pytest.mark.slow
@given(SIDES, st.integers(2, 64), st.floats(2, 40))
def test_a_smaller_film_or_more_memory_still_fits(side: int, frames: int, free: float) -> None:
    model = find(MODELSCOPE)
    for on in (machine(memory_free=int(free * GIB)), card(free)):
        plan = film(MODELSCOPE, width=side, height=side, num_frames=frames)
        if estimate(model, plan, on).fits:
            assert estimate(model, film(MODELSCOPE, width=side, height=side, num_frames=frames - 1), on).fits
            roomier = replace(on, memory_free=2 * on.memory_free, gpu_free=2 * on.gpu_free)
            assert estimate(model, plan, roomier).fits


def test_every_fallback_needs_at_most_the_memory_of_the_one_before() -> None:
    model, plan = find("zeroscope-v2-xl"), film("zeroscope-v2-xl")
    placement: Placement | None = Placement(device="cuda", dtype="bfloat16", decode_frames=16)
    peaks, seen = [], []
    while placement is not None:
        needs = footprint.needs(model, plan, None, placement)
        peaks.append(needs.peak)
        seen.append(placement)
        placement = fit.lower(placement, needs.crowded, model.family)
    assert peaks == sorted(peaks, reverse=True) and len(seen) > 3
    assert seen[-1].offload == "model" and len({each.to_json() for each in seen}) == len(seen)


def test_installed_files_need_no_download(tmp_path: Path) -> None:
    model = find(MODELSCOPE)
    (tmp_path / "model_index.json").write_text("{}")
    assert estimate(model, film(MODELSCOPE), machine()).download > 0
    assert estimate(model, film(MODELSCOPE), machine(), directory=tmp_path).download == 0


@pytest.mark.slow
def test_every_model_of_the_catalogue_has_an_answer(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"x")
    for model in catalogue.list_models():
        begins = {} if "text" in model.inputs else {model.inputs[0]: str(picture)}
        begins |= dict.fromkeys(model.needs, str(picture))
        plan = film(model.name, **begins)
        for on in (SMALL, machine(), card(8), card(24), card(80), replace(machine(bf16=False), device="mps")):
            answer = estimate(model, plan, on)
            assert answer.fits == (answer.remedy == "")
            assert answer.peak > answer.weights >= 0 and answer.seconds is None
            assert 3 <= len(answer.lines()) <= 7 and max(map(len, answer.lines())) < 200
            assert json.loads(json.dumps(answer.to_dict()))["placement"]["dtype"] == answer.placement.dtype


# ---- what earlier runs say ----


def ran(**changes: Any) -> dict[str, Any]:
    """A record of ModelScope's default film on the laptop."""
    seconds = {"load": 10.0, "encode": 1.0, "denoise": 100.0, "decode": 20.0, "write": 1.0}
    entry = {"model": MODELSCOPE, "device": "cpu", "device_name": "a laptop", "dtype": "bfloat16", "steps": 25}
    entry |= {"width": 256, "height": 256, "frames": 16, "guided": True, "films": 1, "seconds": seconds}
    entry |= {"quantize": "", "offload": "none", "decode_frames": 2, "slicing": False, "tiling": False, "rungs": []}
    return {**entry, "peak_memory_bytes": 6_500_000_000, **changes}


def test_a_recorded_run_of_this_shape_is_used() -> None:
    answer = estimate_of(MODELSCOPE, machine(), records=[ran()])
    assert (answer.peak, answer.basis, answer.seconds) == (6_500_000_000, "measured", 132)


def test_seconds_are_scaled_by_steps_and_volume() -> None:
    half = estimate_of(MODELSCOPE, machine(), records=[ran()], num_inference_steps=50)
    assert half.seconds == 232 and half.basis == "measured"
    wide = estimate_of(MODELSCOPE, machine(), records=[ran()], width=512)
    assert wide.seconds == 10 + 1 + 200 + 40 + 2 and wide.basis == "computed"
    unguided = estimate_of(MODELSCOPE, machine(), records=[ran()], guidance_scale=1.0)
    assert unguided.seconds == 10 + 1 + 50 + 20 + 1


def test_the_median_of_the_most_similar_runs_is_used() -> None:
    runs = [ran(seconds={"load": 1.0, "denoise": float(each)}) for each in (90, 100, 1000)]
    far = [ran(seconds={"load": 1.0, "denoise": 1.0}, width=1024, height=1024, frames=64) for _ in range(9)]
    assert estimate_of(MODELSCOPE, machine(), records=[*far, *runs]).seconds == pytest.approx(91, rel=0.2)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "builtin"},
        {"device_name": "another"},
        {"dtype": "float32"},
        {"seconds": "many"},
        {"seconds": None},
        {"steps": 0},
    ],
)
def test_runs_of_other_models_or_devices_are_ignored(changes: dict[str, Any]) -> None:
    answer = estimate_of(MODELSCOPE, machine(), records=[ran(**changes), {}])
    assert answer.seconds is None


@pytest.mark.parametrize(
    "changes",
    [{"seconds": {"denoise": 1.0}}, {"rungs": ["decode: tiling"]}, {"films": 2}, {"peak_memory_bytes": 10**11}],
)
def test_a_recorded_peak_of_another_setup_is_not_used(changes: dict[str, Any]) -> None:
    assert estimate_of(MODELSCOPE, machine(), records=[ran(**changes)]).basis == "computed"


# ---- against what is ----


def test_estimating_imports_no_heavy_module() -> None:
    program = """
import sys
from flickbook import catalogue
from flickbook.engine.memory import run_history as records
from flickbook.engine.memory.fit import Machine, estimate
from flickbook.resolution import resolve
from flickbook.spec import Request
plan = resolve(Request(prompt="a red circle moving left", seed=1))
answer = estimate(catalogue.find("builtin"), plan, Machine.here(), records=records.read())
print(answer.fits, sorted({"torch", "numpy", "diffusers", "transformers"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[1].strip() == "[]"


_FRESH = """
import sys
from flickbook.engine.generate import generate
print(generate("a red circle", num_frames=int(sys.argv[1]), num_inference_steps=2, seed=1).run.peak_memory_bytes)
"""


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("frames", [1, 4, 16, 32])
def test_the_built_in_peak_is_estimated_within_15_percent(frames: int) -> None:
    """What a fresh process took, in float32 on a processor."""
    done = subprocess.run([sys.executable, "-c", _FRESH, str(frames)], capture_output=True, text=True, check=True)
    predicted = estimate_of("builtin", machine(), num_frames=frames).peak
    assert int(done.stdout) == pytest.approx(predicted, rel=0.15)


def test_a_motion_adapter_counts_with_its_base(data: Path, tmp_path: Path) -> None:
    """Its own directory has no model_index.json; nothing may stumble over that."""
    (tmp_path / "config.json").write_text("{}")
    model = find("animatediff").model_copy(update={"directory": str(tmp_path)})
    answer = estimate(model, film("animatediff"), machine(), "fp32", tmp_path)
    assert answer.weights == pytest.approx(4e9 * model.parameters, rel=0.1)
