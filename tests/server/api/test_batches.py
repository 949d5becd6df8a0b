"""Batches over HTTP: a job for each row, all or none, and no path of a row is ever opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.live import Live, live

PATH = "/api/v1/batches"
CSV = "name,prompt,seed,num_frames,quality,steady,loop\none,a red circle,7,8,80,yes,pingpong\n,a blue square,,,,,\n"
JSONL = (
    '{"name": "one", "prompt": "a red circle", "seed": 7, "num_frames": 8, "quality": 80, "steady": true, '
    '"loop": "pingpong"}\n{"prompt": "a blue square"}\n'
)
TOML = """[defaults]
num_frames = 16

[[films]]
prompt = "a red circle"
seed = 7
num_frames = 8
quality = 80
steady = true
loop = "pingpong"

[[films]]
prompt = "a blue square"
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("service")) as found:
        yield found


def sent(service: Live, name: str, text: str, **options: Any) -> httpx2.Response:
    return service.post(PATH, files={"file": (name, text.encode())}, **options)


def jobs(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.status_code == 201, response.text
    found = response.json()
    assert found["object"] == "list"
    data: list[dict[str, Any]] = found["data"]
    return data


def refused(response: httpx2.Response, field: str) -> str:
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["field"] == field, error
    return str(error["message"])


def waiting(service: Live) -> int:
    return sum(service.get("/api/v1/queue").json()["counts"].values())


@pytest.mark.parametrize(("name", "text"), [("a.csv", CSV), ("b.JSONL", JSONL), ("c.toml", TOML)])
def test_each_row_of_a_file_is_a_job(service: Live, name: str, text: str) -> None:
    first, second = jobs(sent(service, name, text))
    plan = first["plan"]
    assert (plan["prompt"], plan["seed"], plan["num_frames"], plan["quality"]) == ("a red circle", 7, 8, 80)
    assert (plan["polish"]["steady"], plan["polish"]["loop"]) == (1.0, "pingpong")
    assert (second["prompt"], second["plan"]["num_frames"], second["kind"]) == ("a blue square", 16, "film")
    assert [each["state"] for each in (first, second)] == ["queued", "queued"]
    assert service.get(second["links"]["self"]).json()["seed"] == second["seed"]


def test_json_rows_accept_job_fields_and_override_the_defaults(service: Live) -> None:
    body = {
        "defaults": {"prompt": "a red circle", "size": "128x128", "num_frames": 4, "polish": {"loop": "pingpong"}},
        "rows": [
            {"seed": 1, "container": "webm"},
            {"prompt": "a blue square", "num_frames": 1, "polish": {"loop": ""}, "seed": None},
            {"num_frames": 24, "prompt_at": [[16, "a star"]]},
            {"num_frames": 24, "prompt_at": ["16:a star"], "loop": "blend", "upscaler": "lanczos", "upscale": "2x"},
        ],
        "priority": -5,
        "expires_in": 60,
    }
    found = jobs(service.post(PATH, json=body))
    plans = [job["plan"] for job in found]
    assert [plan["container"] for plan in plans] == ["webm", "png", "mp4", "mp4"]
    assert [plan["num_frames"] for plan in plans] == [4, 1, 24, 24]
    assert plans[2]["prompt_at"] == plans[3]["prompt_at"] == [[16, "a star"]]
    assert [plan["polish"]["loop"] for plan in plans] == ["pingpong", "", "pingpong", "blend"]
    assert plans[3]["polish"]["upscale"] == 2
    assert {job["priority"] for job in found} == {-5} and all(job["expires_at"] for job in found)


@pytest.mark.parametrize(
    ("defaults", "row"),
    [
        ({}, {"speed": "balanced", "polish": {"speed": 2}}),
        ({"speed": "balanced"}, {"polish": {"speed": 2}}),
        ({"polish": {"speed": 2}}, {"speed": "balanced"}),
        ({"speed": "exact", "polish": {"speed": 3}}, {"speed": "balanced,2"}),
    ],
)
def test_generation_speed_and_playback_speed_are_separate_fields(service: Live, defaults: Any, row: Any) -> None:
    body = {"rows": [{"prompt": "a red circle"} | row], "defaults": defaults}
    (job,) = jobs(service.post(PATH, json=body))
    assert (job["plan"]["speed"], job["plan"]["polish"]["speed"]) == ("balanced", 2.0)
    twice = {"rows": [{"prompt": "a red circle", "speed": 2, "polish": {"speed": 2}}]}
    assert "is set both in polish and next to it" in refused(service.post(PATH, json=twice), "speed")


def test_the_request_part_holds_defaults_for_the_rows_of_a_file(service: Live) -> None:
    options = {"defaults": {"container": "webp", "num_frames": 4, "seed": 3}, "priority": -1}
    first, second = jobs(sent(service, "a.jsonl", JSONL, data={"request": json.dumps(options)}))
    assert (first["plan"]["container"], first["plan"]["num_frames"], first["seed"]) == ("webp", 8, 7)
    assert (second["plan"]["container"], second["plan"]["num_frames"], second["seed"]) == ("webp", 4, 3)
    assert {first["priority"], second["priority"]} == {-1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "/etc/passwd"),
        ("video", "film.mp4"),
        ("output", "x.mp4"),
        ("lora", "style.safetensors"),
        ("loras", [["/a", 1.0]]),
        ("interpolator", "rife.safetensors"),
        ("upscaler", "/dev/zero"),
        ("model_dir", "/"),
    ],
)
def test_a_row_that_names_a_file_is_refused_with_its_field(service: Live, name: str, value: Any) -> None:
    before = waiting(service)
    rows = [{"prompt": "a red circle"}, {"prompt": "a red circle", name: value}]
    message = refused(service.post(PATH, json={"rows": rows}), name)
    assert message.startswith(f"row 2: {name}=") and "rows cannot open files" in message
    message = refused(service.post(PATH, json={"rows": rows[:1], "defaults": {name: value}}), name)
    assert message.startswith(f"defaults: {name}=")
    if name in ("image", "video", "lora", "interpolator", "upscaler"):
        assert refused(sent(service, "a.csv", f"prompt,{name}\nx,{value}\n"), name).startswith(f"row 1: {name}=")
    polish = {"rows": [{"prompt": "x", "polish": {name: value}}]}
    assert refused(service.post(PATH, json=polish), name).startswith("row 1: ")
    assert waiting(service) == before


