"""Batches of films from a file: their output paths, the journal of their seeds, their generation and contact sheet."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from flickbook.engine.memory.fallback import ran_out
from flickbook.engine.rows import FILE_BYTES, ROWS, Row
from flickbook.errors import Cancelled, FlickbookError, OutputError, RequestError, one_line, shown
from flickbook.formats import encoding, frame_paths, is_frames
from flickbook.media.metrics.expected import expected
from flickbook.media.metrics.quality import LIMITS, faults
from flickbook.media.sheet import chosen, contact_sheet
from flickbook.resolution import notes
from flickbook.spec import SCHEMA_VERSION, Placement, Plan, Recipe, Request

if TYPE_CHECKING:
    from flickbook.engine.films import OnStep, RunOptions
    from flickbook.engine.polish import Networks
    from flickbook.media.clip import Clip

#: The fields allowed between braces in an output name.
FIELDS: Final = ("number", "slug", "seed", "model", "name")
#: The most seeds a journal holds: those of the current rows, and some of rows that were edited since.
SEEDS: Final = 4 * ROWS
#: The most films on a contact sheet; with more, each would be too small to recognise.
SHEET_FILMS: Final = 240
#: (films up to this number, width of a frame in pixels, frames of each film).
_LAYOUTS: Final = ((8, 128, 8), (32, 96, 6), (SHEET_FILMS, 64, 5))
_NAME_CHARACTERS: Final = 100
#: Not allowed in file names on every system; % introduces a frame number.
_NOT_IN_NAMES: Final = frozenset('/\\<>:"|?*%')
_REMEDY: Final = "choose another --output, or add --overwrite"

logger = logging.getLogger(__name__)


class Template:
    """The output path of each film of a batch. Fields between braces are substituted, never evaluated.

    Paths are relative to `within`. Raises RequestError for a field that is not in FIELDS, or an unmatched brace.
    """

    def __init__(self, text: str, within: Path = Path()) -> None:
        self.text, self.within = text, within
        self._parts = re.split(r"\{([^{}]*)\}", text)
        for field in self._parts[1::2]:
            if field not in FIELDS:
                known = ", ".join(f"{{{each}}}" for each in FIELDS)
                raise RequestError("output", f"{{{field}}}", "is not a field of the template", f"known are {known}")
        if any(brace in literal for literal in self._parts[::2] for brace in "{}"):
            raise RequestError("output", text, "has an unmatched brace", "write a field as {number}")

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the template uses."""
        return tuple(self._parts[1::2])

    @property
    def home(self) -> Path:
        """The directory that contains all films, directly or in subdirectories."""
        parts = Path(self.text).parent.parts
        whole = next((place for place, part in enumerate(parts) if "{" in part or "%" in part), len(parts))
        return self.within.joinpath(*parts[:whole])

    def path(self, values: Mapping[str, str]) -> Path:
        """The path for these field values. Raises RequestError for a value that cannot be part of a file name."""
        if "name" in self.fields:
            _check_name(values["name"])
        # An added model may be called owner/name.
        plain = {**values, "model": re.sub(r"[^A-Za-z0-9._-]", "-", values["model"])}
        text = "".join(plain[part] if place % 2 else part for place, part in enumerate(self._parts))
        return self.within / text


def _check_name(name: str) -> None:
    if not name:
        raise RequestError("name", name, "is missing", "give each row a name, or leave {name} out of --output")
    wrong = next((each for each in name if each in _NOT_IN_NAMES or not each.isprintable()), None)
    if wrong is not None:
        raise RequestError(
            "name", name, f"contains {wrong!r}", "use letters, digits, - and _: the name becomes part of a file name"
        )
    if len(name) > _NAME_CHARACTERS or name[0] in ". " or name[-1] in ". ":
        limit = f"must have at most {_NAME_CHARACTERS} characters, and no dot or space at its ends"
        raise RequestError("name", name, limit, "choose another name")


class Seeds:
    """The journal of a batch: the random seeds chosen for rows without one, so that the batch can be resumed."""

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        """Read the journal at `path`. Raises OutputError if the file is something else, unless `overwrite`."""
        self.path = path
        self._kept: dict[str, int] = {}
        self._chosen: dict[str, int] = {}
        try:
            with open(path, "rb") as file:
                found = json.loads(file.read(FILE_BYTES))["seeds"]
            if not all(type(seed) is int and 0 <= seed < 2**63 for seed in found.values()):
                raise ValueError
            self._kept = dict(found)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            if not overwrite:
                raise OutputError(path, "exists and is not a batch journal", _REMEDY) from None

    def get(self, row: Row) -> int | None:
        """The seed in the journal for a row, or None."""
        return self._kept.get(row.key)

    def of(self, row: Row, usual: int) -> int:
        """The seed that `put` set for a row in this run, or `usual`."""
        return self._chosen.get(row.key, usual)

    def put(self, row: Row, seed: int) -> None:
        """Set the seed chosen for a row."""
        self._chosen[row.key] = seed

    def save(self) -> None:
        """Write the whole journal if it changed. Raises OutputError."""
        if all(self._kept.get(key) == seed for key, seed in self._chosen.items()):
            return
        from flickbook.media.write import staged

        others = {key: seed for key, seed in self._kept.items() if key not in self._chosen}
        self._kept = dict(list({**self._chosen, **others}.items())[:SEEDS])
        with staged(self.path, overwrite=True) as (part,):
            part.write_text(json.dumps({"seeds": self._kept}, indent=0) + "\n", encoding="ascii")


