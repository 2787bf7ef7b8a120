"""Credentials: by whose registration a connection of an app signs people in (RF-6 to RF-8).

Client id, secret, endpoints and whatever else belongs to a registration come from one owner. An app that has any part of it
has to have all of it; only an app that has none of it uses the control plane's, where that is shared. Nothing here opens a
secret: what comes out says whose secret it is, and the factory of clients asks for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import structlog
from pydantic import ValidationError

from hooks.context import HookContext, Record
from hooks.errors import Unavailable
from hooks.tenant import OAuthSettings, Tenant
from services.control.inheritance.urls import FlowUrls
from services.declaration.oauth import OAuthDeclaration
from services.entities.connections import SECRETS, secret_name
from services.entities.records import Entities
from services.entities.registry import CONNECTION_OVERRIDES, CONNECTIONS
from services.entities.strategies import STRATEGIES

log = structlog.get_logger()

MISFIT = "The app's connection is not set up: its administrator has to look at it"
_ISSUERS: Mapping[str, str] = {
    "google": "https://accounts.google.com",
    "microsoft": "https://login.microsoftonline.com/{directory}/v2.0",
}
_GITHUB: Mapping[str, str] = {
    "authorization": "https://github.com/login/oauth/authorize",
    "token": "https://github.com/login/oauth/access_token",
    "userinfo": "https://api.github.com/user",
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A registration: all of it is its owner's."""

    owner: str
    """The tenant whose secrets hold the secret."""
    source: Literal["own", "control_plane"]
    strategy: str
    options: Mapping[str, Any]
    """Client id, endpoints and the like."""
    secret: str | None
    """The name of the secret among the owner's."""
    open: Mapping[str, Any]
    """Options that say how a sign-in looks: the owner's, and over them the app's."""


class Credentials:
    """Finds the registrations of connections, of whichever tenant is named. They are looked up each time they are used."""

    def __init__(
        self, entities: Entities, urls: FlowUrls, *, control_plane: Callable[[], Awaitable[Tenant | None]]
    ) -> None:
        """`control_plane` tells its tenant as it is now."""
        self._entities = entities
        self._urls = urls
        self._control_plane = control_plane

    async def find(self, tenant: Tenant, name: str) -> OAuthSettings | None:
        """How people sign in by the tenant's connection of a name; None if there is none, or it may not be used.

        Raises:
            Unavailable: it is not set up as it has to be, which the log tells.
        """
        connection = await self._entities.first(tenant, CONNECTIONS, {"name": name})
        if connection is None or connection.get("enabled") is False:
            return None
        chosen = {"connection_id": str(connection["_id"])}
        override = await self._entities.first(tenant, CONNECTION_OVERRIDES, chosen) or {}
        if override.get("enabled") is False:
            return None
        bundle = await self.bundle(tenant, connection)
        redirects = await self._urls.of(tenant, "callbacks", override.get("clients"))
        if bundle is None or not redirects:
            return None
        scopes = bundle.open.get("scopes")
        if bundle.open.get("extra_scopes") is True and override.get("scopes"):
            scopes = [*dict.fromkeys([*(scopes or ()), *override["scopes"]])]
        return _settings(tenant, bundle, scopes, redirects)

    async def bundle(self, tenant: Tenant, connection: Record) -> Bundle | None:
        """The registration of a connection; None if it has none, or the control plane's is not shared with the tenant.

        Raises:
            Unavailable: which of the control plane's is meant cannot be told.
        """
        if has_own(connection):
            return _bundle(tenant.id, "own", connection, connection.get("options", {}))
        plane = await self._control_plane()
        if plane is None or plane.id == tenant.id:
            return None
        original = await self._original(tenant, plane, connection)
        if original is None or not _is_shared(original, tenant) or not has_own(original):
            return None
        return _bundle(plane.id, "control_plane", original, connection.get("options", {}))

    async def tell_source(self, context: HookContext) -> None:
        """After a client has got a connection: that it uses the control plane's secret, and nothing else of it (RF-9)."""
        if context.params.provider is None or not isinstance(context.result, dict) or "strategy" not in context.result:
            return
        try:
            bundle = await self.bundle(context.tenant, context.result)
        except Unavailable:
            return
        if bundle is not None and bundle.source == "control_plane" and bundle.secret is not None:
            mark = {"client_secret": {"set": True, "source": bundle.source}}
            context.result = {**context.result, SECRETS: mark}

    async def _original(self, tenant: Tenant, plane: Tenant, connection: Record) -> Record | None:
        """The control plane's counterpart: the source, else the only one by this strategy (RF-7)."""
        source, strategy = connection.get("source_id"), connection["strategy"]
        if source is not None:
            found = await self._entities.get(plane, CONNECTIONS, source)
            return found if found is not None and found["strategy"] == strategy else None
        same = await self._entities.find(plane, CONNECTIONS, {"strategy": strategy})
        if len(same) > 1:
            log.error("a connection fits several of the control plane's", tenant=tenant.id, strategy=strategy)
            raise Unavailable(MISFIT)
        return same[0] if same else None


