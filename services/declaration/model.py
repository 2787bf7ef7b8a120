"""What the parts of a declaration have in common: how strict they are, and the names of fields in them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class Strict(BaseModel):
    """Takes what it knows, in the right types, and nothing else; it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def check_index_field(field: str) -> str:
    parts = field.removeprefix("-").split(".")
    if not all(FIELD.fullmatch(part) for part in parts) or parts[0] in ("app_id", "_id"):
        raise ValueError("must be a field's name, or -name for descending order")
    return field


def check_field(field: str) -> str:
    if not FIELD.fullmatch(field) or field in ("app_id", "_id"):
        raise ValueError("must be a field name of letters, digits and '_'")
    return field


def check_stamped(field: str) -> str:
    if not FIELD.fullmatch(field) or field == "app_id":
        raise ValueError("must be a field name of letters, digits and '_'")
    return field


IndexFields = Annotated[
    tuple[Annotated[str, AfterValidator(check_index_field)], ...], Field(min_length=1, max_length=8)
]
