"""A MongoDB deployment: the client that Roost holds for a URI, and the collections it gives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from functools import partial
from typing import Literal, TypeVar

from pymongo import AsyncMongoClient
from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError
from pymongo.monitoring import CommandListener

from hooks.errors import Unavailable
from services.database import handover, schema, transaction
from services.database.command_events import CommandEvents
from services.database.driver import DriverCollection
from services.database.faults import DRIVER_ERRORS
from services.database.group_commit import GroupCommit
from services.database.lean import LeanCollection
from services.database.runner import Runner
from services.database.shares import Shares
from services.database.turns import Turns
from services.store import Collection, Document, Namespace

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

#: How commands reach the server: through PyMongo, or by the lean path beside it.
Path = Literal["pymongo", "lean"]

# With every server down a call ends within 2.5 s: PyMongo looks at the clock every half second, and so gives up after two.
_SERVER_SELECTION_MS = 1900
_CONNECT_MS = 2000
_POOL_WAIT_MS = 2000
# A server that was away is seen again so soon: it may be the next primary. One that hangs is given up after this and
# `_CONNECT_MS`. PyMongo's own ten seconds would make both longer than a call may take.
_HEARTBEAT_MS = 2000
# A reply may come after the server's own time bound; past this the connection is given up.
_SOCKET_GRACE_MS = 1000

_LEAN_TOPOLOGIES = frozenset({"ReplicaSetWithPrimary", "Single"})


class Deployment:
    """Owns one client of one deployment and is its `services.store.Store`.

    Every command is bounded: `max_time_ms` on the server, a connection of `pool_size` awaited for at most 2 s, a whole
    call with a change of the primary at most 5 s. Writes are acknowledged by a majority and its journals, and retried
    when the primary changes.
    """

    def __init__(
        self,
        uri: str,
        *,
        max_time_ms: int = 2000,
        pool_size: int = 50,
        path: Path = "pymongo",
        event_listeners: Sequence[CommandListener] = (),
    ) -> None:
        """Nothing is sent before `open`. `event_listeners` hear of every command, on either path."""
        self._uri = uri
        self._max_time_ms = max_time_ms
        self._pool_size = pool_size
        self._path = path
        self._listeners = tuple(event_listeners)
        self._client: AsyncMongoClient[Document] | None = None
        self._runner: Runner | None = None
        self._group_commit: GroupCommit | None = None
        self._shares: Shares | None = None
        self._turns: Turns | None = None
        self._ensuring = asyncio.Semaphore(max(1, pool_size // 2))
        self._ensured: dict[tuple[str, schema.CollectionSchema], asyncio.Task[None]] = {}

    @property
    def client(self) -> AsyncMongoClient[Document]:
        """The driver's client, for change streams, transactions and administration."""
        if self._client is None:
            raise RuntimeError("the deployment is not open")
        return self._client

    @property
    def shares(self) -> Shares:
        """How many commands each tenant has under way."""
        if self._shares is None:
            raise RuntimeError("the deployment is not open")
        return self._shares

    @property
    def connections(self) -> int:
        """How many connections are open, to all servers, besides those that watch these."""
        lean = 0 if self._runner is None else self._runner.connections
        return lean + (0 if self._client is None else handover.connections(self._client))

    @property
    def pools(self) -> tuple[int, int]:
        """How many connections to each server there are at most, and how many servers."""
        servers = len(self.client.topology_description.server_descriptions())
        return (1 if self._runner is None else 2) * self._pool_size, servers

    async def open(self) -> None:
        """Connects.

        Raises:
            Unavailable: No server answers, or it refuses the credentials; the sentence says which.
        """
        try:
            self._client = self._connect()
            await self._client.admin.command("ping")
        except ConfigurationError as error:
            raise Unavailable("The MongoDB URI is not understood or its host name does not resolve.") from error
        except ConnectionFailure as error:
            await self.close()
            raise Unavailable(
                f"No MongoDB server answered within {_SERVER_SELECTION_MS / 1000} s: "
                "check that it runs and that the URI names it."
            ) from error
        except OperationFailure as error:
            await self.close()
            raise Unavailable("The MongoDB server refused the connection: check the URI's credentials.") from error
        self._shares = Shares(self._pool_size, processors=await _processors(self._client))
        if self._path == "lean":
            await self._open_lean_path(self._client, self._shares)
        if self._runner is None:
            self._turns = Turns(self._shares, wait_seconds=_POOL_WAIT_MS / 1000)

    async def close(self) -> None:
        """Closes all connections; calls still in flight end with an error."""
        client, self._client = self._client, None
        runner, self._runner = self._runner, None
        group_commit, self._group_commit = self._group_commit, None
        for task in self._ensured.values():
            task.cancel()
        self._ensured.clear()
        if runner is not None:
            await runner.close()
        if group_commit is not None:
            await group_commit.settle()
        if client is not None:
            await client.close()

    async def ping(self) -> bool:
        """Whether a server answers and takes writes, asked for at most some 3 s."""
        try:
            await self.client.admin.command("ping", maxTimeMS=1000)
        except DRIVER_ERRORS:
            return False
        return True

    def collection(self, namespace: Namespace) -> Collection:
        collection = self.client[namespace.database][namespace.collection]
        driver = DriverCollection(collection, max_time_ms=self._max_time_ms, turns=self._turns)
        if self._runner is None or self._group_commit is None:
            return driver
        return LeanCollection(namespace, self._runner, self._group_commit, driver)

    async def transaction(self, work: Callable[[], Awaitable[_T]]) -> _T:
        return await transaction.run(self.client, work)

    async def ensure(self, database: str, *collections: schema.CollectionSchema) -> None:
        """Brings the validators and indexes of collections about; once done in this process, it costs nothing.

        Raises:
            FeathersError: As `services.store.Collection`; the next call tries again.
        """
        new = [one for one in dict.fromkeys(collections) if (database, one) not in self._ensured]
        if new:
            # What there is already is asked for once, for all of them.
            listing = asyncio.ensure_future(schema.listed(self.client[database], [one.name for one in new]))
            for one in new:
                task = asyncio.ensure_future(self._ensure(database, one, listing))
                task.add_done_callback(partial(self._forget_failure, (database, one)))
                self._ensured[database, one] = task
        await asyncio.gather(*(asyncio.shield(self._ensured[database, one]) for one in dict.fromkeys(collections)))

    async def _ensure(
        self, database: str, collection: schema.CollectionSchema, listing: Awaitable[schema.Listing]
    ) -> None:
        # Calls need connections too, and a small pool would have many of these wait until they are given up.
        async with self._ensuring:
            await schema.ensure(self.client[database], collection, listing)

    def _forget_failure(self, key: tuple[str, schema.CollectionSchema], task: asyncio.Task[None]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._ensured.get(key) is task:
            del self._ensured[key]

    async def _open_lean_path(self, client: AsyncMongoClient[Document], shares: Shares) -> None:
        if client.topology_description.topology_type_name not in _LEAN_TOPOLOGIES:
            _log.warning("the lean command path serves one replica set or server: PyMongo is used")
            return
        runner = Runner(
            client,
            max_time_ms=self._max_time_ms,
            pool_size=self._pool_size,
            shares=shares,
            pool_wait_ms=_POOL_WAIT_MS,
            events=CommandEvents(self._listeners),
        )
        try:
            await runner.open()
        except Exception:
            _log.warning("the lean command path does not work here: PyMongo is used", exc_info=True)
            await runner.close()
        else:
            self._runner, self._group_commit = runner, GroupCommit(runner)

    def _connect(self) -> AsyncMongoClient[Document]:
        return AsyncMongoClient(
            self._uri,
            appname="roost",
            tz_aware=True,
            tzinfo=UTC,
            serverSelectionTimeoutMS=_SERVER_SELECTION_MS,
            connectTimeoutMS=_CONNECT_MS,
            heartbeatFrequencyMS=_HEARTBEAT_MS,
            socketTimeoutMS=self._max_time_ms + _SOCKET_GRACE_MS,
            waitQueueTimeoutMS=_POOL_WAIT_MS,
            maxPoolSize=self._pool_size,
            maxIdleTimeMS=60_000,
            readPreference="primary",
            retryReads=True,
            retryWrites=True,
            w="majority",
            journal=True,
            wTimeoutMS=self._max_time_ms,
            event_listeners=self._listeners,
        )


async def _processors(client: AsyncMongoClient[Document]) -> int | None:
    """How many processors the database has, if this user may know."""
    try:
        system = (await client.admin.command("hostInfo"))["system"]
    except PyMongoError:
        return None
    cores = system.get("numCores")
    return cores if isinstance(cores, int) else None
