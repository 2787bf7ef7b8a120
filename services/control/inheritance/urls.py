"""Addresses of an app's clients, and those that the control plane shares: for checks in flows, never kept or told (RF-11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from hooks.tenant import Tenant
from services.entities.records import Entities
from services.entities.registry import CLIENTS
from services.redirects import parse_target

SHARED = "shared"
"""Field of a client: which of its addresses apps may use as well."""


class FlowUrls:
    """The lists `callbacks web_origins allowed_logout_urls allowed_origins` as flows have to look at them."""

    def __init__(
        self,
        entities: Entities,
        *,
        control_plane: Callable[[], Awaitable[Tenant | None]],
        development: bool = False,
    ) -> None:
        """`control_plane` tells its tenant as it is now; in `development`, addresses on this machine are shared as well."""
        self._entities = entities
        self._control_plane = control_plane
        self._development = development

    async def of(self, tenant: Tenant, field: str, clients: Sequence[str] | None = None) -> tuple[str, ...]:
        """The addresses of the tenant's clients, or of some of them, and then the shared ones; each once."""
        own = await self._entities.find(tenant, CLIENTS, {})
        found = [
            url for client in own if clients is None or str(client["_id"]) in clients for url in client.get(field, ())
        ]
        plane = await self._control_plane()
        if plane is not None and plane.id != tenant.id:
            for client in await self._entities.find(plane, CLIENTS, {SHARED: {"$exists": True}}):
                shared = {*client[SHARED]}
                found += [url for url in client.get(field, ()) if url in shared and self._may_be_shared(url)]
        unique: dict[object, str] = {}
        for url in found:
            unique.setdefault(_canonical(url), url)
        return tuple(unique.values())

    def _may_be_shared(self, url: str) -> bool:
        return self._development or urlsplit(url).scheme == "https"


def _canonical(url: str) -> object:
    """What two writings of one address have in common."""
    try:
        return parse_target(url)
    except ValueError:
        return url
