"""The report of an evaluation as text: the table on the terminal, and sections that Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_GIB = 1 << 30


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and a table whose first row is its header; either may be empty."""

    heading: str
    text: str
    rows: Sequence[Sequence[str]] = ()


def percent(share: float) -> str:
    """A share as "12.3 %"."""
    return f"{100 * share:.1f} %"


def _number(value: float | None, places: int = 3) -> str:
    return "none" if value is None else f"{value:.{places}f}"


def heading(result: dict[str, Any]) -> str:
    """One line: how many films, and how they were made."""
    settings = result.get("settings")
    if settings is None:
        return f"{result['prompts']} films"
    made = ""
    if "num_frames" in settings:
        made = f", {settings['width']}x{settings['height']}, {settings['num_frames']} frames at {settings['fps']:g}"
    return (
        f"{result['prompts']} prompts, {settings['num_inference_steps']} steps, guidance "
        f"{settings['guidance_scale']:g}, {settings['scheduler']}{made}"
    )


def sections(result: dict[str, Any]) -> list[Section]:
    """The measures other than adherence; each section is present only if it was measured."""
    found = [
        *(_adherence(result) if "source" in result else []),
        *_autoencoder(result.get("ceiling", {})),
        *(_distance(result["distance"]) if "distance" in result else []),
        *(_temporal(result["temporal"]) if "temporal" in result else []),
        *(_diversity(result["diversity"]) if "diversity" in result else []),
        *(_nearest(result["nearest"]) if "nearest" in result else []),
        *(_cost(result["cost"]) if "cost" in result else []),
    ]
    for name, title in (("skipped", "Skipped films"), ("unprompted", "Films without words")):
        if result.get(name):
            found.append(Section(title, " ".join(f"{each}." for each in result[name])))
    return found


def _adherence(result: dict[str, Any]) -> list[Section]:
    """What the judge could not say, and how the films were prepared for it."""
    parts = [result.get("protocol", "")]
    if result.get("unjudged"):
        parts.append(
            f"{result['unjudged']} of {result['prompts']} films have no prompt that the judge can read: it knows only "
            "the words of the procedural world. They have no adherence score."
        )
    if result.get("coverage", 1) < 1:
        parts.append(f"The model was trained on {percent(result['coverage'])} of the pairs.")
    text = " ".join(part for part in parts if part)
    return [Section("How the films were judged", text)] if text else []


def _autoencoder(ceiling: dict[str, Any]) -> list[Section]:
    """What the autoencoder alone costs: a bound on what films of the whole model can reach."""
    rows = [["group", "dB", "judge, all correct"]]
    for group, found in ceiling.items():
        if "psnr" in found:
            row = found["autoencoder"]["all correct"]
            rows.append([group, _number(found["psnr"], 1), f"{row['right']:.0f} of {row['total']:.0f}"])
    text = "True films, encoded and decoded: PSNR, and what the judge reads from them."
    return [Section("Autoencoder", text, rows)] if len(rows) > 1 else []


def _distance(found: dict[str, Any]) -> list[Section]:
    floor = found["floor"]
    rows = [["", "FVD-w", "MMD"], ["these films", _number(found["fvd_w"], 2), _number(found["mmd"], 4)]]
    low, high = ([_number(end(floor[kind]), p) for kind, p in (("fvd_w", 2), ("mmd", 4))] for end in (min, max))
    rows.append([f"true films ({len(floor['mmd'])} sets)", *(f"{a} to {b}" for a, b in zip(low, high, strict=True))])
    text = (
        f"Distance of {found['films']} films from {found['reference']} true films in the features of a small network "
        "trained on the world, lower is better. As many true films are the floor. FVD-w is not FVD, and depends on the "
        f"number of films. Features {found['weights_sha256'][:12]}."
    )
    return [Section("Distance from true films", text, rows)]


def _temporal(found: dict[str, Any]) -> list[Section]:
    names = {
        "flickering_of_static_films": "temporal flickering of static films (VBench, exact formula)",
        "static_films": "static films (found with DIS)",
        "flickering_of_all_films": "the same formula on all films: motion lowers it",
        "dynamic_degree_dis": "dynamic degree (substitute: DIS instead of RAFT)",
        "motion_smoothness_dis": "motion smoothness (substitute: DIS instead of AMT)",
    }
    sides = list(found.values())
    rows = [["", *(name if name == "true films" else "these films" for name in found)]]
    for key, name in names.items():
        whole = [f"{side[key]} of {side['films']}" for side in sides] if key == "static_films" else []
        rows.append([name, *(whole or [_number(side[key], 4) for side in sides])])
    text = (
        "VBench needs networks for fifteen of its sixteen dimensions. Its one formula is exact here. The substitutes "
        "replace a network with optical flow (dense inverse search): compare them with true films, not with VBench's "
        "tables."
    )
    return [Section("Motion and flicker", text, rows)]


