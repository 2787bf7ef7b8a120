"""An engine with small handlers and no database: in this process, or as a process of its own whose memory can be read."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
from aiohttp import web

from server.engine import Engine, Frame, Gate, Listener, Options, Refused, Request, Socket

WAIT = "wait"


class EchoHandlers:
    """Answers calls by their name, and remembers what happened."""

    def __init__(self, *, remember: bool = True) -> None:
        self.remember = remember
        self.sockets: dict[str, Socket] = {}
        self.requests: list[Request] = []
        self.left: list[str] = []
        self.calls: list[tuple[str, Sequence[Any]]] = []
        self.running = 0
        self.most = 0
        self.release = asyncio.Event()
        """Ends the calls named `wait`, and the handshakes that ask to wait."""
        self.changed = asyncio.Condition()
        self.gate: Gate | None = None
        self._telling: set[asyncio.Future[None]] = set()

    async def connect(self, socket: Socket, request: Request, auth: Any) -> None:
        wish = auth if isinstance(auth, dict) else {}
        if self.remember:
            self.requests.append(request)
        # Joined before it is accepted: whatever is sent now must not arrive.
        self.sockets[socket.id] = socket
        await self._tell()
        if wish.get("wait"):
            await self.release.wait()
        if wish.get("refuse"):
            del self.sockets[socket.id]
            raise Refused("No entry", {"code": 403})
        if wish.get("break"):
            raise RuntimeError("a fault of the handlers")
        socket.gate = self.gate
        socket.connection = request.query.get("appId")

    async def call(self, socket: Socket, name: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
        if self.remember:
            self.calls.append((name, arguments))
        self.running += 1
        self.most = max(self.most, self.running)
        await self._tell()
        try:
            return await self._answer(socket, name, arguments)
        finally:
            self.running -= 1

    def disconnect(self, socket: Socket, reason: str) -> None:
        self.sockets.pop(socket.id, None)
        self.left.append(reason)
        telling = asyncio.ensure_future(self._tell())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    def shout(self, frame: Frame) -> None:
        """Sends an event to every socket that is known, accepted or not."""
        for socket in self.sockets.values():
            socket.write(frame)

    async def until(self, wanted: Any, seconds: float = 5.0) -> None:
        """Waits until `wanted()` is true."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(wanted)

    async def _answer(self, socket: Socket, name: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
        match name:
            case "wait":
                await self.release.wait()
            case "fail":
                raise RuntimeError("a fault of the handlers")
            case "unspeakable":
                return None, object()
            case "yield":
                await asyncio.sleep(0)
            case "long":
                return None, "x" * arguments[0]
            case "shout":
                self.shout(Frame("news", arguments[0]))
                return None, len(self.sockets)
            case "close me":
                await socket.close()
            case "most":
                return None, self.most
            case "left":
                return None, self.left
        return None, *arguments

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


@dataclass(frozen=True, slots=True)
class EchoServer:
    """A running engine of this process."""

    port: int
    engine: Engine
    handlers: EchoHandlers
    listener: Listener

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def echo_server(options: Options | None = None, *, remember: bool = True) -> AsyncIterator[EchoServer]:
    """An engine on a free port, whose handlers remember the calls."""
    handlers = EchoHandlers(remember=remember)
    engine = Engine(handlers, options)
    app = web.Application()
    engine.attach(app)
    listener = Listener(app, options)
    await listener.setup()
    site = web.TCPSite(listener, "127.0.0.1", 0, backlog=1024)
    await site.start()
    try:
        yield EchoServer(site.port, engine, handlers, listener)
    finally:
        handlers.release.set()
        await engine.close()
        await listener.cleanup()


@dataclass(frozen=True, slots=True)
class EchoProcess:
    """A running engine of another process."""

    port: int
    process: psutil.Process

    @property
    def rss(self) -> float:
        """Its memory in MiB."""
        return float(self.process.memory_info().rss) / 2**20

    @property
    def cpu(self) -> float:
        """The seconds that it has worked."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def echo_process() -> Iterator[EchoProcess]:
    """An engine on a free port and on uvloop, as in production."""
    command = [sys.executable, "-m", "tests.support.echo_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield EchoProcess(int(process.stdout.readline()), psutil.Process(process.pid))
        finally:
            process.terminate()


async def _main() -> None:
    async with echo_server(remember=False) as server:
        server.handlers.release.set()
        print(server.port, flush=True)  # noqa: T201 - the parent reads it
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    uvloop.run(_main())
