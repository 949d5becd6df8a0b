"""Reads batch files: CSV, JSON Lines or TOML with one film per row, with the options of `flickbook generate`."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flickbook.errors import FlickbookError, RequestError, shown

ROWS: Final = 10_000
FILE_BYTES: Final = 16 << 20
#: Integers at or above this are refused; no field needs one.
_LARGEST: Final = 1 << 64

_TEXTS: Final = (
    *(
        "prompt",
        "name",
        "model",
        "preset",
        "negative_prompt",
        "size",
        "scheduler",
        "trim",
        "interpolate",
        "upscale",
        "upscaler",
        "control",
        "latent_upsample",
    ),
    *("camera", "loop", "text", "codec", "quality", "pixel_format", "audio_fit"),
)
_WHOLES: Final = ("num_frames", "num_inference_steps", "seed", "width", "height")
_REALS: Final = ("guidance_scale", "fps", "strength", "speed", "rate", "audio_fade")
PATHS: Final = ("image", "video", "last_image", "control_video", "face_video", "mask", "audio", "interpolator")
_LISTS: Final = ("prompt_at", "condition", "reference_image", "lora")
_FLAGS: Final = ("steady",)
#: The columns of a row: the options of `flickbook generate`, its prompt, a name, and its size as two numbers.
COLUMNS: Final = (*_TEXTS, *_WHOLES, *_REALS, *PATHS, *_LISTS, *_FLAGS)
_YES_OR_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
#: Values of fields with paths that are no files: the only such upscaler, and silence.
_NO_FILES: Final = (("upscaler", "lanczos"), ("audio", "none"))


@contextmanager
def at(place: str) -> Iterator[None]:
    """Prefix the message of a FlickbookError raised inside with `place`, for example "row 3"."""
    try:
        yield
    except FlickbookError as error:
        error.args = (f"{place}: {error}",)
        raise


@dataclass(frozen=True)
class Row:
    """One film of a batch: its number from 1, and its values by the names in COLUMNS.

    Rows from `read` have paths resolved against the batch file. `key` identifies the row's contents, and differs
    between identical rows.
    """

    number: int
    values: Mapping[str, Any]
    key: str


def read(path: str | Path) -> tuple[list[Row], dict[str, Any]]:
    """Read a batch file: its rows and its defaults, as in `parsed`, with paths relative to the file's directory.

    Raises RequestError for the first error, naming its row.
    """
    file = Path(path)
    _parser(file.name)
    rows, defaults = parsed(file.name, _bytes(file))
    return [replace(row, values=placed(row.values, file.parent)) for row in rows], placed(defaults, file.parent)


def parsed(name: str, data: bytes, most: int = ROWS) -> tuple[list[Row], dict[str, Any]]:
    """Parse a batch, 1 to `most` rows, and its defaults; the suffix of `name` selects the format.

    .csv has a header line, and commas, semicolons or tabs as separators; .jsonl has one object per line; .toml has
    tables [[films]] and optionally one [defaults]. UTF-8, at most 16 MiB. An empty cell and null mean unset. Paths are
    returned as written; no file is opened. Raises RequestError for the first error, naming its row.
    """
    found, defaults = _parser(name)(_decoded(name, data), name, most)
    if not found:
        raise RequestError("file", name, "has no rows", "add a row")
    rows: list[Row] = []
    seen: Counter[str] = Counter()
    for number, values in enumerate(found, 1):
        with at(f"row {number}"):
            row = typed(values)
        written = json.dumps(row, sort_keys=True)
        digest = hashlib.sha256(written.encode("ascii")).hexdigest()
        seen[digest] += 1
        rows.append(Row(number, row, f"{digest}-{seen[digest]}"))
    with at("defaults"):
        return rows, typed(defaults)


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge layers of values, the last one strongest. `size` becomes width and height. One layer's `speed` may set how
    the film is made, and another's how fast it plays.

    A starting image replaces a starting video of a weaker layer, and the other way round.
    """
    found: dict[str, Any] = {}
    for layer in layers:
        values = dict(layer)
        if "size" in values:
            if "width" in values or "height" in values:
                raise RequestError(
                    "size", values["size"], "cannot be combined with width or height", "leave one of them out"
                )
            values |= size_of(values.pop("size"))
        for name, other in (("image", "video"), ("video", "image")):
            if name in values and other not in values:
                found.pop(other, None)
        if "speed" in found and values.get("speed") is not None:
            values["speed"] = _speeds(found["speed"], values["speed"])
        found |= values
    return found


