"""Protection of copies: what the control plane has given a tenant, nobody changes there but the sync.

Copies are documents with `is_system` in the collections that are named here. The check is made where documents are written,
by `services/isolation.py`, so that no path leads around it (PR-1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hooks.errors import BadRequest, Forbidden
from services.store import Filter

SYSTEM: Final = "is_system"
"""Field of a copy: true as long as it is the sync's."""
SYNC_FIELDS: Final = frozenset({SYSTEM, "source_id", "source_rev", "synced_at"})
"""Fields that the sync alone writes."""


@dataclass(frozen=True, slots=True)
class Protected:
    """What holds for a collection with copies."""

    name: str
    """What a person calls one of its documents."""
    parent: str | None = None
    """The collection of what its documents are a part of: a part of a copy is not written either (PR-2)."""
    link: str = ""
    """The field that names the parent."""


COLLECTIONS: Final[Mapping[str, Protected]] = {
    "roles": Protected("role"),
    "role_permissions": Protected("permission", "roles", "role_id"),
    "resource_servers": Protected("resource server"),
    "connections": Protected("connection"),
}
"""All collections with copies; the registry of entities takes from here what is protected."""


class SyncCapability:
    """Whoever holds one writes copies: `Isolation.copies` asks for it. Only the sync makes them, which the imports hold."""

    __slots__ = ()


def refuse(kind: Protected) -> Forbidden:
    """The error for a write that would reach a copy."""
    return Forbidden(
        f"This {kind.name} is a system resource and cannot be modified; "
        "edit the original in the control plane and it will be synced",
        {"reason": "SystemResource"},
    )


def own(filter: Filter) -> Filter:
    """The filter, which reaches no copy any more; nothing in it can undo that (PR-3)."""
    return {"$and": [filter, {SYSTEM: {"$ne": True}}]}


def copies(filter: Filter) -> Filter:
    """The filter, which reaches copies alone."""
    return {"$and": [filter, {SYSTEM: True}]}


def check_record(record: Mapping[str, Any]) -> None:
    """Lets through a whole document that does not pretend to be a copy.

    Raises:
        BadRequest: it has fields of one. That it is none, it may say.
    """
    for field in SYNC_FIELDS.intersection(record):
        if field != SYSTEM or record[field] is not False:
            raise _set_by_sync(field)


def check_update(update: Mapping[str, Any], link: str = "") -> None:
    """Lets through update operators, known to be some, that touch no field of a copy (PR-4) and nothing that `link` names.

    Raises:
        BadRequest: one does, by a path into it or by renaming as well.
    """
    for operator, changes in update.items():
        for path, value in changes.items():
            for name in (path, value) if operator == "$rename" else (path,):
                root = name.partition(".")[0]
                if root in SYNC_FIELDS:
                    raise _set_by_sync(root)
                if link and root == link:
                    raise BadRequest(f"'{link}' cannot be changed")


def _set_by_sync(field: str) -> BadRequest:
    return BadRequest(f"'{field}' is set by the server and cannot be sent")
