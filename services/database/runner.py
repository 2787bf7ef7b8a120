"""Runs one command on the primary, and again when the primary changes: the lean path's promises in one place.

A command is sent at most four times within `CALL_SECONDS`. Reads may be repeated; a write only under the same session
and number, by which the server knows it; a command that is neither, only if it never left this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DocumentTooLarge,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)
from pymongo.topology_description import TopologyDescription

from hooks.spent import meter
from services.database import handover, op_msg
from services.database.command_events import CommandEvents
from services.database.connection import Connection, NotSent
from services.database.faults import NOT_PRIMARY_CODES, RETRYABLE_CODES
from services.database.handover import Address, Opened
from services.database.pool import Pool
from services.database.retryable import WriteSessions
from services.database.shares import Claim, Shares, claim
from services.store import Document

_log = logging.getLogger(__name__)

#: A whole call, with waiting for a new primary and all repetitions, takes no longer.
CALL_SECONDS: Final = 4.5
_ATTEMPTS = 4
_PAUSE_SECONDS = 0.05
_REPLY_GRACE_SECONDS = 1.0
# What a server accepts as one message by default.
_MAX_MESSAGE_BYTES = 48_000_000
_WRITABLE = frozenset({"RSPrimary", "Standalone"})


class Repeat(Enum):
    """When a command may be sent again."""

    READ = "read"
    WRITE = "write"
    UNSENT = "unsent"


class Runner:
    """Follows the primary by PyMongo's picture of the deployment and sends commands to it."""

    def __init__(
        self,
        client: AsyncMongoClient[Document],
        *,
        max_time_ms: int,
        pool_size: int,
        shares: Shares,
        pool_wait_ms: int,
        events: CommandEvents,
    ) -> None:
        """Sends nothing yet. `client` stays the caller's, who closes it after this."""
        self.client = client
        self.max_time_ms = max_time_ms
        #: Why this path is no longer used, once the server gave it an answer that it does not understand.
        self.surprise: op_msg.SurprisingReply | None = None
        self._pool_size = pool_size
        self._shares = shares
        self._pool_wait = pool_wait_ms / 1000
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._sessions = WriteSessions()
        self._request_ids = itertools.count(1)
        self._seen: TopologyDescription | None = None
        self._pool: Pool | None = None
        self._pools: set[Pool] = set()
        self._replicated = False
        self._closed = False
        self._pid = os.getpid()
        self._write_concern = {"w": "majority", "j": True, "wtimeout": max_time_ms}

    async def open(self) -> None:
        """Tries the path once.

        Raises:
            Exception: It cannot be used here; anything, since private names of the driver are involved.
        """
        await self.run({"ping": 1, "$db": "admin"}, Repeat.READ)

    async def close(self) -> None:
        """Closes all connections and ends the sessions; calls in flight end with AutoReconnect."""
        self._closed = True
        self._pool = None
        for pool in self._pools:
            await pool.close()
        self._pools.clear()
        ids = self._sessions.drain()
        if ids and self.client.topology_description.has_writable_server():
            # A courtesy: the server forgets them by itself, and may not know this user any more.
            with contextlib.suppress(PyMongoError):
                await self.client.admin.command({"endSessions": ids})

    @property
    def connections(self) -> int:
        """How many connections are open, also those of pools that are being given up."""
        return sum(pool.open for pool in self._pools)

    async def run(
        self,
        command: dict[str, Any],
        repeat: Repeat,
        documents: Sequence[tuple[Document, bytes]] = (),
        deadline: float | None = None,
    ) -> Document:
        """The primary's reply to a command; it may carry `writeErrors`.

        `command` is `{<name>: ..., "$db": ...}` without concern, session or time bound; `documents` are those of an
        insert, each plain and encoded. `deadline` is in the loop's time, `CALL_SECONDS` from now without it.

        Raises:
            PyMongoError: The command failed, or no primary was found in time.
            BSONError, ValueError, OverflowError, RecursionError: It has a value that cannot be kept.
            SurprisingReply: The path does not understand the server; a read may be asked again by other means.
        """
        command["maxTimeMS"] = self.max_time_ms
        if repeat is not Repeat.READ:
            command["writeConcern"] = self._write_concern
        if repeat is not Repeat.WRITE:
            return await self._repeat(self._call(command, repeat, documents), deadline)
        if not self._replicated:
            return await self._repeat(self._call(command, Repeat.UNSENT, documents), deadline)
        session = self._sessions.take()
        command["lsid"] = session.lsid
        command["txnNumber"] = session.next_number()
        call = self._call(command, repeat, documents)
        reply = await self._repeat(call, deadline)
        if not call.disturbed:
            self._sessions.give(session)
        return reply

    def _call(self, command: dict[str, Any], repeat: Repeat, documents: Sequence[tuple[Document, bytes]]) -> _Call:
        if self._closed or os.getpid() != self._pid:
            raise AutoReconnect("the deployment is closed, or was opened before this process was forked")
        request_id = next(self._request_ids) & 0x7FFFFFFF
        message = op_msg.encode(request_id, command, [encoded for _, encoded in documents])
        if len(message) > _MAX_MESSAGE_BYTES:
            raise DocumentTooLarge(f"the command has {len(message)} bytes")
        # An insert may be of several tenants, who wait for each other: it is nobody's, and there are few at a time.
        holder = None if "insert" in command else claim(searches=repeat is not Repeat.WRITE)
        return _Call(command, repeat, documents, request_id, message, holder)

    async def _repeat(self, call: _Call, deadline: float | None) -> Document:
        # The pool bounds the wait for a reply: the plain case does without a timer of its own.
        plain = deadline is None
        exchange = self._exchange if meter.get() is None else self._metered
        deadline = self._loop.time() + CALL_SECONDS if deadline is None else deadline
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                pool = self._current_pool()
                connection = pool.take(call.holder) if pool is not None else None
                if connection is not None and plain and attempt == 1:
                    return await exchange(connection, call)
                async with asyncio.timeout_at(deadline):
                    return await exchange(connection or await self._checkout(call.holder), call)
            except TimeoutError as error:
                raise NetworkTimeout("the primary did not answer in time") from error
            except PyMongoError as error:
                if attempt == _ATTEMPTS or not _may_repeat(error, call.repeat):
                    raise
                call.disturbed = True
            await asyncio.sleep(_PAUSE_SECONDS * (attempt - 1))
        raise AssertionError("unreachable")

    async def _exchange(self, connection: Connection, call: _Call) -> Document:
        if self._events:
            return await self._observed(connection, call)
        try:
            message = await connection.exchange(call.message)
        except NotSent:
            raise
        except ConnectionFailure as error:
            await handover.report(self.client, connection.opened, error)
            raise
        reply = self._decoded(message, call)
        if reply.get("ok") and "writeConcernError" not in reply:
            return reply
        raise await self._failure(connection, reply)

    async def _metered(self, connection: Connection, call: _Call) -> Document:
        spent, began = meter.get(), self._loop.time()
        try:
            return await self._exchange(connection, call)
        finally:
            assert spent is not None
            spent.seconds += self._loop.time() - began

    async def _observed(self, connection: Connection, call: _Call) -> Document:
        opened = connection.opened
        command = (
            {**call.command, "documents": [plain for plain, _ in call.documents]} if call.documents else call.command
        )
        self._events.started(command, call.request_id, opened)
        start = self._loop.time()
        try:
            reply = self._decoded(await connection.exchange(call.message), call)
        except BaseException as error:
            lost: Document = {"errmsg": str(error), "errtype": type(error).__name__}
            self._events.ended(command, call.request_id, opened, self._loop.time() - start, lost, failed=True)
            if isinstance(error, ConnectionFailure) and not isinstance(error, NotSent):
                await handover.report(self.client, opened, error)
            raise
        self._events.ended(
            command, call.request_id, opened, self._loop.time() - start, reply, failed=not reply.get("ok")
        )
        if reply.get("ok") and "writeConcernError" not in reply:
            return reply
        raise await self._failure(connection, reply)

    def _decoded(self, message: bytes | bytearray, call: _Call) -> Document:
        try:
            return op_msg.decode(message, call.request_id)
        except op_msg.SurprisingReply as surprise:
            _log.error("the lean command path is given up, PyMongo takes over: %s", surprise)
            self.surprise = surprise
            raise

    async def _failure(self, connection: Connection, reply: Document) -> PyMongoError:
        unconfirmed = bool(reply.get("ok"))
        details = {**reply, **reply["writeConcernError"]} if unconfirmed else reply
        code, text = details.get("code"), details.get("errmsg", "")
        if code not in NOT_PRIMARY_CODES:
            return (WriteConcernError if unconfirmed else OperationFailure)(text, code, details)
        error = NotPrimaryError(text, details)
        await handover.report(self.client, connection.opened, error)
        return error

    def _current_pool(self) -> Pool | None:
        if self._closed:
            raise AutoReconnect("the deployment is closed")
        description = self.client.topology_description
        if description is not self._seen:
            self._follow(description)
        return self._pool

    def _follow(self, description: TopologyDescription) -> None:
        self._seen = description
        primary = next((s for s in description.server_descriptions().values() if s.server_type_name in _WRITABLE), None)
        if self._pool is not None and (primary is None or primary.address != self._pool.address):
            self._pool.retire()
            self._pool = None
        self._pools = {pool for pool in self._pools if not pool.drained}
        if primary is not None:
            self._shares.round_trip = primary.round_trip_time or 0.0
        if primary is not None and self._pool is None:
            self._replicated = primary.server_type_name != "Standalone"
            self._pool = Pool(
                primary.address,
                self._connect,
                size=self._pool_size,
                shares=self._shares,
                wait_seconds=self._pool_wait,
                reply_seconds=self.max_time_ms / 1000 + _REPLY_GRACE_SECONDS,
            )
            self._pools.add(self._pool)

    async def _checkout(self, holder: Claim | None) -> Connection:
        while True:
            pool = self._current_pool()
            try:
                if pool is not None:
                    return pool.take(holder) or await pool.wait(holder)
                # Selects the writable server, and has PyMongo look for it at once.
                await self.client.address
            except WaitQueueTimeoutError:
                raise
            except ServerSelectionTimeoutError:
                # With servers there but none elected it is worth the time that is left; with none at all it is not.
                if not self.client.topology_description.has_known_servers:
                    raise
            except ConnectionFailure:
                if self._closed:
                    raise
            if self._current_pool() is None:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _connect(self, address: Address) -> Opened:
        return await handover.open_connection(self.client, address)


@dataclass(slots=True)
class _Call:
    command: dict[str, Any]
    repeat: Repeat
    documents: Sequence[tuple[Document, bytes]]
    request_id: int
    message: bytes
    holder: Claim | None
    # Whether an attempt failed: the server may still be at work in its session.
    disturbed: bool = False


def _may_repeat(error: PyMongoError, repeat: Repeat) -> bool:
    if isinstance(error, NotSent):
        return True
    if repeat is Repeat.UNSENT or isinstance(error, (WaitQueueTimeoutError, ServerSelectionTimeoutError)):
        return False
    if isinstance(error, (NotPrimaryError, OperationFailure)):
        details = error.details if isinstance(error.details, Mapping) else {}
        if repeat is Repeat.WRITE:
            return "RetryableWriteError" in details.get("errorLabels", ())
        return details.get("code") in RETRYABLE_CODES
    return isinstance(error, ConnectionFailure)
