"""How each service is probed: how a tenant comes to have a record there, and what may be sent about one.

A service that is registered and not in `PROBES` fails the suite, and so does a method of its own without data for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hooks.tenant import tenant_scope
from services.control.sync.state import Row, Status
from tests.security.probes.names import ID, Names
from tests.security.probes.shelves import PATH as SHELVES

if TYPE_CHECKING:
    from tests.security.probes.world import Side

Made = Mapping[str, Any]
Make = Callable[["Side"], Awaitable[Made]]
Data = Callable[[Names], dict[str, Any]]


def _nothing(names: Names) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Probe:
    """One service."""

    data: Data = _nothing
    """What `create` takes."""
    change: Data = _nothing
    """What `update` and `patch` take."""
    make: Make | None = None
    """How a tenant comes to have a record, where `create` is not how."""
    id: str = ID
    """The field of a record by which calls name it."""
    fields: tuple[str, ...] = ("name",)
    """Fields with values to be asked for, besides the id."""
    where: Callable[[Names], str] | None = None
    """The path, where it names something of the tenant's."""
    calls: Mapping[str, Data] = field(default_factory=dict)
    """What the service's own methods take."""
    moving: tuple[str, ...] = ()
    """Fields of answers that change with every call."""
    whole: bool = True
    """Whether calls without an id are tried: some would end the caller's own login."""


async def _login(side: Side) -> Made:
    return {ID: side.names.token}


async def _session(side: Side) -> Made:
    return {ID: side.names.session}


async def _identity(side: Side) -> Made:
    identities, tenant = side.roost.people.identities, side.tenant()
    await identities.link(tenant, "https://login.example", side.names.secret, side.names.user)
    return (await identities.find(tenant, side.names.user))[0]


async def _entry(side: Side) -> Made:
    roost = side.roost
    tenant = side.tenant()
    roost.backend.audit.add(tenant, "probed", subject=side.names.secret, actor_id=side.names.user)
    await roost.backend.audit.settled()
    page = await side.http.call("find", "audit-log", {"$limit": 50})
    return next(entry for entry in page["data"] if entry["event"] == "probed")


async def _job(side: Side) -> Made:
    with tenant_scope(side.tenant()):
        later = datetime.now(UTC) + timedelta(hours=1)
        job = await side.roost.jobs.enqueue("probed", {"note": side.names.secret}, run_at=later)
    return {ID: job, "name": "probed"}


async def _settings(side: Side) -> Made:
    await side.http.call("patch", "settings", "current", {"branding": {"tagline": side.names.secret}})
    return {ID: side.names.app}


async def _room(side: Side) -> Made:
    return await side.socket.call("create", "rooms", {"service": "lobby", "room": side.names.word})  # type: ignore[no-any-return]


async def _quotas(side: Side) -> Made:
    return {ID: "calls"}


async def _letter(side: Side) -> Made:
    return {ID: side.names.letter}


async def _tenant(side: Side) -> Made:
    return {ID: side.names.app}


async def _operation(side: Side) -> Made:
    found = await side.roost.backend.control.operations.latest(side.names.app)
    assert found is not None
    return {ID: found.id}


async def _copy(side: Side) -> Made:
    row = Row(side.names.app, "roles", side.names.role, Status.CONFLICT, 1, side.names.secret)
    await side.roost.backend.sync.state.record([row])
    return {ID: row.id, "source_id": row.source_id}


async def _override(side: Side) -> Made:
    data = {"connection_id": side.names.connection, "display_name": side.names.secret}
    return await side.http.call("create", "connection-overrides", data)  # type: ignore[no-any-return]


def _text(names: Names) -> dict[str, Any]:
    return {"text": names.word, "detail": names.secret, "n": 1, "tags": [names.word]}


def _change(names: Names) -> dict[str, Any]:
    return {"text": names.word, "detail": names.secret}


_RECORDS = Probe(_text, _change, fields=("text", "tags"))
_APP = Probe(
    data=lambda names: {"id": names.app, "friendly_name": names.word},
    change=lambda names: {"friendly_name": names.word},
    make=_tenant,
    fields=("friendly_name",),
)

