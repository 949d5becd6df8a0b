"""What a command says, and where."""

from __future__ import annotations

import json
import logging

import pytest

from flickbook.cli import console
from flickbook.errors import Cancelled, RequestError


def test_a_document_is_ascii_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console.document({"prompt": "caf\u00e9"})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"prompt": "caf\u00e9"} and out.isascii() and err == ""


def test_a_note_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("two\nlines")
    assert capsys.readouterr() == ("", "note: two lines\n")


@pytest.mark.parametrize(
    ("error", "code", "field", "status"),
    [
        (RequestError("fps", 0, "must be 1 to 60", "ask for 1"), "invalid_request", "fps", 2),
        (Cancelled("run it again"), "cancelled", None, 130),
        (MemoryError(), "out_of_memory", None, 1),
        (ValueError("odd\nvalue"), "unexpected", None, 1),
    ],
)
def test_a_failure_is_one_line_a_document_and_an_exit_code(
    error: BaseException, code: str, field: str | None, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.failure(error, as_json=True) == status
    out, err = capsys.readouterr()
    document = json.loads(out)["error"]
    assert (document["code"], document["field"]) == (code, field)
    assert err == ("" if isinstance(error, Cancelled) else "error: ") + f"{document['message']}\n"
    assert console.failure(error, as_json=False) == status
    assert capsys.readouterr().out == ""


def test_a_traceback_is_shown_when_debugging(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("flickbook")
    level, handlers = logger.level, logger.handlers
    try:
        console.start("debug")
        console.failure(ValueError("odd"), as_json=False)
        assert "ValueError: odd\n" in capsys.readouterr().err
        console.start("warning")
        console.failure(ValueError("odd"), as_json=False)
        assert len(capsys.readouterr().err.splitlines()) == 1
    finally:
        logger.setLevel(level)
        logger.handlers = handlers
