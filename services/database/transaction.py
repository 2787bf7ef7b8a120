"""Transactions: what a piece of work reads and writes takes effect as a whole, or not at all.

The session travels in a context variable: collections find it there, so that services need not know whether they are called
inside of a transaction. Tasks that the work starts would share it: it must not start any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from hooks.errors import FeathersError
from services.database.faults import DRIVER_ERRORS, from_driver
from services.store import Document

_T = TypeVar("_T")

LONGEST = 5.0
"""Seconds for which work that lost against other transactions is tried again."""
_TRANSIENT = "TransientTransactionError"
_UNKNOWN = "UnknownTransactionCommitResult"

_current: ContextVar[AsyncClientSession | None] = ContextVar("roost_transaction", default=None)


def current_session(client: AsyncMongoClient[Document]) -> AsyncClientSession | None:
    """The session of the transaction that goes on, for commands of its client; those of others are not in it."""
    session = _current.get()
    return session if session is not None and session.client is client else None


async def run(client: AsyncMongoClient[Document], work: Callable[[], Awaitable[_T]]) -> _T:
    """Does the work in one transaction. Inside of another one it becomes a part of that.

    It may be done several times, until one is not disturbed: all its effects have to be in the database.

    Raises:
        FeathersError: What the work raises, after which nothing of it is kept; or the database does not take it.
    """
    if current_session(client) is not None:
        return await work()
    clock = asyncio.get_running_loop().time
    deadline = clock() + LONGEST
    try:
        async with client.start_session() as session:
            while True:
                try:
                    return await _attempt(session, work, deadline)
                except (FeathersError, PyMongoError) as error:
                    if not _has_label(error, _TRANSIENT) or clock() > deadline:
                        raise
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error


async def _attempt(session: AsyncClientSession, work: Callable[[], Awaitable[_T]], deadline: float) -> _T:
    async with await session.start_transaction():
        token = _current.set(session)
        try:
            outcome = await work()
        finally:
            _current.reset(token)
        while True:
            try:
                await session.commit_transaction()
            except PyMongoError as error:
                if not error.has_error_label(_UNKNOWN) or asyncio.get_running_loop().time() > deadline:
                    raise
            else:
                return outcome


def _has_label(error: BaseException, label: str) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PyMongoError) and cause.has_error_label(label):
            return True
        cause = cause.__cause__
    return False
