"""No id and no name leads out of the shelf: what the service opens is watched while it is asked for other places."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from huggingface_hub.constants import HF_HUB_CACHE
from tests.server.live import Live, live
from tests.server.settled import QUICK, settled

import flickbook
from flickbook import settings

FILES: Final = (
    *("etc/passwd", "etc/shadow", "proc/self/environ", "proc/self/mem", "root/.ssh/id_rsa", "flickbook.db", "dev/zero"),
    *("Windows/win.ini", "boot.ini", "secret.txt", "jobs/../flickbook.db", "film-1.mp4.json", "checkpoint.safetensors"),
)
RESERVED: Final = (
    "CON",
    "PRN",
    "AUX",
    "NUL",
    "COM1",
    "LPT9",
    "con.mp4",
    "aux ",
    "NUL.",
    "CLOCK$",
    "::$DATA",
    "film.mp4::$DATA",
)
DOTS: Final = (
    "..",
    "...",
    "....",
    "..;",
    ". .",
    "..%00",
    "%2e%2e",
    "%252e%252e",
    "..%c0%af",
    "%c0%ae%c0%ae",
    "．．",
    "․․",
)
SLASHES: Final = ("/", "\\", "%2f", "%5c", "%252f", "%255c", "%c0%af", "%u2215", "∕", "⁄", "//", "/./", "\\\\")
FRONTS: Final = (
    "",
    "/",
    "\\",
    "//",
    "\\\\?\\",
    "\\\\server\\share\\",
    "C:\\",
    "c:/",
    "C:",
    "file:///",
    "~/",
    "$HOME/",
    "/".join(("", "proc", "self", "root", "")),
)
COUNT: Final = 5000


def payloads(id: str) -> list[str]:
    """5,000 names that should lead nowhere, `id` being a true one; the same in every run."""
    found = [
        *RESERVED,
        "",
        ".",
        "..",
        "\0",
        "%00",
        "*",
        "?",
        "~",
        "-",
        "0",
        "None",
        "null",
        "true",
        "job_",
        "\r\n",
        "a" * 5000,
    ]
    found += [
        id.upper(),
        id + "\0",
        id + "/..",
        id + "%00.mp4",
        f"../{id}",
        f"{id}/../{id}",
        id[:-1],
        id + "x",
        f" {id}",
    ]
    every = itertools.product(FRONTS, DOTS, SLASHES, (1, 2, 3, 8), FILES)
    made = [front + (dots + slash) * depth + file for front, dots, slash, depth, file in every]
    made += [f"{id}{slash}{dots}{slash}{file}" for slash in SLASHES for dots in DOTS for file in FILES]
    made += [front + file + end for front in FRONTS for file in FILES for end in ("", "\0.mp4", "%00.webp", ".", "/")]
    found += random.Random(7).sample(made, COUNT - len(found))
    return found


def reached(path: str, is_unfollowed: bool) -> str:
    """The file that opening a path reaches: where its links lead, but for the last one if that is not followed."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name) if is_unfollowed else os.path.realpath(path)


class Watcher:
    """What the threads of the service open, as Python itself tells it."""

    def __init__(self) -> None:
        self.armed, self.opened = False, set[str]()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.armed and event == "open" and threading.current_thread() is not threading.main_thread():
            path, _, flags = arguments
            if isinstance(path, str | bytes):
                self.opened.add(reached(os.fsdecode(path), bool(flags & getattr(os, "O_NOFOLLOW", 0))))

    @contextmanager
    def watching(self) -> Iterator[set[str]]:
        self.opened, self.armed = set(), True
        try:
            yield self.opened
        finally:
            self.armed = False


WATCHER: Final = Watcher()


