"""Names of entities: made canonical when they are written, so that whoever reads them compares bytes (TK-12)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from hooks.context import HookContext
from hooks.errors import BadRequest

LONGEST = 100
ORGANIZATION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""Names of organizations stand in tokens and addresses."""

_HEX_ID = re.compile(r"[0-9a-f]{24}")


def canonical(name: str) -> str:
    """The one form of a name: NFKC and lower case, without space around it. It is a fixed point."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).lower()).strip()


def canonical_fields(*fields: str) -> Callable[[HookContext], None]:
    """A before hook: texts in these fields are kept in their canonical form.

    Raises:
        BadRequest: nothing would be left of one, or it has characters that cannot be seen.
    """

    def settle(context: HookContext) -> None:
        data = context.data
        if not isinstance(data, dict):
            return
        named = {field: _checked(field, data[field]) for field in fields if isinstance(data.get(field), str)}
        if named:
            context.data = {**data, **named}

    return settle


def check_organization_name(context: HookContext) -> None:
    """Before, behind `canonical_fields`: the name of an organization is a word, and never reads like an id.

    Raises:
        BadRequest: it does.
    """
    name: Any = context.data.get("name") if isinstance(context.data, dict) else None
    if isinstance(name, str) and (not ORGANIZATION_NAME.fullmatch(name) or _HEX_ID.fullmatch(name)):
        raise BadRequest("The name must be 1 to 63 letters, digits, '-' and '_', and no id")


def _checked(field: str, value: str) -> str:
    name = canonical(value)
    if not name or len(name) > LONGEST or not name.isprintable():
        raise BadRequest(f"The {field} must be a text of 1 to {LONGEST} visible characters")
    return name
