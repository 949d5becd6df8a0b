"""The whole service under schemathesis: all its checks, stateful, as its command runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.server.live import Live, live
from tests.server.settled import QUICK, settled

#: What a schema cannot say, as that a model makes 128x128 alone, is refused with 400, and an Idempotency-Key that was
#: used before with 409 or 422. Routes that wait for a worker are not called. A stream without an end is left at its
#: first event.
CONFIG = """
max-stream-events = 1
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "416", "422", "429", "501"]
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "413", "415", "416", "421", "422", "429", "501"]
[[operations]]
include-path-regex = "^/api/v1/jobs/.id./(film|preview|thumbnail|sheet|last|recipe|run)$"
parameters = { "path.id" = "DONE" }
"""
#: Bad keys by the thousand lock their sender out, which hides what else is answered to them.
MAX_FAILURES = 1_000_000
WAITING = ("/v1/videos/sync", "/v1/images/generations")


def run(service: Live, place: Path, *words: str) -> tuple[int, str, list[Any]]:
    """The exit code, what was said, and the responses' statuses, of schemathesis against a service."""
    _, head = service.key("tester", "read", "create", rate=1_000_000)
    done = settled(service, service.post("/api/v1/jobs", json=QUICK, headers=head).json()["id"])
    (place / "schemathesis.toml").write_text(CONFIG.replace("DONE", done.id), encoding="utf-8")
    report = place / "report.ndjson"
    excluded = [word for path in WAITING for word in ("--exclude-path", path)]
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(place / "schemathesis.toml"), "run"]
    command += [f"{service.url}/openapi.json", "--checks", "all", "--header", f"Authorization: {head['authorization']}"]
    command += ["--continue-on-failure", "--request-timeout", "20", "--suppress-health-check", "all", "--seed", "7"]
    command += ["--report-ndjson-path", str(report), "--no-color", *excluded, *words]
    ran = subprocess.run(command, cwd=place, capture_output=True, text=True)
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    statuses = [int(each) for each in re.findall(r'"status_code":\s*([0-9]{3})', text)]
    return ran.returncode, ran.stdout + ran.stderr, statuses


@pytest.mark.slow
def test_hundreds_of_generated_requests_follow_the_openapi_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flickbook.server.access.rate_limits.MAX_FAILURES", MAX_FAILURES)
    tags = ["--include-tag", "jobs", "--include-tag", "files"]
    with live(tmp_path) as service:
        code, output, statuses = run(service, tmp_path, "--phases", "examples,coverage", *tags)
    assert code == 0, output
    assert len(statuses) > 300 and not [status for status in statuses if status >= 500]


@pytest.mark.trial
def test_10000_generated_requests_follow_the_openapi_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flickbook.server.access.rate_limits.MAX_FAILURES", MAX_FAILURES)
    with live(tmp_path, webhook_hosts=("hooks.example.com",)) as service:
        code, output, statuses = run(service, tmp_path, "--max-examples", "150")
        assert service.get("/healthz").status_code == 200
    assert code == 0, output
    assert len(statuses) >= 10_000 and not [status for status in statuses if status >= 500]