PROBES: Mapping[str, Probe] = {
    "messages": _RECORDS,
    "notes": _RECORDS,
    "drafts": _RECORDS,
    "codes": Probe(lambda names: {**_text(names), "code": f"code-{names.word}"}, _change, id="code", fields=("text",)),
    "lobby": Probe(lambda names: {**_text(names), "room": names.word}, _change, fields=("text", "room")),
    SHELVES: _RECORDS,
    "users": Probe(
        data=lambda names: {"email": names.email, "password": "secret-123", "text": names.secret},
        change=lambda names: {"text": names.secret},
        fields=("email",),
    ),
    "authentication": Probe(
        data=lambda names: {"strategy": "local", "email": names.email, "password": "secret-123"},
        make=_login,
        fields=(),
        whole=False,
    ),
    "organizations": Probe(
        data=lambda names: {"name": names.word, "display_name": names.secret},
        change=lambda names: {"display_name": names.secret},
    ),
    "members": Probe(
        data=lambda names: {"org_id": names.organization, "user_id": names.user, "roles": [names.role]},
        change=lambda names: {"roles": [names.role]},
        fields=("org_id", "user_id", "roles"),
    ),
    "organizations/:org/members": Probe(
        data=lambda names: {"user_id": names.member, "roles": [names.role]},
        change=lambda names: {"roles": [names.role]},
        fields=("user_id", "roles"),
        where=lambda names: f"organizations/{names.organization}/members",
    ),
    "invitations": Probe(
        data=lambda names: {"org_id": names.organization, "email": names.email, "roles": [names.role]},
        fields=("org_id", "email"),
        calls={"accept": lambda names: {"token": names.invitation}},
    ),
    "roles": Probe(
        data=lambda names: {"name": names.word, "description": names.secret},
        change=lambda names: {"name": names.word, "description": names.secret},
    ),
    "roles/:role/permissions": Probe(
        data=lambda names: {"rs_identifier": names.server, "permission": "read:everything"},
        fields=("rs_identifier", "role_id"),
        where=lambda names: f"roles/{names.role}/permissions",
    ),
    "user-roles": Probe(
        data=lambda names: {"user_id": names.user, "role_id": names.role},
        fields=("user_id", "role_id"),
    ),
    "resource-servers": Probe(
        data=lambda names: {"identifier": f"https://{names.word}.example/", "name": names.secret},
        change=lambda names: {"identifier": f"https://{names.word}.example/", "name": names.secret},
        fields=("identifier",),
    ),
    "connections": Probe(
        data=lambda names: {
            "name": names.word,
            "strategy": "oidc",
            "options": {"client_id": names.secret},
            "secrets": {"client_secret": f"{names.secret}-of-the-client"},
        },
        change=lambda names: {"name": names.word, "strategy": "oidc", "display_name": names.secret},
    ),
    "connection-overrides": Probe(
        data=lambda names: {"connection_id": names.connection, "display_name": names.secret},
        change=lambda names: {"connection_id": names.connection, "display_name": names.secret},
        make=_override,
        fields=("connection_id",),
    ),
    "clients": Probe(
        data=lambda names: {"name": names.word, "description": names.secret},
        change=lambda names: {"name": names.word, "description": names.secret},
    ),
    "accounts": Probe(
        data=lambda names: {"action": "verify", "token": names.letter},
        make=_letter,
        fields=(),
    ),
    "sessions": Probe(make=_session, fields=("user_id",), whole=False),
    "identities": Probe(make=_identity, fields=("issuer", "subject")),
    "api-keys": Probe(data=lambda names: {"name": names.word, "scopes": [f"{names.secret}:find"]}),
    "domains": Probe(
        data=lambda names: {"host": names.host},
        fields=("host",),
        calls={"verify": lambda names: {"_id": names.id}},
    ),
    "audit-log": Probe(make=_entry, fields=("actor_id", "subject")),
    "jobs": Probe(make=_job, fields=("name",), calls={"retry": lambda names: {"id": names.id}}),
    "settings": Probe(change=lambda names: {"branding": {"tagline": names.word}}, make=_settings, fields=()),
    "quotas": Probe(make=_quotas, moving=("used",)),
    "rooms": Probe(data=lambda names: {"service": "lobby", "room": names.word}, make=_room, fields=("room",)),
    "tenants": _APP,
    "apps": _APP,
    "sync-status": Probe(
        data=lambda names: {"tenant_id": names.app, "entity": "roles"},
        make=_copy,
        fields=("source_id",),
        moving=("oldest_unsynced",),
    ),
    "tenant-operations": Probe(
        data=lambda names: {"kind": "suspend", "tenant_id": names.app},
        make=_operation,
        fields=("tenant_id",),
    ),
}