def _diversity(found: dict[str, Any]) -> list[Section]:
    sides = [name for name in ("films", "true films") if name in found]
    rows = [["films of one prompt differ by", *("these films" if name == "films" else name for name in sides)]]
    rows.append(["pixels, mean of 255", *(_number(found[name]["pixels"], 2) for name in sides)])
    rows.append(["features, standard deviations", *(_number(found[name]["features"]) for name in sides)])
    seeds, plural = f", {found['seeds']} seeds each" if "seeds" in found else "", "s" * (found["prompts"] != 1)
    return [
        Section("Diversity", f"{found['prompts']} prompt{plural}{seeds}. Equal films of all seeds would give 0.", rows)
    ]


def _nearest(found: dict[str, Any]) -> list[Section]:
    rows = [["group", "these films", "true films", "ratio"]]
    for group, row in found["groups"].items():
        rows.append([group, *(_number(row[side]) for side in ("films", "true films", "ratio"))])
    text = (
        f"Median distance to the nearest of {found['clips']} training clips of the group, beside that of true films "
        f"of other seeds. A model that copies has a ratio far below 1; over all films it is {found['ratio']:.2f}. "
        f"{percent(found['closer'])} of the films are nearer than the nearest true film of their group; of true films "
        f"it would be {percent(found['closer_expected'])}. The clips are the first training films of the built-in "
        "world; of a model that was trained on others the ratio says nothing."
    )
    return [Section("Nearest training clip", text, rows)]


def _cost(found: dict[str, Any]) -> list[Section]:
    text = (
        f"{found['seconds_per_film']:.2f} seconds and {found['num_inference_steps']} steps a film on "
        f"{found['device']}; peak memory of the process {found['peak_memory_bytes'] / _GIB:.2f} GiB."
    )
    return [Section("Cost", text)]


def table(result: dict[str, Any]) -> str:
    """The result as the table that people read."""
    lines = [
        heading(result),
        "",
        f"{'group':<15}{'attribute':<14}{'right':>11}  {'share':>7}  {'95 % interval':<17}{'judge on renders':>17}"
        f"{'after autoencoder':>19}",
    ]
    for group, rows in result["groups"].items():
        bound = result["ceiling"][group]
        for word, row in rows.items():
            count = f"{row['right']:.0f}/{row['total']:.0f}"
            interval = f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %"
            both = (bound["raw"], bound.get("autoencoder", {}))
            top = [percent(found[word]["share"]) if word in found else "" for found in both]
            lines.append(
                f"{group:<15}{word:<14}{count:>11}  {100 * row['share']:5.1f} %  {interval:<17}{top[0]:>17}{top[1]:>19}"
            )
    lines += [
        "",
        *(f"steadiness, {name}: {row['share']:.3f} of true films'" for name, row in result["steadiness"].items()),
    ]
    if "seconds_per_film" in result:
        lines += ["", f"{result['seconds_per_film']:.2f} seconds a film"]
    if "turbo" in result:
        lines += ["", *_turbo(result)]
    for section in sections(result):
        lines += ["", f"{section.heading}: {section.text}"]
        wide = max((len(row[0]) for row in section.rows), default=0)
        lines += [f"  {row[0]:<{wide}}" + "".join(f"  {cell:>16}" for cell in row[1:]) for row in section.rows]
    return "\n".join(lines)


def _turbo(result: dict[str, Any]) -> list[str]:
    turbo = result["turbo"]
    lines = [f"turbo, {turbo['num_inference_steps']} steps: {turbo['seconds_per_film']:.2f} seconds a film"]
    lines += [f"turbo, {word}: {turbo[word]:.2f} of the exact films'" for word in ("motion", "diversity")]
    for group in turbo["groups"]:
        shares = [100 * side[group]["all correct"]["share"] for side in (turbo["groups"], result["groups"])]
        lines.append(f"turbo, {group}: all correct {shares[0]:.1f} %, exact {shares[1]:.1f} %")
    return lines


def markdown(result: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"# Evaluation of {result['model']}", "", f"{heading(result)}.", ""]
    if result["groups"]:
        lines += [
            "| group | attribute | right | share | 95 % interval | judge on true films |",
            "|---|---|---|---|---|---|",
        ]
    for group, rows in result["groups"].items():
        top = result["ceiling"][group]["raw"]
        for word, row in rows.items():
            cells = [group, word, f"{row['right']:.0f}/{row['total']:.0f}", percent(row["share"])]
            cells += [f"{percent(row['low'])} to {percent(row['high'])}"]
            cells += [percent(top[word]["share"]) if word in top else ""]
            lines.append(f"| {' | '.join(cells)} |")
    if "turbo" in result:
        lines += ["", "## Turbo", "", *(f"- {line}" for line in _turbo(result))]
    if result["steadiness"]:
        lines += ["", "## Steadiness", "", "Outline, colour and size from frame to frame, beside true films.", ""]
        lines += [f"- {name}: {row['share']:.3f}" for name, row in result["steadiness"].items()]
    for section in sections(result):
        lines += ["", f"## {section.heading}", "", section.text]
        for place, row in enumerate(section.rows):
            lines += [] if place else [""]
            lines.append(f"| {' | '.join(row)} |")
            lines += ["|" + "---|" * len(row)] if place == 0 else []
    return "\n".join(lines) + "\n"
