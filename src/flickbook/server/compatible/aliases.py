"""Model names of other services, such as `sora-2`, that the setting `aliases` maps to models of this one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from flickbook.catalogue import Model
from flickbook.server.compatible.fields import GenerationFields, sides_of
from flickbook.server.compatible.models import model_of

_Fields = TypeVar("_Fields", bound=GenerationFields)


def substituted(fields: _Fields, aliases: Mapping[str, str]) -> tuple[_Fields, dict[str, str]]:
    """Replace an alias by its model, and a size that this model does not make by its nearest native size.

    Returns the fields, and the values of the request that were replaced; both unchanged and empty for other names. It
    blocks. Raises ModelNotFound for an alias of an unknown model.
    """
    name = aliases.get(fields.model or "")
    if name is None:
        return fields, {}
    model = model_of(name, name)
    replaced = {"model": fields.model or ""}
    update: dict[str, object] = {"model": model.name}
    width, height = sides_of(fields)
    if width is not None and height is not None and not _makes(model, width, height):
        replaced["size"] = f"{width}x{height}"
        update |= {"size": "x".join(map(str, _nearest(model, width, height))), "width": None, "height": None}
    return fields.model_copy(update=update), replaced


def _makes(model: Model, width: int, height: int) -> bool:
    if (width, height) in model.sizes:
        return True
    if model.sides is None:
        return False
    low, high = model.sides.range
    return all(low <= side <= high and side % model.sides.multiple == 0 for side in (width, height))


def _nearest(model: Model, width: int, height: int) -> tuple[int, int]:
    """The native size of the nearest aspect ratio; of several the nearest in area."""

    def distance(size: tuple[int, int]) -> tuple[float, float]:
        aspect = math.log(size[0] / size[1]) - math.log(width / height)
        return abs(aspect), abs(math.log(size[0] * size[1]) - math.log(width * height))

    return min(model.sizes, key=distance)
