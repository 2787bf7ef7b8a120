"""The service `tenant-operations`: what is being done to apps and what was, and how managers ask for more of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import HookContext, Params, Record
from hooks.control import Manager, control_plane_only, manager
from hooks.errors import BadRequest, Forbidden, NotFound
from hooks.tenancy import FIELD, asked
from services.base import Page, Service
from services.control.lifecycle import Actor, Lifecycle
from services.control.listing import Field, moment, parse, text
from services.control.moves.moves import Destination, Moves
from services.control.operations import Operation, Operations
from services.control.places import OWN_URI
from services.control.sagas import DELETE, FINALIZE, PROMOTE, PROVISION, RESUME, SUSPEND
from services.control.services.tenants import DELETE as DELETE_TENANTS
from services.control.services.tenants import READ as READ_TENANTS
from services.control.services.tenants import UPDATE as UPDATE_TENANTS
from services.placement.dedicated import DEFAULT
from services.registration import HooksByKind

PATH = "tenant-operations"
MOVES = (PROMOTE, FINALIZE, "rollback")
"""What is done to where an app's data is."""
READ, CREATE = "read:tenant_operations", "create:tenant_operations"
HEARING = {"all": [{"permission": READ}, {"permission": READ_TENANTS}]}
"""Who hears of the events, in the control plane alone."""

FIELDS: Mapping[str, Field] = {
    "tenant_id": Field("app_id", text),
    "kind": Field("kind", text),
    "state": Field("state", text),
    "created_at": Field("created_at", moment),
}


