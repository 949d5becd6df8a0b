"""Every error Flickbook raises on purpose. This module imports nothing.

    FlickbookError                 exit 1   code "error"
    ├── RequestError               exit 2   code "invalid_request"     a field of a request is out of its limits
    │   ├── ModelNotFound          exit 2   code "model_not_found"     no such model; names the nearest
    │   ├── SchedulerMismatch      exit 2   code "scheduler_mismatch"  this model cannot be sampled that way
    │   ├── SettingsError          exit 2   code "invalid_setting"     a setting in the environment or flickbook.toml
    │   ├── JobNotFound            exit 2   code "job_not_found"       no such job, or somebody else's
    │   ├── JobConflict            exit 2   code "job_state"           this cannot be done to a job in this state
    │   ├── IdempotencyKeyReused   exit 2   code "idempotency_key_reused"  the key was used with another request
    │   └── LimitReached           exit 2   code "limit_reached"       too many requests, jobs or seconds for now
    ├── OutputError                exit 2   code "output"              a file exists or cannot be written
    ├── MediaError                 exit 2   code "media"               a film or picture cannot be read
    ├── WeightsError               exit 2   code "weights"             weights are missing, corrupt or do not fit
    ├── HubError                   exit 2   code "hub"                 a repository is gated, gone or out of reach
    │   └── ModelNotPulled         exit 2   code "model_not_pulled"    a model's files are not on this machine
    ├── StoreError                 exit 2   code "store"               the store of jobs is damaged, newer or away
    ├── ServiceError               exit 2   code "service"             a Flickbook service is away or refuses the key
    ├── MissingExtra               exit 2   code "missing_extra"       an optional package is not installed
    ├── WindowError                exit 2   code "window"              no window can be opened here
    └── Cancelled                  exit 130 code "cancelled"           the caller asked to stop

Each message is one line that says what is wrong and what to do next. `code` is stable and meant for programs;
the wording is meant for people and may change.
"""

from __future__ import annotations

SHOWN_CHARACTERS = 60


def shown(value: object) -> str:
    """`value` on one line of at most 60 characters, control characters escaped, so that it can stand in a message."""
    try:
        text = str(value)
    except ValueError:  # Python does not print whole numbers of more than 4300 digits
        text = "a number too long to print"
    # Cut before escaping as well: a 1 MB prompt must not be walked to show 60 characters of it.
    line = escaped(text[: SHOWN_CHARACTERS + 1])
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def escaped(text: str) -> str:
    """`text` with everything that would not print as itself (line ends, control characters) written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(text: object) -> str:
    """`text` with every run of whitespace turned into one space."""
    return " ".join(str(text).split())


class FlickbookError(Exception):
    """The root of the tree. `code` is stable; `exit_code` is what the command line exits with."""

    code: str = "error"
    exit_code: int = 1
    field: str | None = None


class RequestError(FlickbookError):
    """A field of a request is out of its limits: "num_frames=999: must be 1 to 16; ask for 16 frames or fewer"."""

    code = "invalid_request"
    exit_code = 2

    def __init__(self, field: str, value: object, limit: str, remedy: str) -> None:
        self.field = field
        self.value = value
        self.limit = one_line(limit)
        self.remedy = one_line(remedy)
        super().__init__(f"{field}={shown(value)}: {self.limit}; {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return (RequestError, (self.field, self.value, self.limit, self.remedy))


class ModelNotFound(RequestError):
    """No model has this name. `nearest` holds the names that are closest to it, best first, and may be empty."""

    code = "model_not_found"

    def __init__(self, name: object, nearest: tuple[str, ...] | list[str] = ()) -> None:
        self.nearest = tuple(nearest)
        guess = f"did you mean {' or '.join(self.nearest)}? " if self.nearest else ""
        super().__init__("model", name, "no such model", f"{guess}`flickbook models list` shows them all")

    def __reduce__(self) -> tuple[object, ...]:
        return (ModelNotFound, (self.value, self.nearest))


class SchedulerMismatch(RequestError):
    """The model cannot be sampled with this scheduler. `allowed` holds those that fit."""

    code = "scheduler_mismatch"

    def __init__(self, scheduler: object, model: str, allowed: tuple[str, ...] | list[str]) -> None:
        self.model = model
        self.allowed = tuple(allowed)
        names = ", ".join(self.allowed)
        super().__init__("scheduler", scheduler, f"does not fit model {shown(model)}", f"choose one of {names}")

    def __reduce__(self) -> tuple[object, ...]:
        return (SchedulerMismatch, (self.value, self.model, self.allowed))


class SettingsError(RequestError):
    """A setting in the environment or in flickbook.toml is unknown or out of its limits."""

    code = "invalid_setting"

    def __reduce__(self) -> tuple[object, ...]:
        return (SettingsError, (self.field, self.value, self.limit, self.remedy))


class JobNotFound(RequestError):
    """There is no job of this id, or it is another owner's, which is told alike."""

    code = "job_not_found"

    def __init__(self, id: object) -> None:
        super().__init__("id", id, "no such job", "`flickbook jobs list` shows them")

    def __reduce__(self) -> tuple[object, ...]:
        return (JobNotFound, (self.value,))


