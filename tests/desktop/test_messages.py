"""Errors in the words of the form."""

from __future__ import annotations

import pytest

from flickbook.desktop.messages import worded
from flickbook.errors import FlickbookError, OutputError, RequestError


def of_service(text: str, field: str) -> FlickbookError:
    error = FlickbookError(text)
    error.field = field
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            RequestError("num_frames", 999, "must be 1 to 256", "ask for fewer"),
            "Frames 999: must be 1 to 256; ask for fewer",
        ),
        (RequestError("prompt", "", "is empty", "write one"), "Prompt: is empty; write one"),
        (RequestError("url", "x", "is wrong", "correct it"), "url=x: is wrong; correct it"),
        (
            of_service("width=7: must be a multiple of 8; ask for 8", "width"),
            "Width 7: must be a multiple of 8; ask for 8",
        ),
        (of_service("prompt=: is empty; write one", "prompt"), "Prompt: is empty; write one"),
        (of_service("the model is gone; choose another", "model"), "the model is gone; choose another"),
        (OutputError("a.mp4", "exists", "choose another name"), "a.mp4: exists; choose another name"),
    ],
)
def test_an_error_names_the_label_of_its_field(error: FlickbookError, text: str) -> None:
    assert worded(error) == text