@pytest.mark.parametrize(
    ("rows", "field", "message"),
    [
        ([{"prompt": "x"}, {"prompt": "x", "num_frames": 9999}], "num_frames", "row 2: num_frames=9999: must be"),
        ([{"prompt": "x"}, {}], "prompt", "row 2: prompt=: missing from the row"),
        ([{"prompt": "x", "num_frames": "8"}], "num_frames", "row 1: num_frames=8: "),
        ([{"prompt": "x", "colour": "red"}], "colour", "row 1: colour=red: not a field of row"),
        ([{"prompt": "x", "size": 128}], "size", "row 1: size=128: must be text"),
        ([{"prompt": "x", "size": "128x128", "width": 128}], "size", "row 1: size=128x128: cannot be combined"),
        ([{"prompt": "x", "polish": "cut"}], "polish", "row 1: polish=str: must be an object"),
        ([{"prompt": "x", "loop": "cut", "polish": {"loop": "cut"}}], "loop", "row 1: loop=cut: is set both in polish"),
        ([{"prompt": "x", "quality": "best"}], "quality", "row 1: quality=best: must be 0 to 100"),
        ([{"prompt": "x", "prompt_at": ["a star"]}], "prompt_at", "row 1: prompt_at=a star: must be FRAME:PROMPT"),
        ([], "rows", "rows="),
        ([1], "rows.0", "rows.0=1: "),
        ([{"prompt": "x"}] * 1001, "rows", "1000"),
    ],
)
def test_a_wrong_row_is_named_and_no_job_is_created(service: Live, rows: Any, field: str, message: str) -> None:
    before = waiting(service)
    assert message in refused(service.post(PATH, json={"rows": rows}), field)
    assert waiting(service) == before


def test_an_invalid_table_file_is_refused(service: Live) -> None:
    for name, text, message in (
        ("a.txt", "prompt\nx\n", "must end in .csv, .jsonl or .toml"),
        ("a.csv", "prompt,num_frames\nx,4\ny,many\n", "row 2: num_frames=many"),
        ("a.csv", "prompt\n" + "x\n" * 1001, "at most 1000 rows"),
        ("a.csv", "prompt\n", "has no rows"),
        ("a.toml", "x", "is not valid TOML"),
    ):
        response = sent(service, name, text)
        assert response.status_code == 400 and message in response.json()["error"]["message"], response.text
    assert refused(service.post(PATH, data={"rows": "x"}, files={"file": ("a.csv", CSV.encode())}), "rows")
    assert refused(service.post(PATH, files={"other": ("a.csv", CSV.encode())}), "other")
    assert refused(service.post(PATH, data={"request": "{}"}), "file")
    more = {"request": json.dumps({"rows": []})}
    assert refused(sent(service, "a.csv", CSV, data=more), "rows")


def test_same_idempotency_key_returns_the_same_jobs_and_refuses_another_table(service: Live) -> None:
    headers, rows = {"idempotency-key": "table"}, [{"prompt": "a red circle"}, {"prompt": "a blue square", "seed": 1}]
    first = jobs(service.post(PATH, json={"rows": rows}, headers=headers))
    again = jobs(service.post(PATH, json={"rows": rows}, headers=headers))
    assert [job["id"] for job in again] == [job["id"] for job in first]
    before = waiting(service)
    other = [*rows[:1], {"prompt": "a green star", "seed": 1}, {"prompt": "a new one"}]
    for table in (other, [*rows, {"prompt": "a new one"}]):
        answer = service.post(PATH, json={"rows": table}, headers=headers)
        assert answer.status_code == 422 and answer.json()["error"]["field"] == "Idempotency-Key"
    assert waiting(service) == before


@pytest.mark.slow
def test_1000_rows_create_1000_jobs(tmp_path: Path) -> None:
    with live(tmp_path) as service:
        found = jobs(sent(service, "a.csv", "prompt,seed\n" + "".join(f"a red circle,{n}\n" for n in range(1000))))
        assert [job["seed"] for job in found] == list(range(1000))
        assert service.get("/api/v1/queue").json()["counts"]["queued"] == 1000


ROW = st.dictionaries(
    st.sampled_from(["prompt", "size", "polish", "prompt_at", "quality", "steady", "loop", "name", "upscaler", "seed"]),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.lists(st.text(max_size=4) | st.integers(), max_size=2) | st.dictionaries(st.text(max_size=6), st.integers()),
    max_size=4,
)  # fmt: skip


@settings(max_examples=60)
@given(rows=st.lists(ROW, max_size=2), defaults=ROW)
def test_no_table_causes_a_500(service: Live, rows: Any, defaults: Any) -> None:
    response = service.post(PATH, json={"rows": rows, "defaults": defaults | {"model": "nothing"}})
    assert response.status_code in (400, 404), response.text
