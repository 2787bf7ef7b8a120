"""The bus over Redis (the extra `redis`), for deployments that have one: less latency, and less work for MongoDB."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
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
ANSWER = 5.0
"""Seconds that an answer to what is sent may take; then it is sent again on a new connection."""
NODES = 1_000
"""Nodes of which it is known what was heard of them last; those beyond it have ended long ago."""
_SENDER = 32
"""Bytes before each event that name the node it comes from; after them comes its number."""
_NUMBER = 8


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
        self._sending, _ = connect(url, socket_connect_timeout=3, socket_timeout=ANSWER, retry=None)
        self._channel = f"roost:{database}:events"
        self._node = uuid.uuid4().hex.encode()
        self._outgoing = Outgoing(self._send)
        self._heard: OrderedDict[bytes, int] = OrderedDict()
        """The number of the last event of each other node."""
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
            await self._sending.ping()
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
        await self._sending.aclose()
        await self._client.aclose()

    async def _send(self, events: Sequence[Sealed]) -> None:
        try:
            async with self._sending.pipeline(transaction=False) as pipe:
                for event in events:
                    pipe.publish(self._channel, self._node + event.number.to_bytes(_NUMBER) + event.body)
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
                        if message["type"] == "message" and self._is_new(message["data"]):
                            await _tell(hear, message["data"][_SENDER + _NUMBER :])
            except self._failed as error:
                self.missed += 1
                log.warning("bus: events of other nodes may have been missed", error=type(error).__name__)
            await asyncio.sleep(0.2)

    def _is_new(self, data: bytes) -> bool:
        """Whether an event is another node's, and was not heard yet: what has arrived unanswered is sent again."""
        sender, number = data[:_SENDER], int.from_bytes(data[_SENDER : _SENDER + _NUMBER])
        if sender == self._node or number <= self._heard.get(sender, 0):
            return False
        self._heard[sender] = number
        self._heard.move_to_end(sender)
        if len(self._heard) > NODES:
            self._heard.popitem(last=False)
        return True


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
