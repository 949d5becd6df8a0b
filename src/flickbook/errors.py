"""The exceptions of Flickbook. This module imports nothing of Flickbook.

    FlickbookError                 exit 1   code "error"
    ├── RequestError               exit 2   code "invalid_request"     a field of a request is invalid
    │   ├── ModelNotFound          exit 2   code "model_not_found"     no model has this name; suggests similar names
    │   ├── SchedulerMismatch      exit 2   code "scheduler_mismatch"  the model does not support this scheduler
    │   ├── SettingsError          exit 2   code "invalid_setting"     a setting in the environment or flickbook.toml
    │   ├── JobNotFound            exit 2   code "job_not_found"       no such job, or a job of another owner
    │   ├── JobConflict            exit 2   code "job_state"           the job's state does not allow this operation
    │   ├── IdempotencyKeyReused   exit 2   code "idempotency_key_reused"  the key was used with another request
    │   └── LimitReached           exit 2   code "limit_reached"       a rate limit, job limit or quota is reached
    ├── OutputError                exit 2   code "output"              a file exists or cannot be written
    ├── MediaError                 exit 2   code "media"               an image or video file cannot be read
    ├── WeightsError               exit 2   code "weights"             weights are missing, corrupt or do not fit
    ├── HubError                   exit 2   code "hub"                 a repository is gated, missing or unreachable
    │   └── ModelNotPulled         exit 2   code "model_not_pulled"    a model's files are not on this machine
    ├── StoreError                 exit 2   code "store"               the job store is damaged, newer or unreachable
    ├── ServiceError               exit 2   code "service"             a Flickbook service is unreachable or refuses
    ├── MissingExtra               exit 2   code "missing_extra"       an optional package is not installed
    ├── WindowError                exit 2   code "window"              no window can be opened on this machine
    └── Cancelled                  exit 130 code "cancelled"           the caller cancelled the operation

Each message is one line that states the problem and the remedy. `code` is stable and meant for programs; the wording of
messages may change.
"""

from __future__ import annotations

from typing import Self

SHOWN_CHARACTERS = 60


