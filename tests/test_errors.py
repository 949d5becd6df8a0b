"""The error tree: one line each, stable codes, and the docstring that draws it."""

from __future__ import annotations

import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flickbook import errors
from flickbook.errors import (
    Cancelled,
    FlickbookError,
    HubError,
    IdempotencyKeyReused,
    JobConflict,
    JobNotFound,
    LimitReached,
    MediaError,
    MissingExtra,
    ModelNotFound,
    ModelNotPulled,
    OutputError,
    RequestError,
    SchedulerMismatch,
    ServiceError,
    SettingsError,
    StoreError,
    WeightsError,
    WindowError,
    shown,
)

ONE_OF_EACH = [
    RequestError("num_frames", 999, "must be 1 to 16", "ask for 16 frames or fewer"),
    ModelNotFound("bultin", ["builtin"]),
    SchedulerMismatch("ddpm", "builtin", ["ddim", "unipc"]),
    SettingsError("threads", 0, "must be 1 or more", "correct flickbook.toml"),
    JobNotFound("job_0"),
    JobConflict("job_0", "completed", "paused", "look at it"),
    LimitReached("queue", 1, "100 jobs wait", "ask again later", 30.0),
    OutputError("a.mp4", "exists already", "add --overwrite"),
    MediaError("a.mp4", "is no film", "name an mp4"),
    WeightsError("unet.safetensors", "corrupt", "reinstall"),
    StoreError("jobs.db", "damaged", "run `flickbook repair`"),
    HubError("owner/films", "gated", "set HF_TOKEN"),
    ModelNotPulled("films", "3.4 GB, CC-BY-NC-4.0", "run `flickbook models pull films`"),
    MissingExtra("matplotlib", "gen"),
    ServiceError("films.example", "cannot be reached", "check the address"),
    WindowError("there is no display", "use `flickbook generate`"),
    IdempotencyKeyReused("once"),
    Cancelled(),
]


def tree(root: type[FlickbookError]) -> list[type[FlickbookError]]:
    """`root` and all below it."""
    return [root] + [each for child in root.__subclasses__() for each in tree(child)]


def public() -> list[type[FlickbookError]]:
    return [kind for kind in tree(FlickbookError) if not kind.__name__.startswith("_")]


def test_the_message_reads_as_documented() -> None:
    assert str(ONE_OF_EACH[0]) == "num_frames=999: must be 1 to 16; ask for 16 frames or fewer"
    assert "did you mean builtin?" in str(ONE_OF_EACH[1])
    assert "ddim, unipc" in str(ONE_OF_EACH[2])
    assert str(ONE_OF_EACH[11]) == "owner/films: gated; set HF_TOKEN"
    assert str(ONE_OF_EACH[12]).startswith("films is not on this machine yet: 3.4 GB, CC-BY-NC-4.0; run ")
    assert 'pip install "flickbook[gen]"' in str(ONE_OF_EACH[13])


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = errors.__doc__ or ""
    for kind in public():
        line = next((line for line in drawn.splitlines() if f"{kind.__name__} " in line), "")
        if kind is Cancelled:
            assert "exit 130" in line
        assert f'code "{kind.code}"' in line, kind
        assert f"exit {kind.exit_code} " in line, kind


def test_codes_are_unique_and_every_error_has_an_example_here() -> None:
    codes = [kind.code for kind in public()]
    assert len(codes) == len(set(codes))
    assert {type(error) for error in ONE_OF_EACH} == set(public()) - {FlickbookError}


def test_exit_codes() -> None:
    assert {type(error).__name__: error.exit_code for error in ONE_OF_EACH if error.exit_code != 2} == {
        "Cancelled": 130
    }


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_way_to_another_process(error: FlickbookError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@given(st.text(), st.text(), st.text())
def test_any_value_gives_one_printable_line(value: str, limit: str, path: str) -> None:
    for error in (RequestError("prompt", value, limit, "x"), OutputError(path, limit, "x"), ModelNotFound(value)):
        assert "\n" not in str(error)
        assert str(error).isprintable() or not limit.isprintable()


@given(st.text() | st.integers() | st.floats() | st.binary())
def test_a_shown_value_has_at_most_60_printable_characters(value: object) -> None:
    assert len(shown(value)) <= 60
    assert shown(value).isprintable()


def test_a_long_value_is_cut_and_a_short_one_is_not() -> None:
    assert shown("x" * 10**6) == "x" * 59 + "…"
    assert shown("x" * 60) == "x" * 60
    assert shown(10**5000) == "a number too long to print"


def test_errors_import_nothing_of_flickbook() -> None:
    lines = [line for line in inspect.getsource(errors).splitlines() if line.startswith(("import ", "from "))]
    assert lines == ["from __future__ import annotations", "from typing import Self"]
