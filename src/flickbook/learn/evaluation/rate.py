"""A page on which people rate films blind: `rate.html`, one file without a network, and the key to its film ids.

The page shows films in a random order, which the browser draws, without a word about who made them. Its films may come
from several reports: a report's page contains its films, from which another page can take them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flickbook.errors import MediaError

PAGE, KEY = "rate.html", "rate-key.csv"
#: Films on a page.
RATED = 100
_TEMPLATE = Path(__file__).with_name(PAGE)
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_LARGEST = 256 << 20  # bytes of a page
_COLUMNS = ("id", "model", "group", "label")


def entries(films: Sequence[dict[str, str]], model: str) -> list[dict[str, str]]:
    """Films with an id that says nothing about the model; `films` have a film (a data URI), prompt, group and label."""
    found = []
    for film in films:
        digest = hashlib.sha256(f"{film['film']}\n{film['prompt']}\n{film['label']}".encode()).hexdigest()
        found.append({**film, "id": digest[:12], "model": model})
    return found


def spread(total: int, count: int) -> list[int]:
    """Up to `count` of the numbers below `total`, evenly spaced."""
    return [int(number) for number in np.linspace(0, total - 1, min(total, count)).round()]


def shares(reports: Sequence[Sequence[dict[str, str]]]) -> list[dict[str, str]]:
    """The entries of a page: up to `RATED` in all, as many of each report. A film of two reports is rated once."""
    most = RATED // len(reports)
    chosen = [films[number] for films in reports for number in spread(len(films), most)]
    return list({film["id"]: film for film in chosen}.values())


def page(films: Sequence[dict[str, str]]) -> str:
    """The HTML for some `entries`. Only id, prompt and film are written into it, in the order of the ids."""
    listed = [{name: film[name] for name in ("id", "prompt", "film")} for film in films]
    listed.sort(key=lambda film: film["id"])
    name = hashlib.sha256("".join(film["id"] for film in listed).encode()).hexdigest()[:12]
    # "<" would end the script element.
    data = json.dumps({"id": name, "films": listed}, ensure_ascii=False).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace("FILMS", data, 1)


def key(films: Sequence[dict[str, str]]) -> str:
    """A CSV that says which model made the film of each id."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(films, key=lambda film: film["id"]))
    return file.getvalue()


def read(directory: Path) -> list[dict[str, str]]:
    """The entries of the page in a report's directory. Raises MediaError if there is none, or it is damaged."""
    path = directory / PAGE
    remedy = "name the --out directory of an evaluation"
    try:
        if path.stat().st_size > _LARGEST:
            raise MediaError(path, "larger than 256 MiB", remedy)
        found = _DATA.search(path.read_text(encoding="utf-8"))
        films: list[dict[str, Any]] = json.loads(found[1])["films"] if found else []
        with (directory / KEY).open(encoding="utf-8", newline="") as file:
            known = {row["id"]: row for row in csv.DictReader(file)}
        return [{**{name: str(film[name]) for name in ("id", "prompt", "film")}, **known[film["id"]]} for film in films]
    except FileNotFoundError:
        raise MediaError(directory, f"holds no {PAGE} and {KEY}", remedy) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise MediaError(path, f"cannot be read ({type(error).__name__})", remedy) from error


def link(count: int) -> str:
    """The sentence of the report about the page."""
    return f'<p><a href="{PAGE}">Rate {count} films blind</a>; {KEY} says which is whose.</p>'
