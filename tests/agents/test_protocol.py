"""The tools as the SDK's client sees them: what they do to the queue, what they refuse, and films as tasks."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp import types
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_REQUIRED_CLIENT_CAPABILITY
from PIL import Image
from tests.agents.talking import (
    QUICK,
    RED,
    CancelTaskRequest,
    Tasks,
    UpdateTaskRequest,
    ask,
    refusal,
    run,
    service_at,
    state_of,
    talking,
)
from tests.server.working import png
from tests.store.examples import job

from flickbook.agents.stdio import Local
from flickbook.agents.tasks import CancelTask, UpdateTask
from flickbook.engine.generate import generate
from flickbook.jobs import queue
from flickbook.jobs.create import ordered
from flickbook.media.read import read_any
from flickbook.spec import Request
from flickbook.store.base import Job, Result, Sidecar

PICTURE = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
READING = ["list_models", "wait_for_films", "look", "search_films", "show_jobs"]


def test_every_tool_and_every_field_is_described(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            tools = (await client.list_tools()).tools
        for tool in tools:
            assert tool.description and tool.output_schema is not None
            for schema in (tool.input_schema, *tool.input_schema.get("$defs", {}).values()):
                fields = schema.get("properties", {})
                assert [name for name, field in fields.items() if "description" not in field] == [], schema["title"]

    run(main())


def test_make_film_queues_the_plan_of_its_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            (film,) = (await ask(client, "make_film", prompt=RED, polish={"speed": 2.0}, **QUICK))["films"]
            stored = await service.queue.job(film["id"])
            expected = ordered(Request(prompt=RED, model="builtin", **QUICK), {"speed": 2.0})
            assert stored.plan == expected.plan
            assert (film["state"], film["seed"], stored.owner) == ("queued", 7, "")

    run(main())


def test_seconds_choose_the_number_of_frames(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            (film,) = (await ask(client, "make_film", prompt=RED, seconds=2))["films"]
            assert film["num_frames"] / film["fps"] == 2

    run(main())


SHOTS: dict[str, Any] = {
    "shots": [{"prompt": RED, "num_frames": 4}, {"prompt": "a blue square", "num_frames": 4}],
    "defaults": {"seed": 7, "num_inference_steps": 2},
}


def test_make_shots_queues_one_film_of_several_shots(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            (film,) = (await ask(client, "make_shots", **SHOTS, images={"shot-1-image": PICTURE}))["films"]
            assert (film["kind"], film["num_frames"]) == ("shots", 8)
            assert len((await service.queue.job(film["id"])).plan.shots) == 2
            line = await refusal(client, "make_shots", **SHOTS, images={"shot-3-image": PICTURE})
            assert "there are 2 shots" in line
            line = await refusal(client, "remake_film", id=film["id"], polish={"loop": "blend"})
            assert "is of the kind shots" in line
            line = await refusal(client, "make_shots", **SHOTS, images={"picture": PICTURE})
            assert "is no input of a shot" in line

    run(main())


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("make_film", {"prompt": RED, "num_frames": 999}, "num_frames=999: must be 1 to 256; ask for 256 frames or fewer"),
    ("make_film", {"prompt": RED, "size": "1x1"}, "size"),
    ("make_film", {"prompt": RED, "num_frames": "16"}, "num_frames"),
    ("make_film", {}, "prompt"),
    ("make_film", {"prompt": RED, "model": "nothing"}, "nothing"),
    ("make_film", {"prompt": RED, "model": "text-to-video-ms-1.7b"}, "flickbook models pull text-to-video-ms-1.7b"),
    ("make_film", {"prompt": RED, "priority": 5}, "scope admin"),
    ("make_film", {"prompt": RED, "last_image": PICTURE}, "last_image"),
    ("make_film", {"prompt": RED, "image": "https://films.example/red.png"}, "--root"),
    ("make_film", {"prompt": RED, "image": "data:image/png;base64,AAAA"}, "image="),
    ("make_film", {"prompt": RED, "control": "edges"}, "without a control video; add control_video"),
    ("make_film", {"prompt": RED, "model": "animatediff-canny"}, "without a control video; add control_video"),
    ("draft_films", {"prompt": RED, "seeds": 65}, "seeds"),
    ("draft_films", {"prompt": RED, "until": 1.0}, "until"),
    ("finish_drafts", {"ids": ["job_unknown"]}, "id=job_unknown: no such job; search_films finds them"),
    ("look", {"ids": []}, "ids"),
    ("wait_for_films", {"ids": ["job_unknown"]}, "job_unknown"),
    ("wait_for_films", {"ids": ["job_unknown"], "seconds": 601}, "seconds=601"),
    ("search_films", {"after": "job_unknown"}, "job_unknown"),
]


def test_a_refusal_is_a_result_of_one_line_and_queues_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            for tool, arguments, expected in REFUSED:
                line = await refusal(client, tool, **arguments)
                assert expected in line and "\n" not in line, line
            assert (await service.store.counts())["queued"] == 0

    run(main())


def test_an_unknown_tool_is_an_error_of_the_protocol(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            with pytest.raises(MCPError, match="delete_everything: no such tool") as error:
                await client.call_tool("delete_everything", {})
            assert error.value.code == INVALID_PARAMS

    run(main())


def test_without_the_scope_create_an_agent_sees_and_calls_only_what_reads(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service, "read") as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == READING
            assert "without the scope create" in await refusal(client, "make_film", prompt=RED)
            assert (await ask(client, "search_films"))["films"] == []
            assert (await service.store.counts())["queued"] == 0

    run(main())


def test_the_jobs_of_other_owners_are_unknown(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            other = job(owner="ann")
            await service.store.add([other])
            for tool in ("show_jobs", "look", "choose", "cancel_jobs"):
                assert other.id in await refusal(client, tool, ids=[other.id])
            assert (await ask(client, "search_films"))["films"] == []

    run(main())


def test_the_gallery_is_searched_in_pages_by_text_and_by_favourites(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            prompts = ["a red circle", "a blue square", "a RED star"]
            ids = [(await ask(client, "make_film", prompt=each, **QUICK))["films"][0]["id"] for each in prompts]
            found = await ask(client, "search_films", text="red")
            assert [film["id"] for film in found["films"]] == [ids[2], ids[0]]
            page = await ask(client, "search_films", limit=2)
            assert page["has_more"] and [film["id"] for film in page["films"]] == [ids[2], ids[1]]
            page = await ask(client, "search_films", limit=2, after=ids[1])
            assert not page["has_more"] and [film["id"] for film in page["films"]] == [ids[0]]
            await ask(client, "choose", ids=[ids[1]])
            assert [film["id"] for film in (await ask(client, "search_films", favourite=True))["films"]] == [ids[1]]
            await ask(client, "choose", ids=[ids[1]], favourite=False)
            assert (await ask(client, "search_films", favourite=True))["films"] == []

    run(main())


def test_drafts_have_consecutive_seeds_and_can_be_cancelled_together(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            drafts = (await ask(client, "draft_films", prompt=RED, seed=3, seeds=3, num_frames=4))["films"]
            assert [(film["kind"], film["seed"]) for film in drafts] == [("draft", 3), ("draft", 4), ("draft", 5)]
            ids = [film["id"] for film in drafts]
            for _ in range(2):  # a repeated call changes nothing
                films = (await ask(client, "cancel_jobs", ids=ids))["films"]
                assert {film["state"] for film in films} == {"cancelled"}

    run(main())


def test_each_draft_has_its_own_copy_of_the_pictures(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            drafts = (await ask(client, "draft_films", prompt=RED, seeds=2, image=PICTURE, **QUICK))["films"]
            jobs = [await service.queue.job(draft["id"]) for draft in drafts]
            paths = [Path(str(job.request.image)) for job in jobs]
            assert len(set(paths)) == 2 and all(path.read_bytes() == png() for path in paths)
            assert [job.id for job in jobs] == [path.parent.name for path in paths]
            before = service.artifacts.ids()
            assert "takes no last frame" in await refusal(
                client, "draft_films", prompt=RED, seeds=2, image=PICTURE, last_image=PICTURE
            )
            assert service.artifacts.ids() == before

    run(main())


def test_waiting_reports_progress_and_ends_at_its_limit(tmp_path: Path) -> None:
    async def main() -> None:
        told: list[tuple[float, float | None, str | None]] = []

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            told.append((progress, total, message))

        async with service_at(tmp_path) as service, talking(service) as client:
            id = (await ask(client, "make_film", prompt=RED, **QUICK))["films"][0]["id"]
            result = await client.call_tool("wait_for_films", {"ids": [id], "seconds": 0.3}, progress_callback=tell)
            assert result.structured_content["films"][0]["state"] == "queued"
            assert told and told[0][:2] == (0.0, 1.0) and "queued" in str(told[0][2])

    run(main())


def test_a_film_is_a_task_for_a_client_that_declares_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service, extensions=[tasks := Tasks()]) as client:
            calling = asyncio.ensure_future(client.call_tool("draft_films", {"prompt": RED, "seeds": 2, **QUICK}))
            while not tasks.seen:
                await asyncio.sleep(0.01)
            ids = tasks.seen[0].split("+")
            state = await state_of(client, tasks.seen[0])
            assert (state.status, len(ids), state.ttl_ms) == ("working", 2, None)
            for id in ids:
                found = await service.queue.job(id)
                await service.store.change(id, ("queued",), queue.failed(found, "out of memory", code="memory"))
            result = await calling
            assert result.is_error and "out of memory" in str(result.content)

    run(main())


def test_a_task_is_cancelled_with_its_jobs(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service, extensions=[Tasks()]) as client:
            id = (await service.store.add([job()]))[0].id
            await service.store.change(id, ("queued",), {"created_at": 86400.0})
            assert (await state_of(client, id)).last_updated_at == "1970-01-02T00:00:00Z"
            await client.session.send_request(UpdateTaskRequest(params=UpdateTask(task_id=id)), types.Result)
            await client.session.send_request(CancelTaskRequest(params=CancelTask(task_id=id)), types.Result)
            assert (await state_of(client, id)).status == "cancelled"
            assert (await service.queue.job(id)).state == "cancelled"
            with pytest.raises(MCPError, match="job_unknown") as error:
                await state_of(client, "job_unknown")
            assert error.value.code == INVALID_PARAMS

    run(main())


@pytest.mark.parametrize(("mode", "code"), [("auto", MISSING_REQUIRED_CLIENT_CAPABILITY), ("legacy", METHOD_NOT_FOUND)])
def test_a_client_without_tasks_gets_the_jobs_themselves(tmp_path: Path, mode: str, code: int) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service, mode=mode) as client:
            (film,) = (await ask(client, "make_film", prompt=RED, **QUICK))["films"]
            assert film["state"] == "queued"
            with pytest.raises(MCPError) as error:
                await state_of(client, film["id"])
            assert error.value.code == code

    run(main())


def test_a_repeated_call_with_the_same_key_creates_its_jobs_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            for tool, fields in (("make_film", QUICK), ("draft_films", {"seeds": 2})):
                sent = {"prompt": RED, "idempotency_key": "one", **fields}
                films = [(await ask(client, tool, **sent))["films"] for _ in range(2)]
                assert [film["id"] for film in films[0]] == [film["id"] for film in films[1]]
                assert "one" in await refusal(client, tool, **sent | {"prompt": "a blue square"})
            assert (await service.store.counts())["queued"] == 3

    run(main())


def test_pictures_come_as_data_or_from_below_a_root_and_from_nowhere_else(tmp_path: Path) -> None:
    async def main() -> None:
        inside, outside = tmp_path / "inside", tmp_path / "outside"
        for each in (inside, outside):
            each.mkdir()
            (each / "red.png").write_bytes(png())
        (inside / "link.png").symlink_to(outside / "red.png")
        async with service_at(tmp_path) as service:
            async with talking(service, roots=[inside]) as client:
                for image in ("red.png", str(inside / "red.png"), PICTURE):
                    (film,) = (await ask(client, "make_film", prompt=RED, image=image, **QUICK))["films"]
                    stored = await service.queue.job(film["id"])
                    assert stored.request.image is not None
                    assert Path(stored.request.image).read_bytes() == png()
                for image in ("../outside/red.png", str(outside / "red.png"), "link.png", "nothing.png", "\0"):
                    line = await refusal(client, "make_film", prompt=RED, image=image, **QUICK)
                    assert "no such file below the roots" in line
                line = await refusal(client, "edit_film", prompt=RED, video="red.png")
                assert line.startswith("video=")
                assert "must name one film" in await refusal(client, "edit_film", prompt=RED)
            async with talking(service) as client:
                assert "--root" in await refusal(client, "make_film", prompt=RED, image=str(inside / "red.png"))
            assert (await service.store.counts())["queued"] == 3

    run(main())


def test_a_film_of_the_command_line_is_edited_and_extended(tmp_path: Path) -> None:
    clip = generate(RED, **QUICK)
    film = clip.save(tmp_path / "elsewhere" / "red.mkv", quality="lossless")
    made = Result(path=str(film), sidecar=Sidecar(recipe=clip.recipe, run=clip.run))
    request = Request(prompt=RED, model="builtin", container="mkv", **QUICK)
    done = queue.job(clip.recipe.plan, request, home="command", output=str(film))
    done = done.model_copy(update={"state": "completed", "result": made})

    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            id = (await service.store.add([done]))[0].id
            (edited,) = (await ask(client, "edit_film", id=id, prompt="a blue star"))["films"]
            video = (await service.queue.job(edited["id"])).request.video
            assert video is not None and Path(video).read_bytes() == film.read_bytes()
            (longer,) = (await ask(client, "extend_film", id=id, prompt=RED, num_frames=4))["films"]
            stored = await service.queue.job(longer["id"])
            assert (stored.kind, stored.parent, stored.plan.num_inference_steps) == ("extension", id, 2)
            assert stored.request.image is not None and np.array_equal(
                np.asarray(Image.open(stored.request.image)), read_any(str(film))[0][-1]
            )

    run(main())


def test_links_are_made_once_for_a_call_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, made = Local.address, list[str]()

    async def counted(self: Local, caller: Any, job: Job) -> str:
        made.append(job.id)
        return await address(self, caller, job)

    monkeypatch.setattr(Local, "address", counted)

    async def main() -> None:
        async with service_at(tmp_path) as service, talking(service) as client:
            done, waiting = await service.store.add([job(), job()])
            await service.store.change(done.id, ("queued",), {"state": "completed"})
            await ask(client, "wait_for_films", ids=[done.id, waiting.id], seconds=0.6)
            assert made == [done.id]

    run(main())