class TenantOperationsService(Service):
    """Operations: `{_id, tenant_id, kind, state, steps, actor, attempts, error, notes, created_at, updated_at, ended_at}`."""

    control_plane = True
    schema: Mapping[str, Any] = {
        "_id": {"type": "string", "required": True},
        "tenant_id": {"type": "string", "required": True, "description": "The appId."},
        "kind": {"type": "string", "required": True},
        "state": {"enum": ["running", "waiting", "succeeded", "failed", "cancelled"]},
        "steps": {"type": "array", "items": {"type": "object"}, "description": "`{name, state, attempts, error}`"},
        "actor": {"type": "string", "description": "A user of the control plane, or `operator`."},
        "attempts": {"type": "integer"},
        "error": {"type": ["object", "null"], "description": "`{step, message}`"},
        "notes": {"type": "object"},
        "created_at": {"type": "string"},
        "updated_at": {"type": "string"},
        "ended_at": {"type": ["string", "null"]},
    }
    data_schema: Mapping[str, Any] = {
        "kind": {
            "type": "string",
            "required": True,
            "description": "provision, delete, suspend, resume, promote, rollback, finalize, rotate-keys, ...",
        },
        "tenant_id": {"type": "string", "required": True, "description": "The appId."},
        "confirm": {
            "type": "string",
            "description": "For delete, and to finalize a move before the day of retention is over: the appId once more.",
        },
        "to": {"type": "string", "description": "For promote: shared, database or cluster."},
        "cluster": {"type": "string", "description": "For promote to database: one of the server's clusters."},
        "secret": {"type": "string", "description": "For promote to cluster: the name of the app's secret."},
    }

    def __init__(
        self, operations: Operations, lifecycle: Lifecycle, *, control_plane: str, moves: Moves | None = None
    ) -> None:
        """`control_plane` is its tenant's id; without `moves`, apps stay where they are."""
        self._moves = moves
        self._operations = operations
        self._lifecycle = lifecycle
        self._control_plane = control_plane

    def hooks(self) -> HooksByKind:
        """For `Application.use`. Events come from where operations are followed."""
        return {
            "before": {"all": [control_plane_only(self._control_plane)]},
            "after": {"create": [_accept]},
        }

    async def find(self, params: Params) -> Page:
        """Operations, the newest first unless it is asked otherwise."""
        listing = parse({"$sort": {"created_at": -1}, **asked(params.query)}, FIELDS)
        scope = self._scope(params)
        chosen = {"$and": [listing.filter, scope]}
        total, found = await self._operations.find(chosen, sort=listing.sort, skip=listing.skip, limit=listing.limit)
        return {
            "total": total,
            "limit": listing.limit,
            "skip": listing.skip,
            "data": [operation.shown(to_tenant="app_id" in scope) for operation in found],
        }

    async def get(self, id: Any, params: Params) -> Record:
        """One operation with the events of its steps.

        Raises:
            NotFound: there is none with this id that the caller may see.
        """
        found = await self._operations.get(id) if isinstance(id, str) else None
        scope = self._scope(params)
        if found is None or scope.get("app_id", found.app_id) != found.app_id:
            raise NotFound(f"No record found for id '{str(id)[:64]}'")
        events = [
            {name: value for name, value in event.items() if name not in ("_id", "operation", "app_id")}
            for event in await self._operations.events(found.id)
        ]
        return {**found.shown(to_tenant="app_id" in scope), "events": events}

    async def create(self, data: Any, params: Params) -> Record:
        """Asks for an operation, or for another attempt of one that failed (`provision`); it goes on by itself.

        Raises:
            BadRequest: the data has mistakes. Forbidden: the caller may not. NotFound: there is no such app.
            Conflict: the app is not in a state for it, or something else is being done to it.
        """
        given = _read(data)
        kind, app_id, confirm = given["kind"], given["tenant_id"], given.get("confirm")
        caller = None if params.provider is None else manager(params)
        if caller is not None:
            _check(caller, kind)
        actor = Actor(None if caller is None else caller.sub, params.provider)
        if kind == PROVISION:
            return (await self._lifecycle.retry(app_id, kind)).shown()
        if kind == DELETE:
            self._lifecycle.check_deletable(app_id)
            if confirm != app_id:
                raise BadRequest(f"This deletes the app with all its users and data: confirm it with confirm: {app_id}")
            return (await self._lifecycle.delete(app_id, actor)).shown()
        if kind in MOVES:
            return (await self._move(kind, app_id, given, actor)).shown()
        if kind == SUSPEND:
            return (await self._lifecycle.suspend(app_id, actor)).shown()
        if kind == RESUME:
            return (await self._lifecycle.resume(app_id, actor)).shown()
        return (await self._lifecycle.begin(app_id, kind, actor)).shown()

    async def _move(self, kind: str, app_id: str, given: Mapping[str, str], actor: Actor) -> Operation:
        """Moves an app's data, takes that back, or deletes what it has left (MG-4)."""
        if self._moves is None:
            raise BadRequest(f"There is no operation '{kind}'")
        if kind == PROMOTE:
            if "to" not in given:
                raise BadRequest("Where the data is to be is said by 'to': shared, database or cluster")
            to = Destination(given["to"], given.get("cluster", DEFAULT), given.get("secret", OWN_URI))
            return await self._moves.promote(app_id, to, actor=actor.name)
        if kind == FINALIZE:
            return await self._moves.finalize(app_id, now=given.get("confirm") == app_id, actor=actor.name)
        begun = await self._moves.rollback(app_id, actor=actor.name)
        found = begun if begun is not None else await self._operations.latest(app_id)
        assert found is not None
        return found

    def _scope(self, params: Params) -> dict[str, Any]:
        """Which operations the caller sees: all, or those of the tenant that his organization stands for.

        Raises:
            Forbidden: none.
        """
        if params.provider is None:
            return {}
        caller = manager(params)
        if caller.may(READ) and (not caller.is_platform or caller.may(READ_TENANTS)):
            return {} if caller.is_platform else {"app_id": caller.tenant}
        raise Forbidden(f"This needs the permissions {READ} and {READ_TENANTS}")


def _check(caller: Manager, kind: str) -> None:
    needed = DELETE_TENANTS if kind == DELETE else UPDATE_TENANTS
    if not caller.is_platform or not caller.may(CREATE) or not caller.may(needed):
        raise Forbidden(f"This needs the permissions {CREATE} and {needed} in the control plane, and no organization")


def _read(data: Any) -> Mapping[str, str]:
    given = {key: value for key, value in data.items() if key != FIELD} if isinstance(data, Mapping) else {}
    allowed = {"kind", "tenant_id", "confirm"}
    if given.get("kind") == PROMOTE:
        allowed |= {"to", "cluster", "secret"}
    if not {"kind", "tenant_id"} <= set(given) <= allowed:
        raise BadRequest("An operation is asked for by {kind, tenant_id}, a deletion also by confirm")
    if not all(isinstance(value, str) for value in given.values()):
        raise BadRequest("kind, tenant_id and confirm are texts")
    return given


def _accept(context: HookContext) -> None:
    """After create: it has only begun; and who follows it tells of it."""
    context.http["status"] = 202
    context.event = None