class JobConflict(RequestError):
    """What was asked cannot be done to a job in its present state."""

    code = "job_state"

    def __init__(self, id: object, state: str, wish: str, remedy: str) -> None:
        self.state, self.wish = state, wish
        super().__init__("id", id, f"is {state} and cannot be {wish}", remedy)

    def __reduce__(self) -> tuple[object, ...]:
        return (JobConflict, (self.value, self.state, self.wish, self.remedy))


class IdempotencyKeyReused(RequestError):
    """An Idempotency-Key that was used on this route before, with another request."""

    code = "idempotency_key_reused"

    def __init__(self, key: object) -> None:
        limit = "was used before with another request"
        super().__init__("Idempotency-Key", key, limit, "send another key, or the same request")

    def __reduce__(self) -> tuple[object, ...]:
        return (IdempotencyKeyReused, (self.value,))


class LimitReached(RequestError):
    """Too many requests, jobs or seconds for now. `retry_after` is when to ask again, in seconds."""

    code = "limit_reached"

    def __init__(self, field: str, value: object, limit: str, remedy: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(field, value, limit, remedy)

    def __reduce__(self) -> tuple[object, ...]:
        return (LimitReached, (self.field, self.value, self.limit, self.remedy, self.retry_after))


class _FileError(FlickbookError):
    """Shared shape of the errors about one file: path, reason, remedy."""

    exit_code = 2

    def __init__(self, path: object, reason: str, remedy: str) -> None:
        self.path = str(path)
        # What a hostile file says of itself may stand in a reason.
        self.reason = escaped(one_line(reason))
        self.remedy = escaped(one_line(remedy))
        # Paths are shown whole: a shortened path cannot be acted on.
        super().__init__(f"{escaped(self.path)}: {self.reason}; {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.path, self.reason, self.remedy))


class OutputError(_FileError):
    """A file that should be written exists already, cannot be written, or there is no space for it."""

    code = "output"
    field = "output"


class MediaError(_FileError):
    """A film or picture is missing, hostile, damaged, or in a format that is not read."""

    code = "media"
    field = "file"


class WeightsError(_FileError):
    """Weights or their configuration are missing, corrupt (the reason names both hashes) or do not fit the network."""

    code = "weights"
    field = "model"


class StoreError(_FileError):
    """The store of jobs is damaged, newer than this Flickbook, full, or out of reach. Secrets in its address are not
    shown."""

    code = "store"
    field = "store"


class HubError(FlickbookError):
    """A model's repository is missing, gated, damaged, or cannot be reached."""

    code = "hub"
    exit_code = 2
    field = "model"

    def __init__(self, repo: object, reason: str, remedy: str) -> None:
        self.repo = str(repo)
        self.reason = escaped(one_line(reason))
        self.remedy = escaped(one_line(remedy))
        super().__init__(f"{shown(self.repo)}: {self.reason}; {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return (HubError, (self.repo, self.reason, self.remedy))


class ModelNotPulled(HubError):
    """A model's files are not on this machine. `terms` are the size of the download and the licence."""

    code = "model_not_pulled"

    def __init__(self, model: object, terms: str, remedy: str) -> None:
        self.model = str(model)
        self.terms = escaped(one_line(terms))
        super().__init__(model, f"is not on this machine yet: {self.terms}", remedy)
        self.args = (f"{shown(self.model)} {self.reason}; {self.remedy}",)

    def __reduce__(self) -> tuple[object, ...]:
        return (ModelNotPulled, (self.model, self.terms, self.remedy))


class ServiceError(FlickbookError):
    """A Flickbook service elsewhere cannot be reached, takes no such key, or does not answer as one."""

    code = "service"
    exit_code = 2
    field = "url"

    def __init__(self, service: object, reason: str, remedy: str) -> None:
        self.service = str(service)
        # What a stranger's server says may stand in a reason.
        self.reason = escaped(one_line(reason))
        self.remedy = escaped(one_line(remedy))
        super().__init__(f"{shown(self.service)}: {self.reason}; {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return (ServiceError, (self.service, self.reason, self.remedy))


class MissingExtra(FlickbookError):
    """A package that belongs to one of Flickbook's extras is not installed."""

    code = "missing_extra"
    exit_code = 2

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f'{package}: not installed; run `pip install "flickbook[{extra}]"`')

    def __reduce__(self) -> tuple[object, ...]:
        return (MissingExtra, (self.package, self.extra))


class WindowError(FlickbookError):
    """There is no display to open a window on, or Python came without Tk."""

    code = "window"
    exit_code = 2

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason = escaped(one_line(reason))
        self.remedy = one_line(remedy)
        super().__init__(f"window: {self.reason}; {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return (WindowError, (self.reason, self.remedy))


class Cancelled(FlickbookError):
    """The caller asked to stop; nothing half-written is left behind."""

    code = "cancelled"
    exit_code = 130

    def __init__(self) -> None:
        super().__init__("cancelled")

    def __reduce__(self) -> tuple[object, ...]:
        return (Cancelled, ())
