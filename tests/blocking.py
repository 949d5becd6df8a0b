"""A store for tests that call each of its methods and wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flickbook.store import blocking


class Blocking(blocking.Blocking):
    """The methods of a Store as blocking calls."""

    @property
    def title(self) -> str:
        return self.store.title

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *given, **named: self.ask(getattr(self.store, name)(*given, **named))