def outside(opened: set[str], place: Path) -> list[str]:
    """What is neither the service's nor the program's own."""
    own = [place, Path(flickbook.__file__).parent, Path(sys.prefix), Path(sys.base_prefix)]
    own.append(Path(HF_HUB_CACHE))  # which version of a model without a pinned commit is downloaded
    named = {os.path.realpath(each) for each in settings.files_read()}
    named |= {"/proc/sys/kernel/random/boot_id"}  # the clock of leases asks whether the machine is the same
    named |= {os.devnull}  # the standard input of a process that reads untrusted files
    named |= {str(settings.load().data_dir / "models.json"), str(settings.load().data_dir / "runs.jsonl")}
    return [
        path
        for path in opened
        if path not in named and not any(Path(path).is_relative_to(os.path.realpath(each)) for each in own)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("service")
    (found.parent / "secret.txt").write_text("hush-hush")
    return found


@pytest.fixture(scope="module")
def service(place: Path) -> Iterator[Live]:
    with live(place) as found:
        yield found


@pytest.fixture(scope="module")
def id(service: Live) -> str:
    """A job that is done, and has beside its film a link to what is nobody's business."""
    made = str(service.post("/api/v1/jobs", json=QUICK).json()["id"])
    settled(service, made)
    (service.service.artifacts.of(made) / "preview.webp").symlink_to("/etc/passwd")
    return made


class Asking:
    """One connection, asked for paths as they stand."""

    def __init__(self, service: Live) -> None:
        self.line = http.client.HTTPConnection("127.0.0.1", service.service.port, timeout=30)

    def ask(self, verb: str, target: str, body: Any = None) -> tuple[int, bytes]:
        head = {} if body is None else {"content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode("ascii")
        try:
            self.line.request(verb, target, data, head)
            response = self.line.getresponse()
            return response.status, response.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.line.close()  # what is no HTTP ends the connection
            return 400, b""


def targets(service: Live, id: str) -> list[tuple[str, str]]:
    """Each verb and path of the service with one parameter left open, as {}, the others filled in."""
    found = []
    usual = {"kind": "film", "model": "builtin", "name": "builtin", "video_id": id.replace("job_", "video_"), "id": id}
    for path, operations in service.app.openapi()["paths"].items():
        names = re.findall(r"\{(\w+)\}", path)
        for verb in operations:
            for name in names:
                others = {each: usual[each] for each in names if each != name}
                filled = re.sub(r"\{(\w+)\}", lambda match, others=others: others.get(match[1], "{}"), path)
                found.append((verb.upper(), filled))
    return found


def bodies(payload: str) -> list[tuple[str, str, Any]]:
    """The same payload as a name or an id in a body or a query."""
    raw = quote(payload, safe="")
    return [
        ("POST", "/api/v1/jobs", QUICK | {"model": payload}),
        ("POST", "/api/v1/jobs", QUICK | {"scheduler": payload}),
        ("POST", "/api/v1/jobs", QUICK | {"container": payload}),
        ("POST", "/api/v1/jobs", QUICK | {"image": payload}),
        ("POST", "/api/v1/jobs", QUICK | {"loras": [{"name": payload}]}),
        ("POST", "/api/v1/estimate", QUICK | {"model": payload}),
        ("POST", "/api/v1/drafts/finish", {"ids": [payload]}),
        ("GET", f"/api/v1/jobs?after={raw}", None),
        ("GET", f"/v1/videos?after={raw}", None),
        ("POST", "/v1/videos", {"prompt": "x", "input_reference": payload}),
        ("POST", "/v1/videos", {"prompt": "x", "model": payload, "lora": {"name": payload}}),
    ]


def harmless(status: int, body: bytes, what: object) -> None:
    assert status in (400, 401, 404, 405, 413, 415), (status, what, body[:200])
    assert b"root:" not in body and b"hush-hush" not in body and b"SQLite format" not in body, what


def attacked(service: Live, id: str, chosen: list[str], routes: int) -> int:
    """Ask for each payload in so many routes and bodies; how many times was asked."""
    asking, count = Asking(service), 0
    paths, rng = targets(service, id), random.Random(11)
    for payload in chosen:
        # As it is, but for what cannot stand in a request at all; and as one part of the path.
        for form in {quote(payload, safe="/\\%:;~$*?=&.@!,()[]{}|^`\"<>'+#"), quote(payload, safe="")}:
            for verb, path in rng.sample(paths, min(routes, len(paths))):
                target = path.replace("{}", form.replace("?", "%3F").replace("#", "%23"))
                status, body = asking.ask(verb, target)
                if not (status < 300 and reaches(target)):
                    harmless(status, body, (verb, target))
                count += 1
        for verb, target, body in rng.sample(bodies(payload), min(routes, 10)):
            status, text = asking.ask(verb, target, body)
            if not (status == 200 and target.endswith("after=")):
                harmless(status, text, (verb, target, body))
            count += 1
    return count


def reaches(target: str) -> bool:
    """Whether a path is another true one: an empty part, or one that begins a query or names what is there."""
    return (
        re.search(r"/(jobs|videos|webhooks|webhook_endpoints|models)/?$|/(sync|edits|film|recipe)$", target) is not None
    )


@pytest.mark.parametrize("count", [100, pytest.param(COUNT, marks=pytest.mark.trial)])
def test_no_path_traversal_opens_a_file_outside_the_artifact_store(
    service: Live, place: Path, id: str, count: int
) -> None:
    every = payloads(id)
    assert len(every) == COUNT
    chosen = random.Random(3).sample(every, count)
    with WATCHER.watching() as opened:
        requested = attacked(service, id, chosen, 1 if count < COUNT else 3)
    assert requested >= 2 * count
    assert outside(opened, place) == []
    # Nothing of it was kept, and nothing was lost.
    assert service.service.artifacts.ids() == [id]
    assert service.get(f"/api/v1/jobs/{id}/film").status_code == 200


def test_a_symbolic_link_beside_the_film_is_not_followed(service: Live, place: Path, id: str) -> None:
    with WATCHER.watching() as opened:
        assert service.get(f"/api/v1/jobs/{id}/preview").status_code == 404
    assert [path for path in opened if path.endswith("preview.webp")], "the link itself was tried"
    assert outside(opened, place) == []


@pytest.mark.slow
def test_names_of_uploaded_files_are_never_used_as_paths(service: Live, place: Path, id: str) -> None:
    from tests.server.api.test_jobs import picture

    before = set(place.parent.rglob("*"))
    with WATCHER.watching() as opened:
        for name in random.Random(5).sample(payloads(id), 25):
            parts = {"request": (None, json.dumps(QUICK)), "image": (name or "x", picture(), "image/png")}
            made = service.post("/api/v1/jobs", files=parts)
            assert made.status_code in (201, 400), made.text
            if made.status_code == 201:
                service.delete(f"/api/v1/jobs/{made.json()['id']}")
    assert outside(opened, place) == []
    left = {path for path in set(place.parent.rglob("*")) - before if path.is_file()}
    assert {path for path in left if not path.is_relative_to(place)} == set()
