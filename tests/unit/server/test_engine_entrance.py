"""The first bytes of a connection: plain websocket handshakes cost no request, and all else is aiohttp's as ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from server.engine import Options
from tests.support.echo_server import EchoServer, echo_server
from tests.support.raw_socket import KEY, RawSocket

HANDSHAKE = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
)


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    async with echo_server() as running:
        yield running


async def test_a_plain_handshake_makes_no_request_of_aiohttp(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        assert await raw.call("echo", 1) == [None, 1]
        assert requests(server) == 0
        assert open_connections(server) == 0


async def test_the_server_sees_the_same_by_either_way() -> None:
    seen = []
    for options, made in ((Options(), 0), (Options(allow_origin=lambda origin, request: True), 1)):
        async with echo_server(options) as server:
            path = "/socket.io/?EIO=4&transport=websocket&appId=acme"
            async with await RawSocket.open(server.port, path, User_Agent="a browser") as raw:
                await raw.receive()
                raw.send("40")
                await raw.receive()
                request = server.handlers.requests[-1]
                seen.append((request.query["appId"], request.headers["user-agent"], request.remote))
                assert requests(server) == made
    assert seen == [("acme", "a browser", "127.0.0.1")] * 2


@pytest.mark.parametrize("size", [1, 20, len(HANDSHAKE) - 1])
async def test_a_handshake_in_pieces_is_read_by_aiohttp(server: EchoServer, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HANDSHAKE[:size].encode())
    await until(lambda: len(listening(server).connections) == 1)
    writer.write(HANDSHAKE[size:].encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert (await reader.readexactly(3))[2:] == b"0"
    assert requests(server) == 1
    writer.close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("EIO=4", "EIO=3"), 400),
        (("EIO=4", "EIO=4&EIO=4"), 400),
        (("transport=websocket", "transport=other"), 400),
        (("EIO=4", "EIO=4&sid=unknown"), 400),
        (("EIO=4", "EIO=4&j=0"), 400),
        (("GET", "POST"), 400),
        (("/socket.io/", "/socket.io//"), 404),
        (("Version: 13", "Version: 12"), 426),
        (("Upgrade: websocket\r\n", "Upgrade: websocket\r\nUpgrade: websocket\r\n"), 400),
        (("Host: x", "Host"), 400),
        (("Host: x", "Content-Length: 1\r\nContent-Length: 2"), 400),
        (("Host: x", f"Host: {'x' * 10_000}"), 400),
    ],
)
async def test_what_is_refused_is_refused_by_aiohttp(server: EchoServer, change: tuple[str, str], status: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HANDSHAKE.replace(*change, 1).encode())
    assert (await reader.readline()).split()[1] == b"%d" % status
    assert server.engine.connections == 0
    writer.close()


async def test_frames_that_come_with_the_handshake_are_not_lost(server: EchoServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HANDSHAKE.encode() + b"\x82\x80\x00\x00\x00\x00")
    assert await reader.read() != b""
    assert requests(server) == 0
    writer.close()


async def test_a_connection_that_says_nothing_is_cut_and_makes_room() -> None:
    """C6, scaled: silence counts from the beginning, and takes a place as long as it lasts."""
    async with echo_server(Options(max_connections=1, handshake_timeout=0.3)) as server:
        silent, writer = await asyncio.open_connection("127.0.0.1", server.port)
        refused, other = await asyncio.open_connection("127.0.0.1", server.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await refused.readexactly(1)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(3):
                await silent.readexactly(1)
        assert open_connections(server) == 0
        async with await RawSocket.join(server.port) as raw:
            assert await raw.call("echo", 1) == [None, 1]
        writer.close()
        other.close()


async def test_a_silent_connection_does_not_hold_up_the_end() -> None:
    async with asyncio.timeout(5):
        async with echo_server() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await until(lambda: open_connections(server) == 1)
        assert await reader.read() == b""
        writer.close()


async def until(wanted: Callable[[], bool]) -> None:
    """Lets the server work until `wanted()` is true."""
    for _ in range(100_000):
        if wanted():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came about")


def listening(server: EchoServer) -> web.Server:
    made = server.listener.server
    assert isinstance(made, web.Server)
    return made


def requests(server: EchoServer) -> int:
    """How many requests aiohttp has made."""
    return listening(server).requests_count


def open_connections(server: EchoServer) -> int:
    """How many HTTP connections are counted."""
    count: int = vars(listening(server))["open"]
    return count