@dataclass(frozen=True)
class Film:
    """One film of a batch: its row, and where the film is saved. `drawn` means that the row names no seed."""

    row: Row
    request: Request
    plan: Plan
    networks: Networks
    path: Path
    drawn: bool


@dataclass(frozen=True)
class Failure:
    """Why a film failed: a stable error code and a one-line message."""

    code: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The Failure of an exception. The exception itself is not kept: its traceback holds frames in memory."""
        logger.debug("a film of a batch failed", exc_info=error)
        if isinstance(error, FlickbookError):
            return cls(error.code, str(error))
        if ran_out(error):
            return cls("out_of_memory", "out of memory; ask for fewer frames or a smaller size")
        return cls("unexpected", one_line(f"unexpected {type(error).__name__}: {error}"))


def saved_plan(film: Film, overwrite: bool = False) -> Plan | None:
    """The Plan of the film already saved at this path, if it is the same film; None if no file exists.

    If the seed was drawn, any seed counts as the same film. Raises OutputError for another film or file, and for an
    incomplete set of numbered frames, unless `overwrite`.
    """
    first = frame_paths(film.path, 1)[0] if is_frames(film.path) else film.path
    if not os.path.lexists(first):
        return None
    from flickbook.media.embedded import carried

    try:
        recipe = carried(film.path)[0]
    except FlickbookError as error:
        reason = f"exists and carries no recipe ({getattr(error, 'reason', error)})"
    else:
        if not isinstance(recipe.plan, Plan):
            reason = "exists and was polished from other files"
        else:
            there = _upgraded(recipe.plan)
            if there != (film.plan.model_copy(update={"seed": there.seed}) if film.drawn else film.plan):
                reason = f"exists and is another film: {_difference(there, film.plan)}"
            elif is_frames(film.path) and not _is_complete(film.path, recipe, there):
                reason = "exists, but not with the frames of its recipe: some are missing, or there are more"
            else:
                return there
    if overwrite:
        return None
    raise OutputError(film.path, reason, _REMEDY)


def _upgraded(plan: Plan) -> Plan:
    """Convert a Plan of any schema version to the current one. Schema 1 stored the defaults of its container."""
    with suppress(RequestError):  # a format that is no longer written: counts as another film
        how = encoding(plan.container, plan.codec, plan.quality, plan.pixel_format)
        return plan.model_copy(update={"schema_version": SCHEMA_VERSION, **how.model_dump()})
    return plan


def _is_complete(path: Path, recipe: Recipe, plan: Plan) -> bool:
    """Whether exactly the numbered frames of the Recipe are at `path`, no fewer and no more."""
    from flickbook.engine.polish import finished
    from flickbook.media.clip import frames_sha256
    from flickbook.media.read import read_any

    try:
        most = finished(plan).num_frames
        # The length of a loop depends on the pixels, so only their hash can tell.
        if not plan.polish.loop:
            return sum(1 for _ in takewhile(os.path.exists, frame_paths(path, most + 1))) == most
        return frames_sha256(read_any(path)[0]) == recipe.frames_sha256
    except FlickbookError:
        return False


def _difference(there: Plan, here: Plan) -> str:
    pairs = [(name, getattr(there, name), getattr(here, name)) for name in Plan.model_fields]
    differences = [f"{name} is {shown(old)} in the file, {shown(new)} here" for name, old, new in pairs if old != new]
    return "; ".join(differences[:2]) + (f"; and {len(differences) - 2} more" if len(differences) > 2 else "")


def made(
    films: Sequence[Film],
    *,
    model_dir: Path | None = None,
    precision: str = "auto",
    placement: Placement | None = None,
    check: Callable[[Film], object] | None = None,
    on_step: OnStep | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[tuple[Film, Clip | Failure]]:
    """Make films in order and yield each when it is done. A film that fails does not stop the others.

    Neighbours of one shape run together as far as the placement allows: `placement`, or one that fits. Before a film
    starts, `check` is called and its inputs are read; an exception from either is that film's Failure. Raises
    Cancelled.
    """
    from flickbook.engine.films import (  # imported late: slow to load
        RunOptions,
        run_options_of,
        together,
    )

    def needs(film: Film) -> RunOptions:
        if check is not None:
            check(film)
        found = run_options_of(film.plan, film.request, model_dir, precision)
        return replace(found, networks=film.networks, placement=placement)

    for _, group in groupby(films, key=lambda film: (film.plan.shape(), film.request.loras)):
        same = list(group)
        loras = tuple((Path(path), weight) for path, weight in same[0].request.loras or ())
        while same:
            try:
                alone = RunOptions(model_dir, loras, precision=precision, placement=placement)
                size = together([film.plan for film in same], alone)
            except (FlickbookError, OSError):
                size = 1  # running the film raises the same error again
            part, same = same[:size], same[size:]
            ready: list[tuple[Film, RunOptions]] = []
            for film in part:
                try:
                    ready.append((film, needs(film)))
                except Exception as error:
                    yield film, _failure(error)
            yield from _together(ready, on_step, cancel)


def _together(
    ready: Sequence[tuple[Film, RunOptions]], on_step: OnStep | None, cancel: Callable[[], bool] | None
) -> Iterator[tuple[Film, Clip | Failure]]:
    """Make films as one batch of the engine; if that fails, make each by itself."""
    from flickbook.engine.films import films

    if not ready:
        return
    run_options, done = ready[0][1].merged([other for _, other in ready[1:]]), 0
    try:
        for clip in films([film.plan for film, _ in ready], run_options, on_step=on_step, cancel=cancel, ahead=True):
            film, film_options = ready[done]
            done += 1
            assert clip.run is not None
            # The Run names this film's input files, not those of its neighbours.
            clip = replace(clip, run=clip.run.model_copy(update={"inputs": dict(film_options.inputs)}))
            yield film, clip.noted(notes(film.request, film.plan, film_options.model_dir))
        return
    except Exception as error:
        failure = _failure(error)
    if len(ready) == 1:
        yield ready[0][0], failure
        return
    for each in ready[done:]:
        yield from _together([each], on_step, cancel)


def _failure(error: Exception) -> Failure:
    if isinstance(error, Cancelled):
        raise error
    return Failure.of(error)


class Sheet:
    """A contact sheet of a batch: one row per film with its label; the more films, the smaller the cells."""

    def __init__(self, count: int, num_frames: int, shape: float) -> None:
        """Lay out `count` films of at most `num_frames` frames, whose height is `shape` times their width."""
        self.count, self.shape = min(count, SHEET_FILMS), shape
        cell, columns = next((cell, columns) for most, cell, columns in _LAYOUTS if self.count <= most)
        self.columns = min(columns, num_frames)
        # With few frames in a row the cells are wider, so that the label fits.
        self.cell = min(256, max(cell, 320 // self.columns))
        wide, high = self.columns * (self.cell + 4) + 36, self.cell * shape + 40
        self._blocks = max(1, round(math.sqrt(self.count * high / wide)))
        self._rows: dict[int, tuple[str, np.ndarray]] = {}

    def add(self, number: int, label: str, frames: np.ndarray | None) -> None:
        """Add film `number`, from 1, with frames (n, height, width, 3) uint8; None draws a placeholder."""
        if number > self.count:
            return
        if frames is None:
            frames = np.full((self.columns, max(1, round(self.cell * self.shape)), self.cell, 3), 208, np.uint8)
        height = max(1, round(self.cell * frames.shape[1] / frames.shape[2]))
        small = [
            Image.fromarray(frames[place]).resize((self.cell, height), Image.Resampling.LANCZOS)
            for place in chosen(len(frames), self.columns)
        ]
        self._rows[number] = (label, np.stack([np.asarray(each) for each in small]))

    def image(self) -> Image.Image:
        """The sheet, about as high as wide. Raises RequestError if it has no films."""
        rows = [self._rows[number] for number in sorted(self._rows)]
        each = -(-len(rows) // self._blocks) or 1
        blocks = [self._block(rows[first : first + each]) for first in range(0, max(1, len(rows)), each)]
        sheet = Image.new("RGB", (sum(b.width for b in blocks), max(b.height for b in blocks)), "white")
        left = 0
        for block in blocks:
            sheet.paste(block, (left, 0))
            left += block.width
        return sheet

    def _block(self, rows: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
        if all(len(film) < self.columns for _, film in rows):
            # An empty row of full width keeps labels whole when all rows are short.
            rows = [*rows, ("", np.full((self.columns, 1, self.cell, 3), 255, np.uint8))]
        return contact_sheet([film for _, film in rows], [label for label, _ in rows], self.columns, cell=self.cell)


def worst(scores: Mapping[str, float], prompts: Sequence[str] = ()) -> str:
    """The worst score relative to its limit, as "steady 0.81"; "low: steady 0.52" below the limit; "" without scores.

    Scores whose low value the `prompts` explain are left out.
    """
    explained = expected(prompts)
    scores = {name: value for name, value in scores.items() if name not in explained}

    def above(name: str) -> float:
        limit = LIMITS.get(name, 0.0)
        return (scores[name] - limit) / (1 - limit)

    low = [name for name in scores if faults({name: scores[name]})]
    if not scores:
        return ""
    name = min(low or scores, key=above)
    return f"{'low: ' if low else ''}{name} {scores[name]:.2f}"
