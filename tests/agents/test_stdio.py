"""`flickbook mcp` as an agent's program starts it: real films, pictures, and a server that is killed."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import psutil
import pytest
from mcp import Client, types
from PIL import Image
from tests.agents.talking import QUICK, RED, ask, command_line, over_stdio, refusal, run
from tests.agents.test_protocol import SHOTS
from tests.patience import PATIENCE

from flickbook.cli import app as cli
from flickbook.media.read import read_any
from flickbook.spec import Recipe

#: What every request of the protocol version 2026-07-28 carries.
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def file_of(film: dict[str, Any]) -> Path:
    """The file that a film's URL names."""
    return Path(url2pathname(film["url"].removeprefix("file://")))


async def done(client: Client, *ids: str) -> list[dict[str, Any]]:
    """These films, completed."""
    films: list[dict[str, Any]] = (await ask(client, "wait_for_films", ids=list(ids), seconds=PATIENCE))["films"]
    assert {film["state"] for film in films} == {"completed"}, films
    return films


async def sheet(client: Client, *ids: str) -> Image.Image:
    """What an agent sees of these films."""
    result = await client.call_tool("look", {"ids": list(ids)})
    (picture,) = [each for each in result.content if isinstance(each, types.ImageContent)]
    return Image.open(BytesIO(base64.b64decode(picture.data)))


@pytest.mark.slow
def test_drafts_are_made_looked_at_chosen_and_finished(tmp_path: Path) -> None:
    async def main() -> None:
        async with over_stdio(tmp_path) as client:
            drafts = (await ask(client, "draft_films", prompt=RED, seeds=[7, 8], num_frames=4))["films"]
            ids = [film["id"] for film in drafts]
            assert [film["seed"] for film in await done(client, *ids)] == [7, 8]
            both, one = await sheet(client, *ids), await sheet(client, ids[0])
            assert both.height == 2 * one.height and both.width == one.width
            await ask(client, "choose", ids=[ids[1]])
            (finishing,) = (await ask(client, "finish_drafts", ids=[ids[1]]))["films"]
            (film,) = await done(client, finishing["id"])
            assert (film["kind"], film["seed"], film["parent"]) == ("film", 8, ids[1])
            frames = read_any(str(file_of(film)))[0]
            assert frames.shape == (4, 128, 128, 3)
            # The prompt asks for a red shape on blue: both colours are there.
            assert (frames[..., 0] > 150).any() and (frames[..., 2] > 100).mean() > 0.3
            assert "name a draft" in await refusal(client, "finish_drafts", ids=[film["id"]])

    run(main())


@pytest.mark.slow
def test_a_film_is_remade_edited_and_extended(tmp_path: Path) -> None:
    async def main() -> None:
        async with over_stdio(tmp_path) as client:
            (shots,) = (await ask(client, "make_shots", **SHOTS))["films"]
            (film,) = (await ask(client, "make_film", prompt=RED, **QUICK))["films"]
            assert "wait until it is completed" in await refusal(
                client, "edit_film", id=film["id"], prompt="a blue star"
            )
            shots, film = await done(client, shots["id"], film["id"])
            assert read_any(str(file_of(shots)))[0].shape[0] == 8
            made = {
                "again": await ask(client, "remake_film", id=film["id"]),
                "slower": await ask(client, "remake_film", id=film["id"], polish={"loop": "pingpong"}),
                "other": await ask(client, "remake_film", id=film["id"], new_seed=True),
                "edited": await ask(
                    client, "edit_film", id=film["id"], prompt="a blue star", strength=0.5, num_inference_steps=2
                ),
                "longer": await ask(
                    client, "extend_film", id=film["id"], prompt=RED, num_frames=4, num_inference_steps=2
                ),
            }
            ids = {name: value["films"][0]["id"] for name, value in made.items()}
            films = dict(zip(ids, await done(client, *ids.values()), strict=True))
            assert file_of(films["again"]).read_bytes() == file_of(film).read_bytes()
            assert read_any(str(file_of(films["slower"])))[0].shape[0] == 6
            assert films["other"]["seed"] != film["seed"]
            assert films["edited"]["prompt"] == "a blue star"
            assert films["longer"]["kind"] == "extension" and films["longer"]["num_frames"] > 4
            uri = f"flickbook://films/{film['id']}"
            listed = await client.list_resources()
            assert uri in [str(each.uri) for each in listed.resources]
            (content,) = (await client.read_resource(uri)).contents
            assert isinstance(content, types.BlobResourceContents)
            assert base64.b64decode(content.blob) == file_of(film).read_bytes()
            (content,) = (await client.read_resource(f"{uri}/recipe")).contents
            assert isinstance(content, types.TextResourceContents)
            assert Recipe.from_json(content.text).plan.seed == 7

    run(main())


