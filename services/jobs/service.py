"""The jobs service: the background work of an app, for its administrators to see, cancel and try again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hooks.context import Params, Record
from hooks.errors import BadRequest, Conflict, NotFound
from hooks.rules import Rule
from hooks.tenancy import asked
from services.base import Page, Service
from services.jobs.model import State, shown
from services.jobs.queue import Jobs
from services.query import Paginate, QueryOptions, parse
from services.store import Document

PATH = "jobs"
METHODS = ("find", "get", "remove", "retry")
JOBS_RULES: Mapping[str, Rule] = {
    "find": {"permission": "read:jobs"},
    "get": {"permission": "read:jobs"},
    "retry": {"permission": "update:jobs"},
    "remove": {"permission": "delete:jobs"},
}
PAGES = Paginate(default=20, max=100)
_FIELDS = frozenset({"name", "state"})
_PLAIN = (str, int, float, bool)


class JobsService(Service):
    """Jobs as `{_id, name, state, attempt, actor, run_at, created_at, started_at, ended_at, reason}`; payloads stay inside."""

    schema: Mapping[str, Any] = {
        "_id": {"type": "string", "required": True},
        "name": {"type": "string"},
        "state": {"type": "string", "enum": [*State]},
        "attempt": {"type": "number"},
        "actor": {"type": ["string", "null"]},
        "run_at": {"type": "string"},
        "created_at": {"type": "string"},
        "started_at": {"type": ["string", "null"]},
        "ended_at": {"type": ["string", "null"]},
        "reason": {"type": ["string", "null"]},
        "additionalProperties": False,
    }

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def find(self, params: Params) -> Page:
        """A page of jobs, the newest first; `name` and `state` filter.

        Raises:
            BadRequest: another filter.
        """
        query = parse(asked(params.query), QueryOptions(PAGES))
        for field, value in query.filter.items():
            if field not in _FIELDS or not isinstance(value, _PLAIN):
                raise BadRequest("Jobs are filtered by 'name' and 'state', each with one value")
        if query.sort:
            raise BadRequest("Jobs are always sorted by their age, the newest first")
        limit = query.limit or 0
        found, total = await self._jobs.store.find(params.tenant.id, query.filter, query.skip, limit)
        return {"total": total, "limit": limit, "skip": query.skip, "data": [shown(job) for job in found]}

    async def get(self, id: Any, params: Params) -> Record:
        """One job.

        Raises:
            NotFound: there is none.
        """
        return shown(await self._get(id, params))

    async def remove(self, id: Any, params: Params) -> Record:
        """Cancels a job that has not begun.

        Raises:
            NotFound: there is none. Conflict: it runs, or has ended.
        """
        await self._get(id, params)
        changes = {"state": State.DROPPED, "reason": "cancelled"}
        return await self._change(id, params, (State.SCHEDULED, State.WAITING), changes)

    async def retry(self, data: Any, params: Params) -> Record:
        """Has a job `{id}` that failed, or was dropped, done again from its first attempt.

        Raises:
            NotFound: there is none. Conflict: it has not ended like that.
        """
        id = data.get("id") if isinstance(data, dict) else None
        await self._get(id, params)
        changes = {"state": State.WAITING, "attempt": 0, "run_at": datetime.now(UTC), "reason": None}
        changed = await self._change(id, params, (State.FAILED, State.DROPPED), changes)
        self._jobs.news.set()
        return changed

    async def _change(self, id: Any, params: Params, states: tuple[State, ...], changes: Mapping[str, Any]) -> Record:
        changed = await self._jobs.store.change(params.tenant.id, id, states, changes)
        if changed is None:
            raise Conflict(f"Only a job that is {' or '.join(states)} can be changed like this")
        await self._jobs.tell(params.tenant, "patched", changed)
        return shown(changed)

    async def _get(self, id: Any, params: Params) -> Document:
        if not isinstance(id, str):
            raise BadRequest("The id of a job is a text")
        found = await self._jobs.store.get(params.tenant.id, id)
        if found is None:
            raise NotFound(f"No job with the id '{id[:100]}'")
        return found