def shown(value: object) -> str:
    """Format `value` for a message: one line of at most 60 characters, control characters escaped."""
    try:
        text = str(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        text = "a number too long to print"
    # Truncate before escaping too: showing 60 characters of a 1 MB prompt must not process all of it.
    line = escaped(text[: SHOWN_CHARACTERS + 1])
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def escaped(text: str) -> str:
    """Escape every character of `text` that is not printable, such as line ends and control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(text: object) -> str:
    """Replace every run of whitespace in `text` by one space."""
    return " ".join(str(text).split())


class FlickbookError(Exception):
    """Base class of all errors. `code` is stable; `exit_code` is the exit code of the command line."""

    code: str = "error"
    exit_code: int = 1
    field: str | None = None
    _arguments: tuple[tuple[object, ...], dict[str, object]]

    def __new__(cls, *args: object, **named: object) -> Self:
        made = super().__new__(cls, *args)
        made._arguments = (args, named)
        return made

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled by their message alone; an error is made again from what it was made from.
        return (_again, (type(self), *self._arguments))


def _again(kind: type[FlickbookError], args: tuple[object, ...], named: dict[str, object]) -> FlickbookError:
    return kind(*args, **named)


class RequestError(FlickbookError):
    """A field of a request is invalid: "num_frames=999: must be 1 to 16; ask for 16 frames or fewer"."""

    code = "invalid_request"
    exit_code = 2

    def __init__(self, field: str, value: object, limit: str, remedy: str) -> None:
        self.field = field
        self.value = value
        self.limit = one_line(limit)
        self.remedy = one_line(remedy)
        super().__init__(f"{field}={shown(value)}: {self.limit}; {self.remedy}")

    def text(self, name: str, value: object = None) -> str:
        """The message with the name that the user knows the field by: "--num-frames 999: must be 1 to 16; ...".

        `value` replaces the value in the message. A message that was given a prefix, such as a row's, stays as it is.
        """
        message, start = str(self), f"{self.field}={shown(self.value)}"
        if not message.startswith(start):
            return message
        value = self.value if value is None else value
        text = "" if value is True else shown(value)
        return f"{name} {text}".rstrip() + message[len(start) :]


class ModelNotFound(RequestError):
    """No model has this name. `nearest` holds similar names, best first, and may be empty."""

    code = "model_not_found"

    def __init__(self, name: object, nearest: tuple[str, ...] | list[str] = ()) -> None:
        self.nearest = tuple(nearest)
        guess = f"did you mean {' or '.join(self.nearest)}? " if self.nearest else ""
        super().__init__("model", name, "no such model", f"{guess}`flickbook models list` shows them all")


class SchedulerMismatch(RequestError):
    """The model does not support this scheduler. `allowed` holds those that it supports."""

    code = "scheduler_mismatch"

    def __init__(self, scheduler: object, model: str, allowed: tuple[str, ...] | list[str]) -> None:
        self.model = model
        self.allowed = tuple(allowed)
        names = ", ".join(self.allowed)
        super().__init__("scheduler", scheduler, f"does not fit model {shown(model)}", f"choose one of {names}")


class SettingsError(RequestError):
    """A setting in the environment or in flickbook.toml is unknown or invalid."""

    code = "invalid_setting"


class JobNotFound(RequestError):
    """There is no job with this id, or it belongs to another owner: the two cases are deliberately alike."""

    code = "job_not_found"

    def __init__(self, id: object) -> None:
        super().__init__("id", id, "no such job", "`flickbook jobs list` shows them")


class JobConflict(RequestError):
    """The job's present state does not allow the operation."""

    code = "job_state"

    def __init__(self, id: object, state: str, wish: str, remedy: str) -> None:
        self.state, self.wish = state, wish
        super().__init__("id", id, f"is {state} and cannot be {wish}", remedy)


class IdempotencyKeyReused(RequestError):
    """The Idempotency-Key was used on this route before, with another request."""

    code = "idempotency_key_reused"

    def __init__(self, key: object) -> None:
        limit = "was used before with another request"
        super().__init__("Idempotency-Key", key, limit, "send another key, or the same request")


class LimitReached(RequestError):
    """A rate limit, job limit or quota is reached. `retry_after` is the time to wait, in seconds."""

    code = "limit_reached"

    def __init__(self, field: str, value: object, limit: str, remedy: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(field, value, limit, remedy)


class _ReasonError(FlickbookError):
    """Base class of errors that consist of a subject, a reason and a remedy."""

    exit_code = 2

    def __init__(self, subject: str, reason: str, remedy: str) -> None:
        # The reason may quote a hostile file or server.
        self.reason = escaped(one_line(reason))
        self.remedy = escaped(one_line(remedy))
        super().__init__(f"{subject}: {self.reason}; {self.remedy}")


class _FileError(_ReasonError):
    """Base class of errors about one file."""

    def __init__(self, path: object, reason: str, remedy: str) -> None:
        self.path = str(path)
        # Paths are shown in full: a truncated path is of no use.
        super().__init__(escaped(self.path), reason, remedy)


class OutputError(_FileError):
    """An output file exists already, cannot be written, or the disk is full."""

    code = "output"
    field = "output"


class MediaError(_FileError):
    """An image or video file is missing, hostile, damaged, or of an unsupported format."""

    code = "media"
    field = "file"


class WeightsError(_FileError):
    """Weights or their configuration are missing, corrupt (the reason names both hashes) or do not fit the network."""

    code = "weights"
    field = "model"


class StoreError(_FileError):
    """The job store is damaged, newer than this Flickbook, full, or unreachable. Secrets in its address are hidden."""

    code = "store"
    field = "store"


class HubError(_ReasonError):
    """A model's repository is missing, gated, damaged, or unreachable."""

    code = "hub"
    field = "model"

    def __init__(self, repo: object, reason: str, remedy: str) -> None:
        self.repo = str(repo)
        super().__init__(shown(self.repo), reason, remedy)


class ModelNotPulled(HubError):
    """A model's files are not on this machine, or on `machine`. `terms` are the download size and the licence."""

    code = "model_not_pulled"

    def __init__(self, model: object, terms: str, remedy: str, machine: str = "this machine") -> None:
        self.model = str(model)
        self.terms = escaped(one_line(terms))
        super().__init__(model, f"is not on {machine} yet: {self.terms}", remedy)
        self.args = (f"{shown(self.model)} {self.reason}; {self.remedy}",)


class ServiceError(_ReasonError):
    """A remote Flickbook service is unreachable, rejects the API key, or does not answer as a Flickbook service."""

    code = "service"
    field = "url"

    def __init__(self, service: object, reason: str, remedy: str) -> None:
        self.service = str(service)
        super().__init__(shown(self.service), reason, remedy)


class MissingExtra(FlickbookError):
    """A package of one of Flickbook's extras is not installed."""

    code = "missing_extra"
    exit_code = 2

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f'{package}: not installed; run `pip install "flickbook[{extra}]"`')


class WindowError(_ReasonError):
    """There is no display to open a window on, or Python was built without Tk."""

    code = "window"

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__("window", reason, remedy)


class Cancelled(FlickbookError):
    """The caller cancelled the operation. No partial files remain. `rest` says how to continue, if that is possible."""

    code = "cancelled"
    exit_code = 130

    def __init__(self, rest: str = "") -> None:
        self.rest = rest
        super().__init__(f"cancelled; {rest}" if rest else "cancelled")
