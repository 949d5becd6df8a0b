"""`tune.json`: what a training's output directory belongs to, and from which model a fine-tuned model was made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from flickbook.errors import RequestError, WeightsError
from flickbook.files import replace_whole
from flickbook.hub.manifest import read_config
from flickbook.learn.tuning.adapter import NAME

RECORD: Final = "tune.json"
#: The directory of a fine-tuned model in that of its training.
MODEL: Final = "model"


def record(directory: Path, values: Mapping[str, Any]) -> None:
    """Write what a directory belongs to. Raises RequestError if it belongs to another training."""
    path = directory / RECORD
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if known is None:
        text = json.dumps(values, indent=1) + os.linesep
        replace_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    elif wrong := [name for name, value in values.items() if known.get(name) != value]:
        limit = f"holds another training ({', '.join(wrong)} differ)"
        raise RequestError("output", directory, limit, "choose another output directory")


def base_of(directory: Path) -> str:
    """The name of the model that a training began with, by its output directory or its `model/`; "" for others."""
    # An older `model/` has no record of its own.
    around = [directory.absolute().parent] if directory.name == MODEL else []
    for place in (directory, *around):
        with suppress(WeightsError, KeyError):
            return str(read_config(place / RECORD)["model"])
    return ""


def refuse_result(directory: Path) -> None:
    """Raise RequestError for the output directory of a training, which says how its result is evaluated instead."""
    base, call = base_of(directory), "run `flickbook evaluate"
    if (directory / NAME).is_file():
        limit = f"holds a LoRA{f' of {base}' if base else ''}"
        raise RequestError("model", directory, limit, f"{call} {base or 'MODEL'} --lora {directory}`")
    if (directory / MODEL).is_dir() and base:
        raise RequestError("model", directory, f"holds a fine-tuned {base}", f"{call} {directory / MODEL}`")
    if base:
        remedy = "run `flickbook tune` again, which continues it"
        raise RequestError("model", directory, f"holds a training of {base} that has not ended", remedy)
