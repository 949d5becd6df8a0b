"""Output of commands: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

from flickbook.errors import Cancelled, FlickbookError, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from flickbook.spec import Recipe, Run


def document(value: Any) -> None:
    """Print `value` as the only JSON document of this command."""
    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False))


def start(log_level: str) -> None:
    """Send the package's log to stderr, from this level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("flickbook")
    logger.handlers = [handler]
    logger.setLevel(log_level.upper())


def note(text: str) -> None:
    """Print a message that is not an error, as one line on stderr."""
    print(f"note: {one_line(text)}", file=sys.stderr)


def refusal(message: str, code: str, field: str | None, as_json: bool) -> None:
    """Print one line `error: …` on stderr, and with `as_json` also a JSON document on stdout."""
    print(f"error: {one_line(message)}", file=sys.stderr)
    _as_document(message, code, field, as_json)


def _as_document(message: str, code: str, field: str | None, as_json: bool) -> None:
    if as_json:
        document({"error": {"code": code, "message": one_line(message), "field": field}})


def failure(error: BaseException, as_json: bool, message: str = "") -> int:
    """Report the error that ended a command, and return its exit code. `message` replaces the error's own message."""
    if isinstance(error, Cancelled):  # the user's own wish is no error
        print(one_line(error), file=sys.stderr)
        _as_document(str(error), error.code, error.field, as_json)
        return error.exit_code
    if isinstance(error, FlickbookError):
        refusal(message or str(error), error.code, error.field, as_json)
        return error.exit_code
    from flickbook.engine.memory.fallback import ran_out  # lazy: pydantic takes a moment to import

    if ran_out(error):
        refusal("out of memory; close other programs or ask for fewer frames", "out_of_memory", None, as_json)
        return 1
    if logging.getLogger("flickbook").isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    hint = "run again with FLICKBOOK_LOG_LEVEL=debug and report what it prints"
    refusal(f"unexpected {type(error).__name__}: {error}; {hint}", "unexpected", None, as_json)
    return 1


def made(path: Path, recipe: Recipe | None, run: Run | None) -> dict[str, Any]:
    """Return the `--json` document of one film."""
    from flickbook.media.clip import sidecar_path

    return {
        "path": str(path),
        "sidecar": str(sidecar_path(path)),
        "seed": getattr(getattr(recipe, "plan", None), "seed", None),
        "recipe": None if recipe is None else recipe.model_dump(mode="json"),
        "run": None if run is None else run.model_dump(mode="json"),
    }
