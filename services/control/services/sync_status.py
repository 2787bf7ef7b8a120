"""The sync-status service: where every copy stands, and a new comparison for those who ask for one (SY-10, SY-12)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hooks.context import Params, Record
from hooks.errors import BadRequest, Forbidden, NotFound
from hooks.permission import effective
from hooks.rules import Rule, permissions_of
from hooks.schema import Schema
from hooks.tenancy import asked
from services.base import Service
from services.control.services.tenants import READ as READ_TENANTS
from services.control.services.tenants import UPDATE as UPDATE_TENANTS
from services.control.sync.engine import Sync
from services.control.sync.model import NAMES, TYPES
from services.control.sync.state import Status, shown
from services.isolation import strip
from services.query import Paginate, QueryOptions, parse

PATH: Final = "sync-status"
METHODS: Final = ("find", "get", "create")
RULES: Mapping[str, Rule] = {
    "find": {"permission": "read:tenant_operations"},
    "get": {"permission": "read:tenant_operations"},
    "create": {"permission": "create:tenant_operations"},
}
EVERYBODY: Final = "*"
_FIELDS: Final = ("target", "entity", "source_id", "status")
_QUERIES: Final = QueryOptions(paginate=Paginate(default=50, max=500))
_ASKED: Final = Schema(
    {
        "tenant_id": {"type": "string", "minLength": 1, "maxLength": 63},
        "entity": {"enum": [*TYPES]},
        "source_id": {"type": "string", "minLength": 1, "maxLength": 256},
        "adopt": {"type": "boolean"},
        "dry_run": {"type": "boolean"},
        "additionalProperties": False,
    }
)

Start = Callable[[str], Awaitable[None]]
"""Has somebody do a run over all tenants."""


class SyncStatusService(Service):
    """Rows `{_id, target, entity, source_id, status, rev, error, ...}`. Apps see their own, the control plane all of them.

    `create {tenant_id?, entity?, dry_run?}` compares one app at once, and all of them (`*`) in the background; with `source_id`
    and `adopt` a copy takes the place of what the app has by its name.
    """

    schema: Mapping[str, Any] = {
        "_id": {"type": "string"},
        "target": {"type": "string", "description": "The appId."},
        "entity": {"type": "string", "enum": [*TYPES]},
        "source_id": {"type": "string", "description": "The id of the original; of permissions, that of their role."},
        "status": {"type": "string", "enum": [str(status) for status in Status]},
        "rev": {"type": "integer"},
        "error": {"type": "string"},
        "attempts": {"type": "integer"},
        "next_at": {"type": "string"},
        "since": {"type": "string"},
        "updated_at": {"type": "string"},
    }

    def __init__(self, sync: Sync, start: Start) -> None:
        self._sync = sync
        self._start = start

    async def find(self, params: Params) -> Any:
        """A page of rows, with how long the oldest copy has not been what it should be.

        Raises:
            BadRequest: a filter by something else than `target`, `entity`, `source_id`, `status`, each with one value.
        """
        query = parse(asked(params.query), _QUERIES)
        chosen: dict[str, Any] = {}
        for field, value in query.filter.items():
            if field not in _FIELDS or not isinstance(value, str):
                raise BadRequest(f"Rows are filtered by {', '.join(_FIELDS)}, each with one value")
            chosen[field] = value
        if query.sort:
            raise BadRequest("Rows are sorted by app, type and original")
        if not _is_about_all(params, READ_TENANTS):
            if chosen.get("target", params.tenant.id) != params.tenant.id:
                return {"total": 0, "limit": query.limit or 0, "skip": query.skip, "data": [], "oldest_unsynced": 0}
            chosen["target"] = params.tenant.id
        state, limit = self._sync.state, query.limit or 0
        rows = await state.find(chosen, skip=query.skip, limit=limit) if limit else []
        oldest = await state.oldest({name: chosen[name] for name in chosen if name != "status"})
        return {
            "total": await state.count(chosen),
            "limit": limit,
            "skip": query.skip,
            "data": [shown(row) for row in rows],
            "oldest_unsynced": 0 if oldest is None else round((datetime.now(UTC) - oldest).total_seconds(), 3),
        }

    async def get(self, id: Any, params: Params) -> Record:
        """One row, or for the control plane a run over all apps.

        Raises:
            NotFound: there is none, or it is another app's.
        """
        if isinstance(id, str):
            own = _is_about_all(params, READ_TENANTS)
            rows = await self._sync.state.find({"_id": id} if own else {"_id": id, "target": params.tenant.id}, limit=1)
            if rows:
                return shown(rows[0])
            run = await self._sync.runs.get(id) if own else None
            if run is not None:
                return run
        raise NotFound(f"No row of the sync has the id '{str(id)[:200]}'")

    async def create(self, data: Any, params: Params) -> Record:
        """Compares, and mends unless `dry_run` is set; what was done, or the run that does it.

        Raises:
            BadRequest: it is not understood. Forbidden: another app's. NotFound: there is no such app.
        """
        if not isinstance(data, dict):
            raise BadRequest("The data must be an object")
        data = strip(data, params.tenant.id)
        if faults := _ASKED.check(data, whole=True):
            raise BadRequest("validation failed", errors=[*faults])
        entity, dry_run = data.get("entity", ""), data.get("dry_run", False)
        about_all = _is_about_all(params, UPDATE_TENANTS)
        wanted = data.get("tenant_id", EVERYBODY if about_all else params.tenant.id)
        if not about_all and wanted != params.tenant.id:
            raise Forbidden("An app compares itself alone")
        if wanted == EVERYBODY:
            if data.keys() & {"source_id", "adopt"}:
                raise BadRequest("A conflict is one app's: name it")
            run = await self._sync.runs.begin(f"run-{uuid.uuid4().hex}", entity, dry_run=dry_run)
            await self._start(run["_id"])
            return run
        target = await self._sync.targets.get(wanted)
        if target is None:
            raise NotFound(f"There is no app '{wanted}'")
        if data.get("adopt"):
            if entity not in NAMES or "source_id" not in data or dry_run:
                raise BadRequest("To adopt, name the app, the entity and the source_id, without dry_run")
            account = await self._sync.runs.adopt(target, entity, data["source_id"])
        else:
            account = await self._sync.runs.one(target, entity, dry_run=dry_run)
        return {
            "_id": target.id,
            "entity": entity or EVERYBODY,
            "dry_run": dry_run,
            "state": "done",
            "counts": account.counts,
        }


def _is_about_all(params: Params, permission: str) -> bool:
    """Whether a call is about all apps: in the control plane, by who may see or change apps as such (CP-12).

    Raises:
        Forbidden: in the control plane, by somebody else.
    """
    if not params.tenant.is_control_plane:
        return False
    if params.provider is not None and permission not in effective(permissions_of(params.user)):
        raise Forbidden(f"This needs the permission {permission}")
    return True
