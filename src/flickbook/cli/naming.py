"""Names of request fields in error messages: the command line calls `num_frames` --num-frames, and `width` --size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flickbook.errors import RequestError, SettingsError

#: Fields that the option or argument of another name sets.
_SET_BY: Final = {
    "width": "size",
    "height": "size",
    "loras": "lora",
    "inputs": "input",
    "trusted_proxies": "trusted_proxy",
    "count": "seeds",
}
#: Fields that a setting may have set instead of an option.
_SETTINGS: Final = ("model",)


def message(error: RequestError, command: Any, arguments: Sequence[str]) -> str:
    """The message of `error`, with the option or argument of `command` that set its field.

    `command` is the click command that ran, and `arguments` are the words of the command line. The field keeps its own
    name if the command has no option for it, or if a setting or a file may have set it.
    """
    field = error.field or ""
    names = _names(command, arguments)
    name = names.get(field) or names.get(_SET_BY.get(field, field))
    if name is None:
        return str(error)
    value = _typed(name, arguments)
    if value is None and (isinstance(error, SettingsError) or field in _SETTINGS) and name.startswith("-"):
        return str(error)
    return error.text(name, value if field in ("width", "height", "trusted_proxies") else None)


def path(command: Any, arguments: Sequence[str]) -> list[str]:
    """The words of `arguments` that select a command: ["jobs", "list"]."""
    found: list[str] = []
    for word in arguments:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        found.append(word)
    return found


def _names(command: Any, arguments: Sequence[str]) -> dict[str, str]:
    """The options and arguments of the command that `arguments` selected, by field: {"num_frames": "--num-frames"}."""
    for word in path(command, arguments):
        command = command.commands[word]
    found = {}
    for each in command.params:
        option = next((text for text in each.opts if text.startswith("--")), None)
        field = each.name if option is None else option.removeprefix("--").replace("-", "_")
        found[field] = option or each.metavar or each.name.upper()
    return found


def _typed(name: str, arguments: Sequence[str]) -> str | None:
    """The last value that the command line gives an option; None if it is not there."""
    value = None
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == "--":
            break
        if word == name:
            value = following
        elif word.startswith(f"{name}="):
            value = word.removeprefix(f"{name}=")
    return value
