"""The snapshot of a tenant from its entry in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.tenant import Limits, Placement, Rate, Tenant
from services.declaration import auth_settings, service_declarations
from services.store import Document

FROZEN = "frozen"
"""The phase of a tenant's `migration` in which its data cannot be written."""
CLOSED = "closed"
"""The phase of a tenant's last `migration` when nothing is left of it."""


def to_tenant(document: Mapping[str, Any] | Document) -> Tenant:
    """The snapshot of a catalogue entry."""
    placement = document.get("placement", {})
    return Tenant(
        id=document["_id"],
        name=document["name"],
        status=document.get("status", "ready"),
        epoch=document.get("epoch", 1),
        allowed_origins=frozenset(document.get("allowed_origins", ())),
        auth=auth_settings(document.get("auth", {})),
        placement=Placement(**placement),
        leftover=_leftover(document),
        frozen=document.get("migration", {}).get("phase") == FROZEN,
        services=service_declarations(document.get("services", {})),
        is_control_plane=document.get("control_plane", False),
        public_keys=tuple(document.get("public_keys", ())),
        is_active=document.get("is_active", True),
        require_origin=document.get("require_origin", False),
        limits=to_limits(document.get("limits", {})),
        plan=document.get("plan", "default"),
        region=document.get("region"),
        sync_exclude=tuple(document.get("sync_exclude", ())),
        settings_rev=document.get("settings_rev", 0),
        inheritance=document.get("inheritance", {}),
        providers=document.get("providers", {}),
    )


def to_limits(document: Mapping[str, Any]) -> Limits:
    """The limits in a catalogue entry."""
    rates = {
        kind: {scope: Rate(**rate) for scope, rate in scopes.items()}
        for kind, scopes in document.get("rates", {}).items()
    }
    return Limits(**{**document, "rates": rates})


def _leftover(document: Mapping[str, Any]) -> Placement | None:
    move = document.get("migration")
    if move is None or move["phase"] == CLOSED:
        return None
    return Placement(**(move["target"] if document["placement"] == move["source"] else move["source"]))
