"""The only file that touches PyMongo's private names: connections that it opened, and errors that it must hear of.

PyMongo resolves, connects, encrypts and authenticates; then the transport is taken over. `pyproject.toml` pins the
minor version for which this holds, and `Runner.open` tries it before it is relied upon.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, ConnectionFailure, PyMongoError
from pymongo.topology_shared import _ErrorContext

from services.store import Document

Address = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection that is open and authenticated, and what the server said of itself."""

    transport: asyncio.Transport
    address: Address
    generation: int
    max_wire_version: int
    max_bson_size: int
    max_message_size: int
    server_connection_id: int | None

    def hand_over_to(self, protocol: asyncio.Protocol) -> None:
        """From now on `protocol` receives what the server sends."""
        self.transport.set_protocol(protocol)
        self.transport.resume_reading()


async def open_connection(client: AsyncMongoClient[Document], address: Address) -> Opened:
    """Lets PyMongo open one more connection to a server that it knows.

    Raises:
        PyMongoError: It cannot; PyMongo's picture of the deployment has learnt of it.
    """
    server = client._topology.get_server_by_address(address)
    if server is None:
        raise AutoReconnect("the server is no longer part of the deployment")
    generation = server.pool.gen.get_overall()
    try:
        connection = await server.pool.connect()
    except ConnectionFailure as error:
        await _tell(client, address, error, 0, generation, completed_handshake=False)
        raise
    server.pool.active_contexts.discard(connection.cancel_context)
    transport, _ = connection.conn.conn
    return Opened(
        transport=transport,
        address=address,
        generation=generation,
        max_wire_version=connection.max_wire_version,
        max_bson_size=connection.max_bson_size,
        max_message_size=connection.max_message_size,
        server_connection_id=connection.server_connection_id,
    )


def connections(client: AsyncMongoClient[Document]) -> int:
    """How many connections PyMongo's own pools have open, to all servers, besides those that watch these."""
    return sum(len(one.pool.conns) + one.pool.active_sockets for one in client._topology._servers.values())


async def report(client: AsyncMongoClient[Document], opened: Opened, error: PyMongoError) -> None:
    """Tells PyMongo of an error on a connection, so that it looks for the primary anew."""
    await _tell(client, opened.address, error, opened.max_wire_version, opened.generation, completed_handshake=True)


async def _tell(
    client: AsyncMongoClient[Document],
    address: Address,
    error: PyMongoError,
    max_wire_version: int,
    generation: int,
    *,
    completed_handshake: bool,
) -> None:
    context = _ErrorContext(error, max_wire_version, generation, completed_handshake, None)
    await client._topology.handle_error(address, context)
