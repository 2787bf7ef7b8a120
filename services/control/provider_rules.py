"""What may be configured as a provider of an app; all of it is checked when it is written, and not when it is used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hooks.context import Record
from hooks.errors import BadRequest
from hooks.schema import Schema
from hooks.tenant import Tenant
from services.control.secrets import NAME
from services.drivers import Drivers
from services.mail.addresses import domain_of, tenant_address

_WORDS = Schema(
    {
        "driver": {"type": "string", "required": True},
        "secret_ref": {"type": "string", "pattern": f"^(?:{NAME.pattern})$"},
        "secret_hint": {"type": "string", "maxLength": 4},
        "shareable": {"type": "boolean"},
        "share_with": {"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 63}},
    }
)


class ProviderRules:
    """Checks providers, for whoever writes them into the catalogue."""

    def __init__(
        self, drivers: Drivers, *, control_plane: Callable[[], Awaitable[Tenant | None]], sender: str | None
    ) -> None:
        """`control_plane` tells its tenant as it is now; `sender` is the address that the server's own mails come from."""
        self.drivers = drivers
        self._control_plane = control_plane
        self._sender = sender

    async def check(self, app_id: str, providers: Mapping[str, Any]) -> None:
        """Lets providers of an app through, by kind.

        Raises:
            BadRequest: an unknown driver, options that it does not take, or the sender is not the app's; `errors` names each.
        """
        plane = await self._control_plane()
        is_plane = plane is not None and plane.id == app_id
        for kind, provider in providers.items():
            if not isinstance(provider, Mapping):
                raise _mistake(f"providers.{kind}", "must be an object")
            for fault in _WORDS.check(provider, whole=True):
                raise _mistake(f"providers.{kind}{str(fault['path']).replace('/', '.')}", str(fault["message"]))
            if not is_plane and ("shareable" in provider or "share_with" in provider):
                raise _mistake(f"providers.{kind}", "is shared by the control plane alone")
            self.drivers.check(kind, provider)
            sender = provider.get("sender")
            if isinstance(sender, str) and not is_plane and not self._is_own(sender, app_id, plane):
                raise _mistake(f"providers.{kind}.sender", "must be an address of the app's own, not the platform's")

    def _is_own(self, sender: str, app_id: str, plane: Tenant | None) -> bool:
        """Whether an app may send under an address: below the platform's domains, it has one alone (RF-12)."""
        platform = [self._sender, *(provider.get("sender") for provider in (plane.providers if plane else {}).values())]
        return all(
            domain_of(sender) != domain_of(address) or sender == tenant_address(address, app_id)
            for address in platform
            if address is not None
        )


def _mistake(place: str, message: str) -> BadRequest:
    faults: list[Record] = [{"path": place, "message": message}]
    return BadRequest("The configuration has mistakes", errors=faults)
