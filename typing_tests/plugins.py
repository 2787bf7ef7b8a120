"""What a type checker says of a plug-in. Checked by mypy, never run: an `ignore` that is not needed is a mistake itself."""

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

from hooks.chain import Next
from hooks.context import HookContext, Params, Record
from hooks.internal import Internal
from hooks.resolve import resolve_data, resolve_external, resolve_query, resolve_result
from hooks.schema import Schema, validate_data, validate_query
from hooks.tenant import Tenant
from services.application import Application
from services.base import Service
from services.channels import Channel
from services.data import DataService
from services.mongo import ServiceOptions
from services.registration import Registration, Rooms
from services.tenant_hooks import Data, TenantCall


class Note(BaseModel):
    text: str


class Notes(Service):
    async def find(self, params: Params) -> list[Record]:
        return []


async def around(context: HookContext, next: Next) -> None:
    await next()


async def before(context: HookContext) -> None: ...


def merging(context: HookContext) -> dict[str, Any]:
    return {"data": 1}


async def starting(app: Application, next: Next) -> None:
    await next()


def title(value: Any, record: Record, context: HookContext) -> str:
    return str(value)


def not_a_hook(context: HookContext) -> int:
    return 5


async def placing(call: TenantCall, data: Data) -> str | None:
    return "database" if data.get("plan") == "gold" else None


async def checking(call: TenantCall, data: Data) -> None: ...


async def resolving(label: str | None, host: str) -> str | None:
    return label


def configure(app: Application) -> None:
    """All of this is right."""
    options = ServiceOptions("notes", multi=frozenset({"create"}))
    notes = app.use("notes", DataService(app, options, indexes=["room", ["room", "-at"]]), events=["pinned"])
    assert_type(notes, Registration)
    assert_type(app.service("notes"), Registration)
    app.use("rooms/:room/notes", Notes(), methods=["find"], rules={"default": "public"}, rooms=Rooms("room"))
    notes.add_hooks({"around": [around], "before": {"all": before, "create": [validate_data(Note), merging]}})
    notes.add_hooks({"create": [around]})
    notes.add_hooks([around])
    app.hooks({"setup": [starting], "teardown": [starting], "after": [before]})
    app.hooks([around])
    notes.add_hooks(
        {
            "around": {"all": [resolve_external({"title": title}), resolve_result({"title": title})]},
            "before": {"find": [validate_query(Schema({"n": {"type": "number"}})), resolve_query({"by": title})]},
            "error": {"all": [before]},
        }
    )
    app.publish(lambda record, context: app.channel(context.tenant, "a"), path="notes", event="created")
    app.multi_tenancy(
        control_plane="control_plane",
        sync={"roles": True},
        default_permissions=["tenant:admin"],
        get_placement=placing,
        hooks={"before_create": [checking]},
        entity_hooks={"roles": {"before": {"create": [before]}}},
        inheritance={"exclude": ["support"]},
        subdomains={"resolver": resolving},
    )


async def use(app: Application, notes: Registration, tenant: Tenant, params: Params) -> None:
    """The types of what comes back."""
    internal = Internal(app, params)
    assert_type(await internal.find("notes", {"n": 1}), list[Record])
    assert_type(await internal.get("notes", "1"), Record)
    assert_type(await internal.create("notes", {"text": "x"}), Record)
    assert_type(await internal.create("notes", [{"text": "x"}]), list[Record])
    assert_type(await internal.update("notes", "1", {"text": "x"}), Record)
    assert_type(await internal.patch("notes", "1", {"text": "x"}), Record)
    assert_type(await internal.patch("notes", None, {"text": "x"}), list[Record])
    assert_type(await internal.remove("notes", "1"), Record)
    assert_type(await internal.remove("notes", None, {"n": 1}), list[Record])
    await notes.emit("pinned", {"_id": "1"}, tenant=tenant)
    assert_type(app.channel(tenant, "a", "b").filter(lambda member: member.user is not None), Channel)


async def misuse(app: Application, notes: Registration, tenant: Tenant, params: Params) -> None:
    """Each line has a mistake that a type checker finds."""
    app.use("notes", "no service")  # type: ignore[arg-type]
    app.use("notes", Notes)  # type: ignore[arg-type]
    app.use("notes", Notes(), method=["find"])  # type: ignore[call-arg]
    app.use("notes", Notes(), hooks={"befor": {"all": [before]}})  # type: ignore[dict-item]
    app.use("notes", Notes(), hooks={"around": {"all": [before]}})  # type: ignore[dict-item]
    app.use("notes", Notes(), hooks={"before": {"all": [around]}})  # type: ignore[dict-item]
    app.use("notes", Notes(), hooks={"after": [not_a_hook]})  # type: ignore[list-item]
    app.use("notes", Notes(), rules=True)  # type: ignore[arg-type]
    app.use("notes", Notes(), rooms="room")  # type: ignore[arg-type]
    notes.add_hooks([before])  # type: ignore[list-item]
    app.hooks({"setup": [before]})  # type: ignore[list-item]
    app.multi_tenancy(placement="database")  # type: ignore[call-arg]
    app.multi_tenancy(get_placement=resolving)  # type: ignore[arg-type]
    app.multi_tenancy(subdomains={"hosts": []})  # type: ignore[typeddict-unknown-key]
    app.multi_tenancy(entity_hooks={"roles": {"befor": {"all": [before]}}})  # type: ignore[dict-item]
    validate_data(dict)  # type: ignore[arg-type]
    validate_query({"create": Note})  # type: ignore[arg-type]
    resolve_data({"title": lambda value: value})  # type: ignore[dict-item,misc]
    resolve_query([title])  # type: ignore[arg-type]
    DataService(app, "notes")  # type: ignore[arg-type]
    app.publish(lambda record: None)  # type: ignore[arg-type,misc]
    app.channel("acme", "a")  # type: ignore[arg-type]
    app.channel(tenant).join(params)  # type: ignore[arg-type]
    Internal(app)  # type: ignore[call-arg]
    internal = Internal(app, params)
    await internal.find("notes", "n=1")  # type: ignore[arg-type]
    await internal.create("notes", "text")  # type: ignore[arg-type]
    await internal.get("notes", None)  # type: ignore[arg-type]
    await internal.get("notes", {"n": 1})  # type: ignore[arg-type]
    await internal.update("notes", "1", [{}])  # type: ignore[arg-type]
    await notes.emit("pinned", {"_id": "1"})  # type: ignore[call-arg]
    await notes.emit("pinned", {"_id": "1"}, tenant="acme")  # type: ignore[arg-type]
    Params(query={})  # type: ignore[call-arg]
