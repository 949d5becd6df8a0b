"""The API reference at /docs, and what / leads to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.live import Live, live


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path) as found:
        yield found


def test_the_root_redirects_to_the_reference(service: Live) -> None:
    response = service.get("/", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (307, "/docs")


def test_the_reference_names_every_operation_once(service: Live) -> None:
    response = service.get("/docs")
    assert response.status_code == 200 and response.headers["content-type"] == "text/html; charset=utf-8"
    document = service.get("/openapi.json").json()
    operations = [each for path in document["paths"].values() for each in path.values()]
    anchors = re.findall(r'<details id="([^"]+)"', response.text)
    assert sorted(anchors) == sorted(each["operationId"] for each in operations) and len(set(anchors)) == len(anchors)
    assert all(re.fullmatch(r"[a-z_]+", each) for each in anchors)
    assert all(each["summary"] for each in operations)
    # A link leads to each section, and a field of a body is described.
    sections = set(re.findall(r'<h2 id="([^"]+)"', response.text))
    assert set(re.findall(r'<a href="#([^"]+)"', response.text)) <= sections
    assert "<code>guidance_scale</code></td><td>body</td>" in response.text


@pytest.mark.slow
def test_the_reference_page_loads_no_other_resource(service: Live) -> None:
    response = service.get("/docs")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(r"<script|src=|https?://(?!127\.0\.0\.1:8000)", response.text)
