"""Prompt search in the MongoDB store, which keeps a Plan as ASCII JSON."""

from __future__ import annotations

import json
import re
from typing import Final

#: A prompt's beginning and any number of whole characters, so that no match begins inside an escape.
_PROMPT: Final = r'"prompt":"(?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*'


def prompting(text: str) -> str:
    """A regular expression for Plans whose prompt contains `text`, ignoring case.

    Both cases are spelled out, because a server may ignore case only in ASCII.
    """
    return _PROMPT + "".join(f"(?:{'|'.join(_written(letter))})" for letter in text)


def _written(letter: str) -> list[str]:
    """A letter in both cases, as in JSON."""
    forms = {letter, letter.lower(), letter.upper(), letter.casefold()}
    return [re.escape(json.dumps(form)[1:-1]) for form in sorted(forms)]
