"""Shot lists: TOML or JSON documents that describe a film shot by shot.

- `fade`: frames of each cross-fade; 0 cuts.
- `audio`, `audio_fit`, `audio_fade`: the sound under the whole film; a shot may have one of its own.
- `[subjects]`: the words for {hero} in the prompts, or words and a picture.
- `[defaults]`: options of all shots, by their names in a batch file.
- `[[shots]]`: prompt, seconds or num_frames, begins, camera, seed, lora and so on.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, get_args

from flickbook.engine import rows
from flickbook.errors import RequestError, shown
from flickbook.spec import Begins

SHOTS: Final = 64
_BYTES: Final = 1 << 20
#: The options of the film's sound, which is under all shots.
_SOUND: Final = ("audio", "audio_fit", "audio_fade")
_DOCUMENT: Final = ("fade", *_SOUND, "subjects", "defaults", "shots")
#: Options of a batch's row that a shot does not have: its prompt is one, and its file is that of the film.
_NOT_OURS: Final = ("name", "prompt_at", "codec", "quality", "pixel_format")
#: The options of a shot in addition to those of a batch's row.
_OWN: Final = ("seconds", "begins")
OPTIONS: Final = tuple(name for name in (*_OWN, *rows.COLUMNS) if name not in _NOT_OURS)
_SUBJECT: Final = re.compile(r"\{([A-Za-z0-9_-]+)\}")


@dataclass(frozen=True)
class Subject:
    """What {name} in a prompt stands for, and the path of a picture of it, "" without one."""

    words: str
    image: str = ""


@dataclass(frozen=True)
class ShotList:
    """The options of each shot, with the defaults, subjects, cross-fade (frames) and sound of all of them."""

    shots: tuple[Mapping[str, Any], ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    subjects: Mapping[str, Subject] = field(default_factory=dict)
    fade: int = 0
    sound: Mapping[str, Any] = field(default_factory=dict)

    def without(self, name: str) -> ShotList:
        """The list without one option."""
        defaults, *shots = (
            {key: value for key, value in each.items() if key != name} for each in (self.defaults, *self.shots)
        )
        return replace(self, defaults=defaults, shots=tuple(shots))

    def pictures(self, number: int) -> list[str]:
        """The pictures of the subjects that shot `number`, from 1, names."""
        prompt = str(self.shots[number - 1].get("prompt", self.defaults.get("prompt", "")))
        named = dict.fromkeys(_SUBJECT.findall(prompt))
        return [self.subjects[name].image for name in named if name in self.subjects and self.subjects[name].image]

    def options(self, common: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The options of each shot: its own, then those in `common`, then the defaults. Raises RequestError."""
        found = []
        with rows.at("defaults"):
            shared = rows.merged(self.defaults, common or {})
        for number, own in enumerate(self.shots, 1):
            with rows.at(f"shot {number}"):
                values = rows.merged(shared, own)
                if values.get("num_frames") is not None and own.get("seconds") is not None:
                    if own.get("num_frames") is not None:
                        limit = "cannot be combined with num_frames"
                        raise RequestError("seconds", own["seconds"], limit, "leave one of them out")
                    del values["num_frames"]
                found.append(values | {"prompt": self._prompt(values.get("prompt", ""))})
        return found

    def _prompt(self, text: str) -> str:
        """A prompt with the words of its subjects."""

        def words(match: re.Match[str]) -> str:
            if match[1] not in self.subjects:
                known = ", ".join(self.subjects) or "none"
                raise RequestError("prompt", match[0], "names no subject", f"add it to [subjects]; known are {known}")
            return self.subjects[match[1]].words

        return _SUBJECT.sub(words, text)


def read(path: Path) -> ShotList:
    """Read a shot list from a .toml or .json file; paths in it are relative to its directory. Raises RequestError."""
    try:
        with path.open("rb") as file:
            data = file.read(_BYTES + 1)
    except OSError as error:
        raise RequestError("shots", path, f"cannot be read: {error.strerror}", "check the path") from None
    return parsed(path.name, data, path.parent)


