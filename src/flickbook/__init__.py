"""Flickbook makes short films from text prompts on your own machine.

    import flickbook
    clip = flickbook.generate("a red circle moving left on a blue background", seed=7)
    clip.save("circle.mp4")

Names are imported on first use, so that `import flickbook` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flickbook.catalogue import list_models
    from flickbook.engine.generate import generate
    from flickbook.errors import FlickbookError, RequestError
    from flickbook.media.clip import Clip
    from flickbook.media.sound.samples import Sound
    from flickbook.resolution import resolve
    from flickbook.spec import Plan, Recipe, Request, Step

__version__ = "0.1.0"

__all__ = [
    "Clip",
    "FlickbookError",
    "Plan",
    "Recipe",
    "Request",
    "RequestError",
    "Sound",
    "Step",
    "__version__",
    "generate",
    "list_models",
    "resolve",
]

_HOMES = {
    "Clip": "flickbook.media.clip",
    "FlickbookError": "flickbook.errors",
    "Plan": "flickbook.spec",
    "Recipe": "flickbook.spec",
    "Request": "flickbook.spec",
    "RequestError": "flickbook.errors",
    "Sound": "flickbook.media.sound.samples",
    "Step": "flickbook.spec",
    "generate": "flickbook.engine.generate",
    "list_models": "flickbook.catalogue",
    "resolve": "flickbook.resolution",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first access. Raises AttributeError for names that are not in `__all__`."""
    if name not in _HOMES:
        raise AttributeError(f"module 'flickbook' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access is a plain attribute lookup
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
