"""Hints for typical slips on the command line: options of other tools, a prompt without quotation marks."""

from __future__ import annotations

from typing import Final

#: Options of other tools, or short forms that people try, and the option that they mean.
_REPLACEMENTS: Final = {
    "--steps": "--num-inference-steps",
    "--num-steps": "--num-inference-steps",
    "--inference-steps": "--num-inference-steps",
    "--frames": "--num-frames",
    "--length": "--num-frames",
    "--guidance": "--guidance-scale",
    "--cfg": "--guidance-scale",
    "--cfg-scale": "--guidance-scale",
    "--negative": "--negative-prompt",
    "--width": "--size WxH",
    "--height": "--size WxH",
    "--resolution": "--size WxH",
    "--sampler": "--scheduler",
    "--out": "--output",
    "--file": "--output",
    "--number": "--count",
    "--num-videos": "--count",
    "--frame-rate": "--fps",
    "--init-image": "--image",
    "--quiet": "2>/dev/null",
    "--force": "--overwrite",
}


def hint(message: str, option: str | None, arguments: list[str]) -> str:
    """The message of a usage error, with what the person probably meant.

    `option` is the unknown option, None for another error; `arguments` are the words of the command line.
    """
    if option is not None and option.lower() in _REPLACEMENTS:
        return f"No such option: {option}. Use {_REPLACEMENTS[option.lower()]}."
    if "unexpected extra argument" in message and arguments:
        options = [number for number, word in enumerate(arguments) if word.startswith("-")]
        words = arguments[1 : options[0] if options else None]
        if len(words) > 1:
            return f'{message}. Put quotation marks around the prompt: flickbook {arguments[0]} "{" ".join(words)}"'
    return message
