"""Records: frozen data types that reject unknown fields and have one canonical JSON text."""

from __future__ import annotations

import json
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flickbook.errors import RequestError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Record(BaseModel):
    """A frozen record that rejects unknown fields and has one canonical JSON text."""

    # Strict: "16" is not 16 here; parsing input is the caller's task. NaN would break equality and JSON.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces, ASCII only. Equal records give equal texts."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def of(cls, **values: object) -> Self:
        """Build the record like the constructor, but raise RequestError instead of pydantic's error."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise refused(error, cls.__name__) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse a record from JSON. Raises RequestError, which names the first invalid field."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise refused(error, cls.__name__) from None


def refused(error: ValidationError, what: str) -> RequestError:
    """Convert pydantic's first error about a `what` to a RequestError."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or what
    if first["type"] == "extra_forbidden":
        return RequestError(field, first["input"], f"not a field of {what}", "leave it out")
    if first["type"] == "missing":
        return RequestError(field, "", f"missing from the {what}", "add it")
    return RequestError(field, first["input"], first["msg"], f"correct this field of the {what}")
