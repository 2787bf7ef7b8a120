"""The queue: takes jobs on, for the tenant of whoever asks."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from hooks.context import Params, Record
from hooks.errors import BadRequest, TooManyRequests
from hooks.tenant import Tenant, current_tenant
from services.jobs.model import Handler, Schedule, State, Work, shown
from services.jobs.store import JobStore
from services.store import Document

log = structlog.get_logger()

LARGEST = 64 * 1024
"""Bytes of a payload as JSON."""
MOST = 100_000
"""Jobs of one tenant that are not finished."""
RECOUNT = 5.0
"""Seconds for which a count of them is trusted; what this process adds meanwhile is counted along."""
TENANT_WORDS = frozenset({"app_id", "appId", "tid", "tenant", "tenant_id", "tenantId"})
"""What a payload may not name: the tenant of a job is that of the call that made it, and nothing in it says otherwise."""

Listener = Callable[[Tenant, str, Record], Awaitable[None]]
"""Hears of what happens to a job in this process: its tenant, `created` or `patched`, and what may be told of it."""


class Jobs:
    """Handlers, schedules, and the way in."""

    def __init__(self, store: JobStore, *, control_plane: str) -> None:
        """`control_plane` is the id of the tenant for which jobs of the server itself are done."""
        self.store = store
        self.control_plane = control_plane
        self.handlers: dict[str, Handler] = {}
        self.schedules: dict[str, Schedule] = {}
        self.news = asyncio.Event()
        """Set when there may be something to do."""
        self._listeners: list[Listener] = []
        self._counts: dict[str, tuple[float, int]] = {}

    def handle(self, name: str, work: Work, **options: Any) -> Handler:
        """Registers who does the jobs of a name: `options` are those of `Handler`.

        Raises:
            ValueError: the name is taken.
        """
        if name in self.handlers:
            raise ValueError(f"Jobs of the name '{name}' have a handler already")
        handler = self.handlers[name] = Handler(name, work, **options)
        return handler

    def schedule(self, name: str, cron: str, handler: str, **options: Any) -> Schedule:
        """Has jobs come by themselves: `options` are those of `Schedule`.

        Raises:
            ValueError: the name is taken, nobody handles such jobs, that is no schedule, or no job can have such a payload.
        """
        if name in self.schedules:
            raise ValueError(f"There is a schedule '{name}' already")
        if handler not in self.handlers:
            raise ValueError(f"Nobody handles jobs of the name '{handler}'")
        schedule = Schedule(name, cron, handler, **options)
        try:
            check_payload(schedule.payload)
        except BadRequest as error:
            # At each tick it would be refused again, for ever.
            raise ValueError(error.message) from error
        self.schedules[name] = schedule
        return schedule

    def on_change(self, listener: Listener) -> None:
        """Calls `listener` with what happens to jobs in this process."""
        self._listeners.append(listener)

    async def enqueue(
        self,
        name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        params: Params | None = None,
        run_at: datetime | None = None,
        call: str | None = None,
    ) -> str:
        """Takes a job on for the current tenant; its id. `params` are those of the call that wants it.

        Raises:
            LookupError: outside of any `tenant_scope`: there is no job without a tenant.
            BadRequest: nobody does such jobs, or the payload is too large or names a tenant.
            TooManyRequests: the tenant has too many that are not finished.
        """
        tenant = current_tenant()
        if params is not None and params.tenant.id != tenant.id:
            raise LookupError("The call is another tenant's than the scope")
        handler = self.handlers.get(name)
        if handler is None or handler.control:
            raise BadRequest(f"There are no jobs of the name '{name[:64]}'")
        await self._check_room(tenant.id)
        document = self.document(tenant, name, payload or {}, run_at)
        document |= _made_by(params) | {"call": call}
        await self.add(tenant, document)
        return str(document["_id"])

    async def enqueue_control(self, name: str, tenant: Tenant, payload: Mapping[str, Any] | None = None) -> str:
        """Takes on a job of the server itself, done in the scope of the control plane, which `tenant` has to be.

        Raises:
            BadRequest: there is no such job. LookupError: `tenant` is not the control plane.
        """
        if tenant.id != self.control_plane:
            raise LookupError("Jobs of the server itself are done for the control plane alone")
        handler = self.handlers.get(name)
        if handler is None or not handler.control:
            raise BadRequest(f"The server has no jobs of the name '{name[:64]}'")
        document = self.document(tenant, name, payload or {}, None)
        await self.add(tenant, document)
        return str(document["_id"])

    def document(
        self, tenant: Tenant, name: str, payload: Mapping[str, Any], run_at: datetime | None, id: str | None = None
    ) -> Document:
        """A new job as it is kept.

        Raises:
            BadRequest: the payload is too large, is no JSON, or names a tenant.
        """
        check_payload(payload)
        now = datetime.now(UTC)
        when = run_at or now
        state = State.SCHEDULED if when > now else State.WAITING
        return {
            "_id": id or uuid.uuid4().hex,
            "app_id": tenant.id,
            "epoch": tenant.epoch,
            "name": name,
            "payload": dict(payload),
            "state": state,
            "attempt": 0,
            "run_at": when,
            "created_at": now,
        }

    async def add(self, tenant: Tenant, document: Document) -> bool:
        """Keeps a job; False when there is one with its id."""
        added = await self.store.insert(document)
        if added:
            self.news.set()
            await self.tell(tenant, "created", document)
        return added

    async def tell(self, tenant: Tenant, event: str, document: Document) -> None:
        """Tells the listeners; one that fails costs the job nothing."""
        for listener in self._listeners:
            try:
                await listener(tenant, event, shown(document))
            except Exception:
                log.exception("a listener of jobs failed", tenant=tenant.id, job=document["_id"])

    async def _check_room(self, app_id: str) -> None:
        counted = self._counts.get(app_id)
        now = time.monotonic()
        if counted is None or counted[0] < now:
            counted = (now + RECOUNT, await self.store.unfinished(app_id, MOST))
        if counted[1] >= MOST:
            self._counts[app_id] = counted
            raise TooManyRequests(f"The app has {MOST} jobs that are not finished: wait until some are")
        self._counts[app_id] = (counted[0], counted[1] + 1)
        while len(self._counts) > 10_000:
            self._counts.pop(next(iter(self._counts)))


def check_payload(payload: Mapping[str, Any]) -> None:
    """Refuses a payload that cannot be kept or that names a tenant.

    Raises:
        BadRequest: see above.
    """
    try:
        size = len(json.dumps(payload))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest("The payload of a job must be JSON") from error
    if size > LARGEST:
        raise BadRequest(f"The payload of a job has at most {LARGEST} bytes: keep data in a service, and name it here")
    _check_words(payload)


def _check_words(value: object) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in TENANT_WORDS:
                raise BadRequest(f"'{key}' cannot be in a job's payload: its tenant is that of the call")
            _check_words(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_words(inner)


def _made_by(params: Params | None) -> Document:
    if params is None:
        return {"actor": None, "org_id": None}
    payload = params.authentication.payload if params.authentication is not None else {}
    return {"actor": None if params.user is None else str(params.user["_id"]), "org_id": payload.get("org_id")}
