"""Films of ten extensions, each begun from the last frame's pixels or from the kept latents:
`python -m bench.continuing [--joints 10] [--steps 25] [--frames 16] [--out FILE.json] [--report PAGE.md]`.

Both films begin with the same part and have the same prompts, seeds and lengths. A joint is compared with the frames
beside it: the PSNR between its two frames with the mean PSNR between neighbouring frames inside the parts, and the
distance of their mean colours (Delta E, CIE 1976) likewise. `drift` is the distance of the mean colours of a part and
of the first one. A part that repeats frames (the last one, or the overlap) is compared without them, as it is joined.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np

from flickbook.catalogue import find
from flickbook.conditioning import overlap_of
from flickbook.engine.films import RunOptions, films
from flickbook.engine.kept_latents import KeptLatents
from flickbook.engine.sources import overlapping
from flickbook.media.clip import Clip, frames_sha256
from flickbook.media.metrics.similarity import psnr
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request

PROMPTS: Final = (
    "a red circle moving left on a blue background",
    "a small yellow star spinning on a black background",
    "a peaceful sunset over mountain ranges",
)
WAYS: Final = ("pixels", "latents")
MODEL: Final = "builtin"
#: The most that the PSNR (dB) of two equal frames counts in a mean.
_MOST: Final = 60.0
#: Linear sRGB to CIE XYZ, divided by the white D65 (IEC 61966-2-1).
_XYZ: Final = np.array([[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0178, 0.1095, 0.8727]])


def lab(frame: np.ndarray) -> np.ndarray:
    """The mean colour of a frame (h, w, 3) uint8 in CIE L*a*b*."""
    rgb = frame.reshape(-1, 3) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4).mean(axis=0)
    xyz = _XYZ @ linear
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _apart(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """How far two frames differ."""
    return {"psnr": min(_MOST, psnr(one, other)), "colour": float(np.linalg.norm(lab(one) - lab(other)))}


def film(prompt: str, way: str, joints: int, common: dict[str, Any]) -> list[np.ndarray]:
    """The parts of a film as they are joined, frames (n, h, w, 3) uint8 each."""
    seed, model = 7, find(MODEL)
    first = resolve(Request.of(prompt=prompt, model=MODEL, seed=seed, **common))
    clip = next(films([first]))
    parts = [clip.frames]
    for joint in range(1, joints + 1):
        if way == "pixels":
            request = Request.of(prompt=prompt, model=MODEL, seed=seed + joint, **common)
            plan, options, repeated = _from_pixels(resolve(request, image_follows=True), clip)
        else:
            overlap = overlap_of(model, first.num_frames, first.num_frames)
            longer = {**common, "num_frames": first.num_frames + overlap - 1}
            request = Request.of(prompt=prompt, model=MODEL, seed=seed + joint, overlap=overlap, **longer)
            plan, options, repeated = _from_latents(resolve(request, image_follows=True), clip)
        clip = next(films([plan], options))
        parts.append(clip.frames[repeated:])
    return parts


def _from_pixels(plan: Plan, before: Clip) -> tuple[Plan, RunOptions, int]:
    frame = before.frames[-1:]
    digest = frames_sha256(frame)
    return plan.model_copy(update={"image": digest}), RunOptions(sources={digest: frame}), 1


def _from_latents(plan: Plan, before: Clip) -> tuple[Plan, RunOptions, int]:
    assert before.latents is not None
    plan = plan.model_copy(update={"latents": hashlib.sha256(before.latents).hexdigest()})
    kept = overlapping(KeptLatents.from_bytes(before.latents), plan)
    return plan, RunOptions(sources={f"latents:{plan.latents}": kept}), plan.overlap


def measured(parts: list[np.ndarray]) -> dict[str, Any]:
    """What is measured of a film: its joints, the frames inside its parts, and the drift of each part."""
    inside = [_apart(*pair) for part in parts for pair in zip(part, part[1:], strict=False)]
    joints = [_apart(one[-1], other[0]) for one, other in zip(parts, parts[1:], strict=False)]
    colours = [np.mean([lab(frame) for frame in part], axis=0) for part in parts]
    drift = [float(np.linalg.norm(colour - colours[0])) for colour in colours[1:]]
    beside = [
        mean(_apart(*pair)["psnr"] for pair in ((one[-2], one[-1]), (other[0], other[1])))
        for one, other in zip(parts, parts[1:], strict=False)
    ]
    return {
        "inside": {name: mean(each[name] for each in inside) for name in ("psnr", "colour")},
        "joints": [
            each | {"beside": near, "drift": far} for each, near, far in zip(joints, beside, drift, strict=True)
        ],
    }


def sheet(parts: list[np.ndarray]) -> np.ndarray:
    """Two frames on each side of every joint, a row a joint."""
    pairs = zip(parts, parts[1:], strict=False)
    return np.concatenate([np.concatenate([*one[-2:], *other[:2]], axis=1) for one, other in pairs])


def report(found: dict[str, Any]) -> str:
    """The tables of a measurement as Markdown."""
    lines = []
    for prompt, ways in found["films"].items():
        lines += [f"### {prompt}", "", "| joint | " + " | ".join(_HEAD) + " |", "|" + "---|" * (len(_HEAD) + 1)]
        for number, both in enumerate(zip(*(ways[way]["joints"] for way in WAYS), strict=True), 1):
            cells = [_cells(each) for each in both]
            lines.append(
                f"| {number} | " + " | ".join(cell for pair in zip(*cells, strict=True) for cell in pair) + " |"
            )
        means = [{name: mean(each[name] for each in ways[way]["joints"]) for name in _FIELDS} for way in WAYS]
        cells = [_cells(each) for each in means]
        lines.append("| mean | " + " | ".join(cell for pair in zip(*cells, strict=True) for cell in pair) + " |")
        inside = [[f"{ways[way]['inside'][name]:.1f}" for name in ("psnr", "colour")] for way in WAYS]
        text = "; ".join(f"{way}: PSNR {p} dB, colour {c}" for way, (p, c) in zip(WAYS, inside, strict=True))
        lines += ["", f"Neighbouring frames inside the parts, on average: {text}.", ""]
    return "\n".join(lines)


_FIELDS: Final = ("psnr", "beside", "colour", "drift")
_TITLES: Final = ("PSNR of the joint", "PSNR beside it", "colour step", "colour drift")
_HEAD: Final = tuple(f"{title}, {way}" for title in _TITLES for way in WAYS)


def _cells(values: dict[str, float]) -> list[str]:
    return [f"{values[name]:.1f}" for name in _FIELDS]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--joints", type=int, default=10)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--sheets", type=Path, help="a directory for pictures of the joints")
    chosen = parser.parse_args()
    common = {"num_frames": chosen.frames, "num_inference_steps": chosen.steps}
    found: dict[str, Any] = {**common, "model": MODEL, "films": {}}
    for number, prompt in enumerate(PROMPTS[: chosen.prompts]):
        ways = {}
        for way in WAYS:
            parts = film(prompt, way, chosen.joints, common)
            ways[way] = measured(parts)
            if chosen.sheets is not None:
                Clip(sheet(parts)[None], 1.0).save(chosen.sheets / f"{number}-{way}.png", overwrite=True)
        found["films"][prompt] = ways
        if chosen.out is not None:
            chosen.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if chosen.report is not None:
            chosen.report.write_text(report(found), encoding="utf-8")
        print(report({"films": {prompt: ways}}), flush=True)


if __name__ == "__main__":
    main()
