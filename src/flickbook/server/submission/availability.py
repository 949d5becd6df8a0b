"""Checks that the models of new jobs are on this machine; else the jobs are refused or wait for the download."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from flickbook import catalogue
from flickbook.errors import ModelNotPulled
from flickbook.hub.find import directory
from flickbook.server.service import Service
from flickbook.store.base import Job


async def require_models(service: Service, jobs: Iterable[Job]) -> None:
    """Refuse jobs whose model is not on this machine.

    If the setting `pull` is auto, such jobs are accepted and the service downloads their models. Raises ModelNotPulled,
    and WeightsError for a model whose directory is gone.
    """
    for name in sorted({job.plan.model for job in jobs if not job.model_dir}):
        try:
            await asyncio.to_thread(directory, catalogue.find(name))
        except ModelNotPulled as error:
            if service.settings.pull != "auto":
                raise ModelNotPulled(name, error.terms, f"POST {pull_path(name)} downloads it") from None
            service.models_wanted.set()


def pull_path(name: str) -> str:
    """Return the path at which the download of a model is started and followed."""
    return f"/api/v1/models/{name}/pull"