def has_own(connection: Mapping[str, Any]) -> bool:
    """Whether a connection has any part of a registration: then nothing of another's is used with it."""
    options: Mapping[str, Any] = connection.get("options", {})
    return bool(connection.get(SECRETS)) or not STRATEGIES[connection["strategy"]].bundle.keys().isdisjoint(options)


def _is_shared(connection: Mapping[str, Any], tenant: Tenant) -> bool:
    if connection.get("shareable") is not True or connection.get("enabled") is False:
        return False
    allowed = connection.get("share_with")
    return allowed is None or tenant.id in allowed


def _bundle(
    owner: str, source: Literal["own", "control_plane"], connection: Record, decoration: Mapping[str, Any]
) -> Bundle:
    strategy = STRATEGIES[connection["strategy"]]
    options: Mapping[str, Any] = connection.get("options", {})
    opened = {name: options[name] for name in strategy.open if name in options}
    # Whether further scopes may be asked for, whose registration it is decides.
    own = {name: decoration[name] for name in strategy.open if name in decoration and name != "extra_scopes"}
    secret = "client_secret" if "client_secret" in connection.get(SECRETS, {}) else None
    return Bundle(
        owner,
        source,
        connection["strategy"],
        {name: options[name] for name in strategy.bundle if name in options},
        None if secret is None else secret_name(connection["_id"], secret),
        {**opened, **own},
    )


def _settings(tenant: Tenant, bundle: Bundle, scopes: Any, redirects: tuple[str, ...]) -> OAuthSettings:
    """As declared ones are, and checked like these: a field of users that says what they may is none of a provider's."""
    options = dict(bundle.options)
    given: Record = {
        "client_id": options.get("client_id"),
        "client_auth": options.get("client_auth"),
        "scopes": scopes,
        "profile": bundle.open.get("profile", {}),
        "redirects": redirects[:20],
    }
    match bundle.strategy:
        case "oidc":
            given["issuer"] = options.get("issuer")
        case "oauth2":
            given["endpoints"] = {
                name: options[name] for name in ("authorization", "token", "userinfo", "subject") if name in options
            }
        case "github":
            given["endpoints"] = _GITHUB
        case strategy:
            given["issuer"] = _ISSUERS[strategy].format(directory=options.get("directory", "common"))
    try:
        settings = OAuthDeclaration.model_validate(
            {
                name: dict(value) if isinstance(value, Mapping) else value
                for name, value in given.items()
                if value is not None
            }
        ).settings()
    except ValidationError as error:
        places = [".".join(map(str, fault["loc"])) for fault in error.errors()]
        log.warning("a connection cannot be used", tenant=tenant.id, owner=bundle.owner, faults=places)
        raise Unavailable(MISFIT) from None
    return replace(settings, secret=bundle.secret, owner=bundle.owner)
