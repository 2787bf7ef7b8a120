"""What a handshake or request says by itself: which app it names, and what it brings to prove who calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multidict import MultiMapping

from hooks.errors import BadRequest, Forbidden
from hooks.scopes import KEY_PREFIX
from hooks.tenant import SERVING, Tenant

APP_ID = "appId"
HEADER = "x-app-id"
TENANT = "tenant"
"""Where the public key stands, in the handshake's query and in what the client of a socket sends along."""
KEY_HEADER = "x-tenant-id"
API_KEY = "X-Api-Key"


@dataclass(frozen=True, slots=True)
class Named:
    """The names by which an app is meant: its id, one of its public keys, both or neither."""

    app_id: str | None = None
    key: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether there is any."""
        return self.app_id is not None or self.key is not None


def named(query: MultiMapping[str], headers: MultiMapping[str], auth: Any = None) -> Named:
    """The app that a handshake or request names; several namings must agree.

    Raises:
        BadRequest: one that is no text, different ones, or one twice.
    """
    return Named(
        _one(APP_ID, HEADER, query, headers, auth),
        _one(TENANT, KEY_HEADER, query, headers, auth),
    )


def _one(name: str, header: str, query: MultiMapping[str], headers: MultiMapping[str], auth: Any) -> str | None:
    asked = query.getall(name, [])
    if len(asked) > 1:
        raise BadRequest(f"{name} is given twice")
    given: list[Any] = [*asked, *headers.getall(header, [])]
    if isinstance(auth, Mapping) and name in auth:
        given.append(auth[name])
    if not all(isinstance(value, str) and value for value in given):
        raise BadRequest(f"No app is named: {name}, or the header {header}, must be a text")
    if len(set(given)) > 1:
        raise BadRequest("Different apps are named in one request")
    return given[0] if given else None


def check_serving(tenant: Tenant) -> None:
    """Refuses a tenant that is out of service.

    Raises:
        Forbidden: with the reason `TenantUnavailable` and the state, or `TenantInactive`, in `data`.
    """
    if tenant.is_serving:
        return
    if tenant.status in SERVING:
        raise Forbidden(f"The app '{tenant.id}' is switched off", data={"reason": "TenantInactive"})
    data = {"reason": "TenantUnavailable", "state": tenant.status}
    is_coming = tenant.status == "provisioning"
    sentence = "is still being made: try again in a moment" if is_coming else "is not available"
    raise Forbidden(f"The app '{tenant.id}' {sentence}", data=data)


def credential(headers: MultiMapping[str]) -> str | None:
    """What a request brings to prove who calls: the API key of `X-Api-Key`, else the token or key of `Authorization`."""
    key = headers.get(API_KEY)
    if key is None:
        return bearer(headers.get("Authorization"))
    # What is no key must be refused as one, and never be taken for a token.
    return key if key.startswith(KEY_PREFIX) else KEY_PREFIX


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header: `Bearer`, `JWT` or `ApiKey` in any case, or bare; other schemes are none."""
    if not header:
        return None
    scheme, _, rest = header.strip().partition(" ")
    named = scheme.lower() in ("bearer", "jwt", "apikey")
    if rest:
        return rest.strip() if named else None
    return None if named else scheme or None