def _speeds(weaker: str | float, stronger: str | float) -> str | float:
    """Combine the two meanings of `speed`; the stronger layer wins for each."""
    from flickbook.resolution import speed_of  # imported late: slow to load, and `--help` does not need it

    both = [one if one is not None else other for one, other in zip(speed_of(stronger), speed_of(weaker), strict=True)]
    return ",".join(str(each) for each in both if each is not None)


def size_of(size: str | None) -> dict[str, int]:
    """Width and height of "128x128", as a dictionary."""
    if size is None:
        return {}
    match = re.fullmatch(r"([0-9]{1,6})[xX×]([0-9]{1,6})", size.strip())
    if match is None:
        raise RequestError("size", size, "must be WIDTHxHEIGHT in pixels", "write for example 128x128")
    return {"width": int(match[1]), "height": int(match[2])}


def turns_of(prompt: str | None, prompt_at: Sequence[str]) -> tuple[str | None, tuple[tuple[int, str], ...] | None]:
    """The prompt of frame 0, if any, and the later prompts: (16, "a sunset") for "16:a sunset"."""
    turns = []
    for each in prompt_at:
        frame, colon, text = each.partition(":")
        if not colon or not re.fullmatch(r"[0-9]{1,6}", frame.strip()):
            raise RequestError("prompt_at", each, "must be FRAME:PROMPT", 'write for example 16:"a sunset"')
        turns.append((int(frame), text))
    first = [text for frame, text in turns if frame == 0] + ([] if prompt is None else [prompt])
    if len(first) > 1:
        raise RequestError(
            "prompt_at", 0, "has two prompts", "give frame 0 one prompt, as the argument or with --prompt-at"
        )
    return (first[0] if first else None), tuple(turn for turn in turns if turn[0]) or None


def _bytes(file: Path) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError("file", file, f"cannot be read: {reason}", "check the path") from None


