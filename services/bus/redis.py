"""The bus over Redis (the extra `redis`), for deployments that have one: less latency, and less work for MongoDB."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog

from hooks.errors import Unavailable
from services.bus.envelope import Envelope, Hear, unseal
from services.bus.outgoing import Outgoing, Sealed
from services.redis import connect
from services.tasks import end

log = structlog.get_logger()

HEARTBEAT = 5.0
"""Seconds of silence after which Redis is asked whether it is there; after as many again it is asked on a new connection."""
_SENDER = 32
"""Bytes before each event that name the node it comes from."""


class RedisBus:
    """Implements `services.bus.envelope.Bus`: one channel for all nodes of a database.

    Redis keeps nothing: a node that loses its connection misses what is sent meanwhile.
    """

    def __init__(self, url: str, *, database: str) -> None:
        """`url` is `redis://` or `rediss://`.

        Raises:
            NoRedis: the library is not installed, or the address is none.
        """
        self._client, self._failed = connect(url, socket_connect_timeout=3)
        self._channel = f"roost:{database}:events"
        self._node = uuid.uuid4().hex.encode()
        self._outgoing = Outgoing(self._send)
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self.missed = 0
        """How often the connection was lost, and events may have been missed."""

    @property
    def is_shared(self) -> bool:
        return True

    def post(self, envelope: Envelope) -> None:
        self._outgoing.add(envelope)

    async def start(self, hear: Hear) -> None:
        """As of any bus.

        Raises:
            Unavailable: Redis does not answer.
        """
        try:
            await self._client.ping()
        except self._failed as error:
            raise Unavailable("Redis does not answer") from error
        self._outgoing.start()
        self._task = asyncio.create_task(self._follow(hear), name="bus channel")
        async with asyncio.timeout(5):
            await self._listening.wait()

    async def stop(self) -> None:
        await self._outgoing.stop()
        if self._task is not None:
            await end(self._task)
        await self._client.aclose()

    async def _send(self, events: Sequence[Sealed]) -> None:
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for event in events:
                    pipe.publish(self._channel, self._node + event.body)
                await pipe.execute()
        except self._failed as error:
            raise Unavailable("Redis does not answer") from error

    async def _follow(self, hear: Hear) -> None:
        while True:
            try:
                async with self._client.pubsub() as channel:
                    await channel.subscribe(self._channel)
                    async for message in _messages(channel):
                        self._listening.set()
                        if message["type"] == "message" and message["data"][:_SENDER] != self._node:
                            await _tell(hear, message["data"][_SENDER:])
            except self._failed as error:
                self.missed += 1
                log.warning("bus: events of other nodes may have been missed", error=type(error).__name__)
            await asyncio.sleep(0.2)


async def _messages(channel: Any) -> AsyncIterator[Any]:
    """What comes over a connection.

    Raises:
        TimeoutError: nothing does, not even an answer: it leads nowhere any more, and nobody has said so.
    """
    clock = asyncio.get_running_loop().time
    heard = clock()
    while True:
        message = await channel.get_message(timeout=HEARTBEAT)
        if message is not None:
            heard = clock()
            yield message
        elif clock() - heard >= 1.9 * HEARTBEAT:
            raise TimeoutError("Redis is silent")
        else:
            await channel.ping()


async def _tell(hear: Hear, body: bytes) -> None:
    try:
        await hear(unseal(body))
    except Exception as error:
        # One event that cannot be delivered must not end the connection.
        log.error("bus: an event was not delivered", error=type(error).__name__)  # noqa: TRY400
