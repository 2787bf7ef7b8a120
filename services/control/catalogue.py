"""The catalogue: every tenant that is in use, in memory, and fresh within seconds of a change anywhere.

A tenant is found by its id, by one of its public keys, or by a host that is its own. Snapshots are served from memory, and
looked up again behind the answer once they are older than half a minute; while the database is away they are good for five.
What is out of service is never served from memory in this way.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from hooks.errors import FeathersError
from hooks.tenant import Tenant
from services.authentication.recent import Recent
from services.control.domains import COLLECTION as DOMAINS
from services.control.entries import Entries
from services.control.loads import Loads
from services.control.public_keys import PUBLIC_KEY
from services.control.tenants import COLLECTION, control_database
from services.control.unknown import UnknownLookups
from services.control.watch import Told, Watch
from services.database.deployment import Deployment
from services.tasks import end

log = structlog.get_logger()

FRESH = 30.0
"""Seconds for which an entry is served without a look at the database (+-20 %)."""
STALE = 300.0
"""Seconds for which an entry that cannot be looked up again is still served."""
UNKNOWN = 5.0
"""Seconds for which an unknown name is not asked for again."""
MOST_UNKNOWN = 10_000
MOST_KEPT = 10_000
"""Tenants in memory that nobody is connected to; those used longest ago go first."""
AT_ONCE = 100
"""Tenants that are read at a time when many have changed."""
FORGERS = "forged tokens"
"""Against whom the unknown issuers of tokens are counted."""
MOST_WARMED = 1_000
"""Tenants that are taken into memory at the start."""

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{1,62}")
"""What may be an id at all; anything else is unknown without a look."""

_Name = tuple[str, str]
"""`id`, `key` or `host`, and the text by which a tenant is asked for."""

Listener = Callable[[Tenant], Awaitable[None] | None]


@dataclass(slots=True)
class _Entry:
    tenant: Tenant
    loaded: float
    fresh_until: float


class Catalogue:
    """Tenants by id, public key and host."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        database: str,
        in_use: Callable[[str], bool] = lambda id: False,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST_KEPT,
    ) -> None:
        """`in_use` tells of a tenant whether somebody is connected to it: then it stays in memory."""
        self._tenants = Entries(deployment, database=database)
        self._in_use = in_use
        self._clock = clock
        self._most = most
        self._entries: dict[str, _Entry] = {}
        self._by_key: dict[str, str] = {}
        self._by_host = Recent[str, tuple[str, float]](clock, fresh=STALE, most=MOST_KEPT)
        self._unknown = Recent[_Name, bool](clock, fresh=UNKNOWN, most=MOST_UNKNOWN)
        self._lost = -math.inf
        """When the watch last broke: what was read before is to be read again."""
        self._readers = {
            "id": self._tenants.get,
            "key": self._tenants.with_public_key,
            "host": self._tenants.with_host,
        }
        self._loads = Loads[_Name, Tenant | None](self._read, self._settle)
        self._lookups = UnknownLookups(clock=clock)
        self._listeners: list[Listener] = []
        self._watch = Watch(deployment, control_database(database), (COLLECTION, DOMAINS))
        self._watcher: asyncio.Task[None] | None = None

    def on_change(self, listener: Listener) -> None:
        """Calls `listener` with each tenant whose entry changed, while it is in use here."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Begins to watch for changes."""
        self._watcher = asyncio.create_task(self._watch.follow(self), name="catalogue")

    async def stop(self) -> None:
        """Ends the watch."""
        if self._watcher is not None:
            await end(self._watcher)
        await self._loads.stop()

    async def warm(self, most: int = MOST_WARMED) -> None:
        """Takes some tenants into memory, so that their first calls find them there.

        Raises:
            Unavailable: the database cannot be asked.
        """
        for tenant in await self._tenants.some(min(most, self._most)):
            if tenant.id not in self._entries:
                self._keep(tenant)

    def known(self) -> list[str]:
        """The ids of the tenants in memory."""
        return [*self._entries]

    def peek(self, id: str) -> Tenant | None:
        """The tenant as last seen, without any input or output; None also when it was never asked for."""
        entry = self._entries.get(id)
        return entry.tenant if entry else None

    async def get(self, id: str, *, address: str | None = None, epoch: int = 0) -> Tenant | None:
        """The tenant, at least as new as `epoch`, or None when there is none with this id.

        `address` is where the question comes from: one that asks for too many unknown apps has to wait. None is the server.

        Raises:
            Unavailable: it is not known yet and the database cannot be asked, or has not been reachable for too long.
            TooManyRequests: the address has asked in vain too often.
        """
        entry = self._entries.get(id)
        if entry is not None:
            if self._clock() < entry.fresh_until and entry.tenant.epoch >= epoch:
                return entry.tenant
            return await self._renew(entry, epoch)
        return await self._find("id", id, address) if _ID.fullmatch(id) else None

    async def issuer(self, id: str) -> Tenant | None:
        """The tenant by which a token says it was issued, as `get`: whoever forges tokens can name any, and from anywhere.

        Raises:
            TooManyRequests: forged tokens have named too many that there are not.
        """
        return await self.get(id, address=FORGERS)

    async def by_public_key(self, key: str, *, address: str | None = None) -> Tenant | None:
        """The tenant that has this public key, as `get`."""
        id = self._by_key.get(key)
        if id is not None:
            tenant = await self.get(id, address=address)
            if tenant is not None and key in tenant.public_keys:
                return tenant
        return await self._find("key", key, address) if PUBLIC_KEY.fullmatch(key) else None

    async def refresh(self, tenant: Tenant) -> None:
        """Returns when nothing older than this snapshot is served any more.

        Raises:
            Unavailable: the database cannot be asked.
        """
        name = ("id", tenant.id)
        # Also for who is asked for just now, by whichever name.
        self.invalidate(tenant.id, tenant.epoch)
        while (known := self.peek(tenant.id)) is not None and known.epoch < tenant.epoch:
            # A load that began before the change brings what was before.
            self._loads.overtake(name)
            await self._loads.get(name)

    async def by_host(self, host: str, *, address: str | None = None, counts: bool = True) -> Tenant | None:
        """The tenant that has proved this host to be its own, as `get`.

        `counts` is whether a host that is nobody's is held against the address.
        """
        known = self._by_host.get(host)
        if known is None:
            return await self._find("host", host, address, counts=counts)
        id, read = known
        if self._clock() >= read + FRESH or read < self._lost:
            self._start(("host", host))
        return await self.get(id, address=address)

    def invalidate(self, id: str, epoch: int | None = None) -> None:
        """A tenant was changed, to `epoch` if that is known: who is in use here is looked up again."""
        # Which names are its own is not known before it is read.
        self._unknown.clear()
        self._loads.overtake_all(lambda name: name[0] != "id")
        entry = self._entries.get(id)
        if entry is not None and epoch is not None and entry.tenant.epoch >= epoch:
            return
        if not self._loads.overtake(("id", id)) and entry is not None:
            entry.fresh_until = 0.0
            self._start(("id", id))

    # As the watch's hearer.

    def lose(self) -> None:
        """Nothing that is known may be believed without a look."""
        for entry in self._entries.values():
            entry.fresh_until = 0.0
        self._lost = self._clock()
        self._unknown.clear()
        self._loads.overtake_all()

    def hear(self, told: Told) -> None:
        """A document of the catalogue was changed."""
        if told.collection == COLLECTION:
            self.invalidate(told.id)
        else:
            self._forget_hosts()

    async def review(self) -> None:
        """Looks at the epochs of all that is in memory: changes may have been missed."""
        self.lose()
        ids = [*self._entries]
        epochs = await self._tenants.epochs(ids)
        changed = []
        for id in ids:
            entry = self._entries.get(id)
            if entry is not None and entry.tenant.epoch == epochs.get(id):
                entry.loaded, entry.fresh_until = self._from_now()
            elif entry is not None:
                changed.append(id)
        for start in range(0, len(changed), AT_ONCE):
            batch = changed[start : start + AT_ONCE]
            await asyncio.gather(*(self._loads.get(("id", id)) for id in batch), return_exceptions=True)

    async def poll(self) -> None:
        """Asks which tenants were changed lately: there is no change stream."""
        changed = await self._tenants.changed_lately()
        self._forget_hosts()
        for id, epoch in changed:
            self.invalidate(id, epoch)

    def _forget_hosts(self) -> None:
        """Whose host is whose is looked up again: there are few changes of that, and they name no host."""
        self._by_host.clear()
        self._unknown.clear()
        self._loads.overtake_all(lambda name: name[0] == "host")

    async def _find(self, kind: str, name: str, address: str | None, *, counts: bool = True) -> Tenant | None:
        if self._unknown.get((kind, name)) is not None:
            return None
        # Nobody from outside may use up what the server's own questions need.
        source = address if counts else None
        if source is not None:
            self._lookups.check(source)
        tenant = await self._loads.get((kind, name))
        if tenant is None and source is not None:
            self._lookups.spend(source)
        return tenant

    async def _renew(self, entry: _Entry, epoch: int) -> Tenant | None:
        """An entry that is not fresh: served while it is looked up behind the answer, if that may be."""
        id = entry.tenant.id
        is_usable = self._clock() - entry.loaded < STALE and entry.tenant.epoch >= epoch
        if is_usable and entry.tenant.is_serving:
            self._start(("id", id))
            return entry.tenant
        try:
            return await self._loads.get(("id", id))
        except FeathersError:
            if is_usable:
                # Out of service as far as anybody knows.
                return entry.tenant
            raise

    def _start(self, name: _Name) -> None:
        try:
            self._loads.start(name)
        except FeathersError as error:
            log.warning("catalogue: not looked up again", name=name[1], error=type(error).__name__)

    async def _read(self, name: _Name) -> Tenant | None:
        kind, text = name
        return await self._readers[kind](text)

    async def _settle(self, name: _Name, tenant: Tenant | None) -> Tenant | None:
        kind, text = name
        if tenant is not None:
            if kind == "host":
                self._by_host.put(text, (tenant.id, self._clock()))
            return await self._take(tenant)
        self._by_host.drop(text)
        self._unknown.put(name, True)
        gone = self._drop(text) if kind == "id" else None
        if gone is not None:
            await self._tell(replace(gone, status="deleted", epoch=gone.epoch + 1))
        return None

    async def _take(self, tenant: Tenant) -> Tenant:
        """Keeps what was read, unless something newer is known."""
        before = self.peek(tenant.id)
        if before is not None and before.epoch > tenant.epoch:
            return before
        is_changed = before is not None and before.epoch != tenant.epoch
        # The same object as long as nothing has changed: others keep things by it.
        kept = tenant if before is None or is_changed else before
        self._keep(kept)
        if is_changed:
            await self._tell(kept)
        return kept

    def _keep(self, tenant: Tenant) -> None:
        self._drop(tenant.id)
        self._entries[tenant.id] = _Entry(tenant, *self._from_now())
        self._by_key.update(dict.fromkeys(tenant.public_keys, tenant.id))
        self._unknown.drop(("id", tenant.id))
        if len(self._entries) > self._most:
            self._make_room()

    def _drop(self, id: str) -> Tenant | None:
        entry = self._entries.pop(id, None)
        if entry is None:
            return None
        for key in entry.tenant.public_keys:
            self._by_key.pop(key, None)
        return entry.tenant

    def _from_now(self) -> tuple[float, float]:
        now = self._clock()
        return now, now + FRESH * random.uniform(0.8, 1.2)

    def _make_room(self) -> None:
        """Forgets a tenth of what nobody is connected to, what was looked up longest ago first."""
        idle = (id for id in [*self._entries] if not self._in_use(id))
        for id, _ in zip(idle, range(self._most // 10 + 1), strict=False):
            self._drop(id)

    async def _tell(self, tenant: Tenant) -> None:
        for listener in self._listeners:
            try:
                outcome = listener(tenant)
                if outcome is not None:
                    await outcome
            except Exception:
                log.exception("catalogue listener failed", tenant=tenant.id)