def _decoded(name: str, data: bytes) -> str:
    if len(data) > FILE_BYTES:
        raise RequestError("file", name, f"is larger than {FILE_BYTES >> 20} MiB", "split it into several batches")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError("file", name, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from None


Parsed = tuple[list[dict[str, Any]], dict[str, Any]]


def _parser(name: str) -> Callable[[str, str, int], Parsed]:
    parse = {".csv": _csv, ".jsonl": _jsonl, ".toml": _toml}.get(Path(name).suffix.lower())
    if parse is None:
        raise RequestError("file", name, "must end in .csv, .jsonl or .toml", "docs/batches.md shows each")
    return parse


def _bounded(rows: list[dict[str, Any]], row: dict[str, Any], most: int) -> None:
    if len(rows) >= most:
        raise RequestError(
            "file", f"row {most + 1}", f"a batch has at most {most} rows", "split it into several batches"
        )
    rows.append(row)


def _csv(text: str, name: str, most: int) -> Parsed:
    first = text.lstrip("\r\n").partition("\n")[0]
    # No column name contains a separator.
    delimiter = next((each for each in ",;\t" if each in first), ",")
    rows: list[dict[str, Any]] = []
    header: list[str] | None = None
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                with at("header"):
                    _check_names(header)
                continue
            if any(cell.strip() for cell in cells[len(header) :]):
                limit = f"row {len(rows) + 1} has {len(cells)} cells, but the header has {len(header)}"
                raise RequestError("file", f"line {lines.line_num}", limit, 'write a cell with a comma as "a, b"')
            _bounded(rows, {name: cell for name, cell in zip(header, cells, strict=False) if cell.strip()}, most)
    except csv.Error as error:
        limit = f"is not valid CSV: {error}"
        raise RequestError(
            "file", f"line {lines.line_num}", limit, "close its quotes; docs/batches.md shows one"
        ) from None
    return rows, {}


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1, 0.75)
            suggestion = f'did you mean "{near[0]}"? ' if near else ""
            raise RequestError("column", name, "is not known", f"{suggestion}known are {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise RequestError("column", name, "is named twice", "leave one of them out")


def _jsonl(text: str, name: str, most: int) -> Parsed:
    rows: list[dict[str, Any]] = []
    # Not splitlines: a JSON string may contain U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_pairs, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            limit = f"is not valid JSON: {shown(error)}"
            raise RequestError("file", f"line {number}", limit, 'write an object, {"prompt": "a red circle"}') from None
        if not isinstance(value, dict):
            raise RequestError(
                "file", f"line {number}", "is not an object", 'write for example {"prompt": "a red circle"}'
            )
        _bounded(rows, value, most)
    return rows, {}


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _toml(text: str, name: str, most: int) -> Parsed:
    import tomllib  # imported late: `--help` does not need it

    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError("file", name, f"is not valid TOML: {shown(error)}", "docs/batches.md shows one") from None
    films, defaults = document.pop("films", []), document.pop("defaults", {})
    if document:
        raise RequestError("file", next(iter(document)), "is not known", "known are [defaults] and [[films]]")
    if not isinstance(defaults, dict) or not isinstance(films, list) or not all(isinstance(f, dict) for f in films):
        raise RequestError("file", "films", "is not a list of tables", "begin each film with [[films]]")
    rows: list[dict[str, Any]] = []
    for film in films:
        _bounded(rows, film, most)
    return rows, defaults


def typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row's values to the types of their columns; unset values are left out. Raises RequestError."""
    _check_names(list(values))
    return {name: _value(name, value) for name, value in values.items() if value is not None}


def _value(name: str, value: Any) -> Any:
    if name in _LISTS:
        return [_words(name, each) for each in (value if isinstance(value, list) else [value])]
    if isinstance(value, list | dict):
        raise RequestError(name, type(value).__name__, "must be one value", "write text or a number")
    if name in _TEXTS or name in PATHS:
        return _words(name, str(value) if type(value) is int and abs(value) < _LARGEST else value)
    if name in _FLAGS:
        flag = _YES_OR_NO.get(value.strip().lower()) if isinstance(value, str) else value
        if not isinstance(flag, bool):
            raise RequestError(name, value, "must be true or false", "write true, or leave it out")
        return flag
    number = _number(value.strip()) if isinstance(value, str) else value
    if name == "speed" and isinstance(number, str):
        return _words(name, number)
    if type(number) is int and abs(number) >= _LARGEST:
        raise RequestError(name, value, "is too large", "write a smaller one")
    if name in _WHOLES:
        if type(number) is not int:
            raise RequestError(name, value, "must be a whole number", "write for example 16")
        return number
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise RequestError(name, value, "must be a number", "write for example 7.5")
    return float(number)


def _number(text: str) -> int | float | str:
    """Convert text to a number, if it is one."""
    if re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?([0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})", text) else text


def _words(name: str, value: Any) -> str:
    if isinstance(value, list | dict):
        raise RequestError(name, type(value).__name__, "must be text", "write it in quotes")
    if not isinstance(value, str):
        raise RequestError(name, value, "must be text", "write it in quotes")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can contain lone surrogates, which cannot be written to a file
        raise RequestError(name, value, "is not valid text", "remove the lone surrogate") from None
    if "\0" in value:
        raise RequestError(name, value, "contains the control character U+0000", "remove it")
    return value


def placed(values: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """`values` with paths resolved relative to `directory`."""
    found = dict(values)
    for name in PATHS + ("upscaler",):
        if name in found and (name, found[name]) not in _NO_FILES:
            found[name] = str(directory / os.path.expanduser(found[name]))
    for name in ("condition", "reference_image"):  # the place behind the path of a condition stays as it is
        if name in found:
            found[name] = [str(directory / os.path.expanduser(text)) for text in found[name]]
    if "lora" in found:
        found["lora"] = [_lora(text, directory) for text in found["lora"]]
    return found


def _lora(text: str, directory: Path) -> str:
    """Resolve the path of PATH_OR_REPO[:WEIGHT], if it is one, relative to `directory`."""
    path = os.path.join(directory, os.path.expanduser(text))
    there = os.path.lexists(path) or os.path.lexists(path.rpartition(":")[0] or path)
    place = re.sub(r":[^:/\\]*$", "", text)
    # owner/name is a repository, unless a file of that name exists.
    named = place.count("/") == 0 or place.startswith((".", "~")) or (place.count("/") == 1 and ".safetensors" in place)
    return path if there or named else text
