"""`/generate`: the studio's endpoint for `gradio_client`. It makes a film from a prompt as a job of the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import gradio as gr
from gradio.events import api

from flickbook.errors import FlickbookError
from flickbook.jobs import signed_links
from flickbook.jobs.create import ordered
from flickbook.server.access.dependencies import Guard, caller_of
from flickbook.server.api.job_files import link_path
from flickbook.server.service import Caller, Service
from flickbook.server.submission.submit import submitted
from flickbook.spec import Request
from flickbook.store.base import DONE

#: Seconds between two polls of the job.
_LOOK: Final = 0.15


def endpoint(service: Service, guard: Guard) -> None:
    """Add the endpoint to the page that is being built."""

    async def generate(
        prompt: str,
        model: str | None = None,
        negative_prompt: str | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        fps: float | None = None,
        seed: int | None = None,
        speed: str | None = None,
        preset: str | None = None,
        request: gr.Request | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Create a film. A parameter that is left out uses the model's default.

        Each result is the state of the job: `id`, `state`, `fraction` (0 to 1), `eta_seconds`. The last one also has
        `film`, a link below the service's address that is valid for an hour and needs no key, and the `recipe`. If the
        client disconnects, the job stays in the queue.
        """
        if request is None or request.request is None:
            raise gr.Error("the caller is unknown", print_exception=False)
        caller, scope = caller_of(request.request.scope), request.request.scope
        fields = {
            "prompt": prompt,
            "model": model or service.settings.model,
            "preset": preset,
            "negative_prompt": negative_prompt,
            "num_frames": num_frames,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": None if guidance_scale is None else float(guidance_scale),
            "fps": None if fps is None else float(fps),
            "seed": seed,
            "speed": speed,
        }
        try:
            if not caller.scopes & {"create", "admin"}:
                raise gr.Error("this key lacks the scope create; ask for one that has it", print_exception=False)
            await guard.afford(scope)
            job = await submitted(service, lambda _: ordered(Request.of(**fields), owner=caller.owner))
            async for update in _updates(service, guard, caller, job.id):
                yield update
        except FlickbookError as error:
            raise gr.Error(str(error), print_exception=False) from None

    # Calls only poll their job, so they do not wait for each other.
    api(generate, api_name="generate", concurrency_limit=None)


async def _updates(service: Service, guard: Guard, caller: Caller, id: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the state of a job whenever it changes, until the job is done."""
    before: dict[str, Any] = {}
    while True:
        job = await service.queue.job(id)
        now = service.artifacts.progress(id) if job.state == "running" else {}
        fraction = 1.0 if job.state == "completed" else float(now.get("fraction") or 0.0)
        update = {"id": id, "state": job.state, "fraction": fraction, "eta_seconds": now.get("eta_seconds")}
        if job.state in DONE:
            if job.state != "completed" or job.result is None or job.result.sidecar.recipe is None:
                raise gr.Error(job.error or f"the job was {job.state}", print_exception=False)
            film = await guard.link(caller, link_path(id, "film"), job.owner, signed_links.LONGEST)
            yield update | {"film": film, "recipe": job.result.sidecar.recipe.model_dump(mode="json")}
            return
        if update != before:
            yield update
        before = update
        await asyncio.sleep(_LOOK)
