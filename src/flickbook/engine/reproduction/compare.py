"""Compares two Recipes."""

from __future__ import annotations

from typing import Any

from flickbook.spec import Recipe


def differences(a: Recipe, b: Recipe) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, each with both values; None if a Recipe does not have the field.

    A field is named by its path: "plan.seed", "weights.unet/model.safetensors", "plan.loras.0.weight".
    """
    one, other = _flat(a.model_dump(mode="json")), _flat(b.model_dump(mode="json"))
    names = [*one, *(name for name in other if name not in one)]
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """All leaves of a JSON value by their paths; empty lists and objects have none."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = {str(number): each for number, each in enumerate(value)}.items()
    else:
        return {name: value}
    return {path: leaf for key, each in parts for path, leaf in _flat(each, f"{name}.{key}" if name else key).items()}
