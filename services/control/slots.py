"""Slots: how many connections a tenant has over all nodes, reserved before one is accepted.

One document per tenant counts by node. A reservation adds one if there is room, in one atomic step. Everything else a node says
is how many it holds, exactly: after connections have gone, after a doubt, and every ten seconds. So whatever was lost on the
way is put right, and the share of a node that has fallen silent is given back by the others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any

import structlog
from pymongo.errors import DuplicateKeyError

from hooks.errors import FeathersError, TooManyRequests
from services.control.nodes import Nodes
from services.control.tenants import control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.tasks import detached, end

log = structlog.get_logger()

COLLECTION = "connection_slots"
BEAT = 10.0
"""Seconds after which a node says again what it holds."""
MISSED = 1.5
"""Times that long after which a node that is silent is taken for dead."""
MOST = 10_000
"""Tenants that are looked at for the shares of dead nodes."""


class Slots:
    """The slots that this node holds, by tenant and holder."""

    def __init__(self, deployment: Deployment, nodes: Nodes, *, database: str, beat: float = BEAT) -> None:
        self._deployment = deployment
        self._nodes = nodes
        self._control = control_database(database)
        self._beat = beat
        self.node = _key(nodes.id)
        self._held: defaultdict[str, set[Hashable]] = defaultdict(set)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._was_full = False
        """Somebody found no room since the last sweep: a dead node may hold it."""
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to say, again and again, what this node holds."""
        self._beating = asyncio.create_task(self._run(), name="slots")

    async def stop(self) -> None:
        """Gives back all that this node holds; without the database the others do so when it is missed."""
        if self._beating is not None:
            await end(self._beating)
        for task in [*self._telling.values()]:
            await end(task)
        held = [*self._held]
        self._held.clear()
        for app_id in held:
            try:
                await self._tell(app_id)
            except FeathersError:
                return

    async def reserve(self, app_id: str, holder: Hashable, limit: int) -> None:
        """Takes a slot.

        Raises:
            TooManyRequests: there is none left, with the reason `TooManyConnections`. Unavailable: nobody can tell.
        """
        if limit <= 0:
            raise _full(app_id, limit)
        async with self._locks[app_id]:
            try:
                await self._slots.find_one_and_update(
                    {"_id": app_id, "total": {"$lt": limit}},
                    {"$inc": {"total": 1, f"nodes.{self.node}": 1}},
                    {"_id": 1},
                    upsert=True,
                )
            except DuplicateKeyError as error:
                # There is the document, and it has no room: it would have been inserted beside itself.
                self._was_full = True
                raise _full(app_id, limit) from error
            except DRIVER_ERRORS as error:
                self._doubt(app_id)
                raise from_driver(error) from error
            except BaseException:
                self._doubt(app_id)
                raise
            self._held[app_id].add(holder)

    def release(self, app_id: str, holder: Hashable) -> None:
        """Gives a slot back, if the holder has one; the database hears of it soon."""
        held = self._held.get(app_id)
        if held is not None and holder in held:
            held.discard(holder)
            self._doubt(app_id)

    async def adopt(self, app_id: str, holders: Iterable[Hashable]) -> int:
        """Counts holders that were there before there was a limit; how many there are now, over all nodes.

        Raises:
            Unavailable: the database cannot be asked.
        """
        async with self._locks[app_id]:
            self._held[app_id].update(holders)
            await self._tell(app_id)
            return await self.total(app_id)

    async def total(self, app_id: str) -> int:
        """How many slots of the tenant are taken, over all nodes."""
        try:
            found = await self._slots.find_one({"_id": app_id}, {"total": 1}, max_time_ms=2000)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return 0 if found is None else int(found["total"])

    def held(self, app_id: str) -> int:
        """How many of them this node holds."""
        return len(self._held.get(app_id, ()))

    async def sweep(self) -> int:
        """Gives back what dead nodes held; how much that was."""
        given = 0
        try:
            alive = {_key(node.id) for node in await self._nodes.all() if node.silent < self._beat * MISSED}
            async for found in self._slots.find({"total": {"$gt": 0}}, limit=MOST, max_time_ms=5000):
                for node in found["nodes"].keys() - alive - {self.node}:
                    share = found["nodes"][node]
                    # Only as long as it is what it was: the node may have come back.
                    done = await self._slots.update_one(
                        {"_id": found["_id"], f"nodes.{node}": share},
                        {"$inc": {"total": -share}, "$unset": {f"nodes.{node}": ""}},
                    )
                    given += share * done.modified_count
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        return given

    async def _run(self) -> None:
        while True:
            try:
                await self._once()
            except FeathersError as error:
                log.warning("slots: not counted", error=type(error).__name__)
            await asyncio.sleep(self._beat)

    async def _once(self) -> None:
        for app_id in [*self._held]:
            async with self._locks[app_id]:
                await self._tell(app_id)
        if self._held or self._was_full:
            self._was_full = False
            await self.sweep()

    def _doubt(self, app_id: str) -> None:
        """What the database counts for this node may be wrong: it is told, once for all doubts of a moment."""
        if app_id not in self._telling:
            task = self._telling[app_id] = detached(self._settle(app_id), "slots settle")
            task.add_done_callback(lambda _: self._telling.pop(app_id, None))

    async def _settle(self, app_id: str) -> None:
        try:
            async with self._locks[app_id]:
                await self._tell(app_id)
        except FeathersError as error:
            # It is told again soon.
            log.warning("slots: not given back yet", tenant=app_id, error=type(error).__name__)

    async def _tell(self, app_id: str) -> None:
        """Sets this node's share to what it holds."""
        own, held = f"nodes.{self.node}", self.held(app_id)
        before = {"$ifNull": [f"${own}", 0]}
        total = {"$add": [{"$subtract": [{"$ifNull": ["$total", 0]}, before]}, held]}
        change = [{"$set": {"total": total, own: held}}, *([] if held else [{"$unset": own}])]
        try:
            await self._slots.update_one({"_id": app_id}, change, upsert=True)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if not held:
            self._held.pop(app_id, None)

    @property
    def _slots(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def _key(node: str) -> str:
    """A node's name as a field's."""
    return node.replace(".", "_").replace("$", "_")


def _full(app_id: str, limit: int) -> TooManyRequests:
    data = {"reason": "TooManyConnections", "limit": limit}
    return TooManyRequests(f"The app '{app_id}' has as many connections as it may have: try again later", data=data)