def parsed(name: str, data: bytes, within: Path | None = None) -> ShotList:
    """Parse a shot list of at most 1 MiB in UTF-8; the suffix of `name` selects the format. Paths are resolved
    relative to `within`, if that is given. Raises RequestError, naming the shot.
    """
    if len(data) > _BYTES:
        raise RequestError("shots", name, f"is larger than {_BYTES >> 20} MiB", "write fewer shots")
    suffix = Path(name).suffix.lower()
    try:
        text = data.decode("utf-8-sig")
        document = tomllib.loads(text) if suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        limit = f"is not valid {'TOML' if suffix == '.toml' else 'JSON'}: {shown(error)}"
        raise RequestError("shots", name, limit, "docs/shots.md shows one") from None
    return of(document, within)


def of(document: Any, within: Path | None = None) -> ShotList:
    """The shot list of a document of plain values. Raises RequestError, naming the shot."""
    if not isinstance(document, dict):
        raise RequestError("shots", type(document).__name__, "must be a table", "docs/shots.md shows one")
    _check_names("field", list(document), _DOCUMENT)
    shots, defaults = document.get("shots", []), document.get("defaults", {})
    if not isinstance(shots, list) or not all(isinstance(each, dict) for each in shots):
        raise RequestError("shots", type(shots).__name__, "must be a list of tables", "begin each shot with [[shots]]")
    if not 1 <= len(shots) <= SHOTS:
        raise RequestError("shots", len(shots), f"must be 1 to {SHOTS}", "begin each shot with [[shots]]")
    if not isinstance(defaults, dict):
        raise RequestError("defaults", type(defaults).__name__, "must be a table", "write [defaults]")
    fade = document.get("fade", 0)
    if type(fade) is not int or not 0 <= fade <= 1000:
        raise RequestError("fade", fade, "must be a whole number of frames, 0 to 1000", "0 cuts from shot to shot")
    with rows.at("defaults"):
        common = _typed(defaults, within)
    found = []
    for number, shot in enumerate(shots, 1):
        with rows.at(f"shot {number}"):
            found.append(_typed(shot, within))
    sound = _typed({name: document[name] for name in _SOUND if document.get(name) is not None}, within)
    return ShotList(tuple(found), common, _subjects(document.get("subjects", {}), within), fade, sound)


def _subjects(subjects: Any, within: Path | None) -> dict[str, Subject]:
    if not isinstance(subjects, dict):
        raise RequestError("subjects", shown(subjects), "must be a table", 'write hero = "a red ball"')
    found = {}
    for name, value in subjects.items():
        parts = value if isinstance(value, dict) else {"words": value}
        _check_names("field", list(parts), ("words", "image"))
        words, image = parts.get("words"), parts.get("image", "")
        if not isinstance(words, str) or not words or not isinstance(image, str):
            raise RequestError("subjects", name, "must have words", f'write {name} = "a red ball"')
        if image and within is not None:
            image = rows.placed({"image": image}, within)["image"]
        found[str(name)] = Subject(words, image)
    return found


def _typed(values: Mapping[str, Any], within: Path | None) -> dict[str, Any]:
    """Options with the types of their names; unset ones are left out."""
    _check_names("option", list(values), OPTIONS)
    own = {name: values[name] for name in _OWN if values.get(name) is not None}
    found = rows.typed({name: value for name, value in values.items() if name not in _OWN})
    if "seconds" in own:
        seconds = own["seconds"]
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 3600:
            raise RequestError("seconds", seconds, "must be a number above 0, up to 3600", "write for example 2.5")
        found["seconds"] = float(seconds)
    if "begins" in own:
        if own["begins"] not in get_args(Begins):
            limit, remedy = "unknown", 'write "previous" to begin from the last frame of the shot before'
            raise RequestError("begins", own["begins"], limit, remedy)
        found["begins"] = own["begins"]
    return found if within is None else rows.placed(found, within)


def _check_names(what: str, names: Sequence[Any], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1, 0.75)
            suggestion = f'did you mean "{near[0]}"? ' if near else ""
            raise RequestError(what, name, "is not known", f"{suggestion}known are {', '.join(known)}")
