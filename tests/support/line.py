"""A way to a server that a test can cut, hold or slow down, as hosts that are gone and firewalls that forget do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Line:
    """Carries connections to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ways: list[asyncio.Task[None]] = []
        self._answers: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.made = 0
        """Connections, so far."""
        self.delay = 0.0
        """Seconds that whatever is sent takes to arrive."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes a connection on."""
        self.made += 1
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, up_writer]
        self._ways.append(asyncio.create_task(self._carry(reader, up_writer)))
        self._answers.append(asyncio.create_task(self._carry(up_reader, writer)))

    def cut(self) -> None:
        """The connections that are there stay open and carry nothing any more; new ones work."""
        for way in self._ways:
            way.cancel()
        self.mute()

    def mute(self) -> None:
        """As `cut`, but what is sent to the server still arrives there."""
        for answer in self._answers:
            answer.cancel()

    def hold(self) -> None:
        """Nothing arrives, on old connections or new ones, until `release`."""
        self._flowing.clear()

    def release(self) -> None:
        """What was held arrives."""
        self._flowing.set()

    def close(self) -> None:
        """Ends everything."""
        self.cut()
        for writer in self._writers:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self.delay)
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def line(port: int) -> AsyncIterator[tuple[Line, str]]:
    """A line, and the host and port by which it is reached."""
    made = Line(port)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        yield made, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        made.close()
