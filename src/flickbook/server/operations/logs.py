"""Log formats: plain lines, or one JSON object a line, each with its request and job id."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any, Final

from flickbook.errors import one_line

#: The ids of the request and the job that the current task handles.
request_id: ContextVar[str] = ContextVar("request_id", default="")
job_id: ContextVar[str] = ContextVar("job_id", default="")
#: Extra fields that a JSON line may have.
FIELDS: Final = ("method", "path", "status", "seconds", "client", "key")


class Plain(logging.Formatter):
    """One line for people: level, logger, text, and the ids in brackets; a traceback follows below."""

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(each for each in (request_id.get(), job_id.get()) if each)
        line = f"{record.levelname} {record.name}: {one_line(record.getMessage())}{f' [{ids}]' if ids else ''}"
        return line if record.exc_info is None else f"{line}\n{_trace(record)}"


class Json(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {"request_id": request_id.get(), "job_id": job_id.get()}
        fields |= {name: getattr(record, name, "") for name in FIELDS}
        if record.exc_info is not None:
            fields["traceback"] = _trace(record)
        return json.dumps({name: value for name, value in fields.items() if value != ""}, default=str)


def _trace(record: logging.LogRecord) -> str:
    assert record.exc_info is not None
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()


def start(level: str, as_json: bool) -> None:
    """Send the logs of this package and of the HTTP server to stderr, from `level` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if as_json else Plain())
    for name in ("flickbook", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level.upper())
    if as_json:
        # In JSON every request is logged; in a terminal these lines would hide the errors.
        logging.getLogger("flickbook.server.access").setLevel("INFO")
