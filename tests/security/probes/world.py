"""Two tenants with everything in them, north and south, and what is asked of the one by the administrator of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hooks.permission import ADMIN_ORGANIZATIONS, PLATFORM, TENANT_ADMIN
from hooks.tenant import Tenant
from server.main import Roost
from services.entities.registry import ROLE_PERMISSIONS
from services.registration import Registration
from tests.integration.accounts.people import Mailbox
from tests.integration.entities.managers import at_home, make_manager, switch
from tests.integration.entities.people import HUB, make_person, make_role, tenant_of
from tests.integration.jobs.conftest import nothing
from tests.security.probes import shelves
from tests.security.probes.names import Names
from tests.support.client import Client, Rest, connect, rest
from tests.support.placed import raw
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

NORTH, SOUTH = "north", "south"
_APP = """
    auth: {username_field: email, email: {url: "https://probed.example/#/confirm"}}
    limits: {quotas: {calls: 1000000}}
    services:
      messages: {multi: true, rules: {default: authenticated}}
      notes: {paginate: false, multi: true, unique: [text], rules: {default: public}}
      drafts: {collection: messages, multi: true, rules: {default: public}}
      codes: {id: code, multi: true, rules: {default: public}}
      lobby: {rules: {default: public}, rooms: {by: room, join: public}}
"""
APPS = f"tenants:\n  - id: {NORTH}{_APP}  - id: {SOUTH}{_APP}"
SECRETS = {NORTH: "northern-lights", SOUTH: "southern-cross"}
_UNSEEN = frozenset({"last_use", "expires_at", "lease_until", "next_check"})
"""Fields that change by themselves."""
_LISTS = ("tenants", "tenant_operations", "domains", "tenant_secrets", "jobs", "tombstones")
"""What the control plane keeps of tenants."""


@dataclass
class Side:
    """One tenant: its administrator on both transports, and somebody as mighty who only listens."""

    roost: Roost
    names: Names
    http: Rest
    socket: Client
    listener: Client
    manager: Rest
    """Somebody of the control plane who manages this tenant and no other, and may do there all that managers may."""
    made: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """A record of each service, by its declared path."""
    kept: dict[str, list[Any]] | None = None
    """What was stored of it when that was last looked at; it has made nothing since."""

    def tenant(self) -> Tenant:
        """The tenant's present snapshot."""
        return tenant_of(self.roost, self.names.app)

    def caller(self, transport: str) -> Client | Rest:
        callers: dict[str, Client | Rest] = {"socket": self.socket, "http": self.http, "manager": self.manager}
        return callers[transport]


@asynccontextmanager
async def side(roost: Roost, app: str) -> AsyncIterator[Side]:
    """A tenant whose people are there, and what other records need to name."""
    word = f"{app}-known"
    mailbox = Mailbox(roost)
    await mailbox.news()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(rest(roost, app))
        socket = await stack.enter_async_context(connect(roost, app))
        listener = await stack.enter_async_context(connect(roost, app))
        admin, user = await make_person(roost, app, "tenant:admin", "admin", email=f"admin@{app}.example")
        await http.call("create", "accounts", {"action": "verify-request", "email": admin})
        letter = await mailbox.one()
        _, member = await make_person(roost, app)
        login = await http.login(admin, field="email")
        for client in (socket, listener):
            await client.login(admin, field="email")
        found = await http.call("create", "organizations", {"name": f"{app}-people"})
        role = await make_role(http, "read:roles")
        server = await http.call("create", "resource-servers", {"identifier": f"https://{app}-api.example/"} | _SCOPES)
        oidc = {"name": f"{app}-oidc", "strategy": "oidc", "options": {"client_id": "x"}}
        connection = await http.call("create", "connections", oidc)
        invited = {"org_id": found["_id"], "email": f"guest@{app}.example", "roles": [role]}
        await http.call("create", "invitations", invited)
        invitation = await mailbox.one()
        names = Names(
            app,
            word,
            SECRETS[app],
            user=user,
            member=member,
            organization=found["_id"],
            role=role,
            server=server["identifier"],
            resource=server["_id"],
            connection=connection["_id"],
            session=login["authentication"]["payload"]["sid"],
            token=login["accessToken"],
            letter=letter.token,
            invitation=invitation.token,
        )
        await listener.call("create", "rooms", {"service": "lobby", "room": word})
        yield Side(roost, names, http, socket, listener, await stack.enter_async_context(_manager(roost, app)))


@asynccontextmanager
async def _manager(roost: Roost, app: str) -> AsyncIterator[Rest]:
    """A member of the tenant's organization in the control plane, who has gone on there."""
    manager = await make_manager(roost, tenant_id=app)
    for permission in sorted({TENANT_ADMIN, *PLATFORM} - {ADMIN_ORGANIZATIONS}):
        triple = {"role_id": manager.role_id, "rs_identifier": "management", "permission": permission}
        await roost.people.entities.add(tenant_of(roost, HUB), ROLE_PERMISSIONS, triple)
    async with at_home(roost, "http", manager) as caller:
        assert isinstance(caller, Rest)
        await switch(caller, app)
        yield caller


_SCOPES = {"scopes": [{"value": "read:everything"}]}


@dataclass
class World:
    """The server, and both sides of it."""

    roost: Roost
    north: Side
    south: Side
    tripwire: Tripwire

    def registered(self) -> dict[str, Registration]:
        """All services: the server's own, those of plug-ins, and those that the tenants declare."""
        return {**self.roost.app.services, **self.roost.app.declared(self.north.tenant())}

    def offered(self, path: str) -> tuple[str, ...]:
        """The methods of a service that clients may call."""
        return self.registered()[path].methods


@asynccontextmanager
async def start_world(uri: str, model: str | None = None, **settings: Any) -> AsyncIterator[World]:
    """Starts a server with both tenants, by the isolation model that the run of the suite asks for if none is named."""
    tripwire = Tripwire()
    limits: dict[str, Any] = {"name_failures": 1000, "address_failures": 100_000, **settings}
    roost = await start_roost(uri, APPS, tripwire=tripwire, model=model, modules=(shelves.__name__,), **limits)
    roost.jobs.handle("probed", nothing)
    try:
        async with side(roost, NORTH) as north, side(roost, SOUTH) as south:
            yield World(roost, north, south, tripwire)
    finally:
        await roost.drop()


async def stored(roost: Roost, app: str) -> dict[str, list[Any]]:
    """All that the databases hold of a tenant, by collection, but for what changes by itself."""
    found: dict[str, list[Any]] = {}
    await roost.backend.audit.settled()
    async with raw(roost, app) as database:
        for name in await database.list_collection_names():
            if not name.startswith("system."):
                found[name] = await _documents(database[name], {"app_id": app})
    control = roost.backend.deployment.client[f"{roost.settings.database}_control"]
    for name in _LISTS:
        found[f"control.{name}"] = await _documents(control[name], {"$or": [{"app_id": app}, {"_id": app}]})
    return found


async def _documents(collection: Any, chosen: Any) -> list[Any]:
    cursor = collection.find(chosen, sort=[("_id", 1)])
    return [{field: value for field, value in one.items() if field not in _UNSEEN} async for one in cursor]
