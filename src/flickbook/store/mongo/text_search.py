"""Words looked for in the prompts of the MongoDB store, which keeps a Plan as JSON in ASCII."""

from __future__ import annotations

import json
import re
from typing import Final

#: A prompt's beginning, and any number of its whole characters: no match begins inside of an escaped one.
_PROMPT: Final = r'"prompt":"(?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*'


def prompting(text: str) -> str:
    """The regular expression of Plans whose prompt contains a text, in small letters or large.

    Both are spelled out, because a server need not know those beyond ASCII.
    """
    return _PROMPT + "".join(f"(?:{'|'.join(_written(letter))})" for letter in text)


def _written(letter: str) -> list[str]:
    """A letter, small and large, as JSON has it."""
    forms = {letter, letter.lower(), letter.upper(), letter.casefold()}
    return [re.escape(json.dumps(form)[1:-1]) for form in sorted(forms)]