@pytest.mark.slow
def test_a_job_survives_a_server_that_is_killed(tmp_path: Path) -> None:
    async def begun() -> str:
        async with over_stdio(tmp_path) as client:
            (film,) = (await ask(client, "make_film", prompt=RED, num_frames=4, num_inference_steps=100))["films"]
            while film["state"] != "running" or film["progress"] < 0.1:
                (film,) = (await ask(client, "wait_for_films", ids=[film["id"]], seconds=0.1))["films"]
                assert film["state"] in ("queued", "running")
            (server,) = [each for each in psutil.Process().children() if "mcp" in each.cmdline()]
            workers = server.children(recursive=True)
            os.kill(server.pid, signal.SIGKILL)
            _, alive = psutil.wait_procs(workers, PATIENCE)
            assert alive == []  # they end with the server, and save a checkpoint
        return str(film["id"])

    async def main() -> None:
        id = ""
        with suppress(BaseExceptionGroup, OSError):
            id = await begun()
        assert id
        async with over_stdio(tmp_path) as client:
            (film,) = (await ask(client, "show_jobs", ids=[id]))["films"]
            assert film["state"] in ("queued", "running") and film["progress"] > 0
            (film,) = await done(client, id)
            assert "resumed from step" in str(film["notes"])
            assert (await sheet(client, id)).width > 500
            assert len((await ask(client, "search_films", text="circle"))["films"]) == 1

    run(main())


@pytest.mark.slow
def test_only_the_protocol_is_on_standard_output(tmp_path: Path) -> None:
    words = command_line(tmp_path)
    calls: list[dict[str, Any]] = [
        {"name": "make_film", "arguments": {"prompt": RED, **QUICK}},
        {"name": "nothing", "arguments": {}},
    ]
    requests = [
        {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {**params, "_meta": META}}
        for number, params in enumerate(calls, 1)
    ]
    process = subprocess.Popen(
        [words.command, *words.args], env=words.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    print("this is no message", *map(json.dumps, requests), sep="\n", file=process.stdin, flush=True)
    lines = [json.loads(process.stdout.readline()) for _ in requests]
    process.stdin.close()
    lines += map(json.loads, process.stdout)
    assert process.wait(PATIENCE) == 0
    assert {line["id"]: "result" in line for line in lines if line.get("id") is not None} == {1: True, 2: False}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_workers(tmp_path: Path, number: signal.Signals) -> None:
    words = command_line(tmp_path)
    with subprocess.Popen(
        [words.command, *words.args], env=words.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        make = {"name": "make_film", "arguments": {"prompt": RED, "num_inference_steps": 100}, "_meta": META}
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": make}
        print(json.dumps(request), file=process.stdin, flush=True)
        assert "queued" in process.stdout.readline()
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0 and workers
        assert psutil.wait_procs(workers, PATIENCE)[1] == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--port", "9000"], "--port 9000: has no effect with --transport stdio; leave it out"),
        (["--transport", "streamable-http", "--scope", "read"], "has no effect with --transport streamable-http"),
        (["--transport", "streamable-http", "--root", "."], "has no effect with --transport streamable-http"),
        (["--scope", "write"], "choose read, create, admin"),
    ],
)
def test_options_without_effect_are_refused(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["mcp", *words]) == 2
    printed = capsys.readouterr()
    assert line in printed.err and printed.out == ""
