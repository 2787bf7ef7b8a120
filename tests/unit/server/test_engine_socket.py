"""A socket over a websocket: handshake, calls, events, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import socketio

from server.engine import Frame, Gate, Options
from server.engine.library import Unsuitable, check
from tests.support.echo_server import EchoServer, echo_server
from tests.support.raw_socket import CLOSE, PING, PONG, Closed, RawSocket, Rejected, event, frame

QUICK = Options(ping_interval=0.5, ping_timeout=0.5, handshake_timeout=0.5)


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    async with echo_server() as running:
        yield running


@pytest.fixture
async def quick() -> AsyncIterator[EchoServer]:
    async with echo_server(QUICK) as running:
        yield running


async def test_the_handshake(server: EchoServer) -> None:
    async with await RawSocket.open(server.port) as raw:
        opening = json.loads((await raw.receive())[1:])
        sid = opening.pop("sid")
        assert opening == {"upgrades": [], "pingInterval": 25_000, "pingTimeout": 20_000, "maxPayload": 1_000_000}
        raw.send('40{"appId":"acme"}')
        accepted = json.loads((await raw.receive())[2:])
        assert accepted["sid"] in server.handlers.sockets
        assert accepted["sid"] != sid


async def test_a_client_of_the_reference_library(server: EchoServer) -> None:
    async with socketio.AsyncSimpleClient() as client:
        await client.connect(server.url, transports=["websocket"])
        assert await client.call("echo", ("text", {"a": [1, None, 2.5]})) == (None, "text", {"a": [1, None, 2.5]})
        await client.emit("shout", {"n": 1})
        assert await client.receive(timeout=5) == ["news", {"n": 1}]
    await server.handlers.until(lambda: server.handlers.left)
    assert server.engine.connections == 0


async def test_a_refused_client_learns_why_and_is_closed_a_moment_later(server: EchoServer) -> None:
    async with await RawSocket.open(server.port) as raw:
        await raw.receive()
        raw.send('40{"refuse":true}')
        assert json.loads((await raw.receive())[2:]) == {"message": "No entry", "data": {"code": 403}}
        assert await raw.closing() == 1000
    assert server.handlers.left == []


async def test_a_fault_in_the_handshake_refuses_without_details(server: EchoServer) -> None:
    async with await RawSocket.open(server.port) as raw:
        await raw.receive()
        raw.send('40{"break":true}')
        assert json.loads((await raw.receive())[2:]) == {"message": "Something went wrong on the server."}


async def test_a_handshake_that_is_not_decided_in_time_is_refused(quick: EchoServer) -> None:
    async with await RawSocket.open(quick.port) as raw:
        await raw.receive()
        raw.send('40{"wait":true}')
        assert "took too long" in await raw.receive()
        assert await raw.closing() == 1000


async def test_a_client_that_never_says_connect_is_closed(quick: EchoServer) -> None:
    async with await RawSocket.open(quick.port) as raw:
        assert await raw.closing(3) == 1008
    assert quick.engine.connections == 0


async def test_a_client_that_leaves_while_it_is_being_asked_for_is_told_to_the_handlers(server: EchoServer) -> None:
    async with await RawSocket.open(server.port) as raw:
        await raw.receive()
        raw.send('40{"wait":true}')
        await server.handlers.until(lambda: server.handlers.sockets)
    server.handlers.release.set()
    await server.handlers.until(lambda: server.handlers.left)
    assert server.engine.connections == 0


async def test_a_socket_that_is_closed_while_it_is_being_asked_for_is_not_accepted(server: EchoServer) -> None:
    async with await RawSocket.open(server.port) as raw:
        await raw.receive()
        raw.send('40{"wait":true}')
        await server.handlers.until(lambda: server.handlers.sockets)
        (socket,) = server.handlers.sockets.values()
        await socket.close()
        server.handlers.release.set()
        await server.handlers.until(lambda: server.handlers.left)
        assert await raw.closing() == 1001
        socket.write(Frame("news", 1))


async def test_answers(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        assert await raw.call("echo", 1, "\u00e9") == [None, 1, "\u00e9"]
        assert (await raw.call("fail"))[0]["code"] == 500
        assert (await raw.call("unspeakable"))[0]["code"] == 500
        assert "not valid JSON" in json.loads((await say(raw, '4299["find",'))[4:])[0]["message"]
        assert await raw.call("echo", "x" * 900_000) == [None, "x" * 900_000]


async def test_a_call_without_an_ack_is_carried_out_and_not_answered(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        raw.send(event("fail"))
        raw.send(event("echo", 1))
        assert await raw.call("echo", 2) == [None, 2]
        assert [name for name, _ in server.handlers.calls] == ["fail", "echo", "echo"]


async def test_names_that_clients_keep_to_themselves_are_calls_like_others(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        for name in ("connect", "connect_error", "disconnect", "newListener", "__proto__", "x" * 100_000):
            assert await raw.call(name, 1) == [None, 1]


async def test_one_ack_id_may_be_used_twice(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        raw.send(event("echo", 1, ack=7))
        raw.send(event("echo", 2, ack=7))
        assert [await raw.receive(), await raw.receive()] == ["437[null,1]", "437[null,2]"]


async def test_an_event_reaches_the_accepted_in_order(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        for number in range(300):
            server.handlers.shout(Frame("news", number))
        assert [await raw.receive() for _ in range(300)] == [f'42["news",{number}]' for number in range(300)]


async def test_nothing_reaches_a_socket_that_is_not_accepted(server: EchoServer) -> None:
    """P12, M1: 1,000 events while one handshake is pending and another is being refused."""
    async with await RawSocket.open(server.port) as pending, await RawSocket.open(server.port) as refused:
        for raw, wish in ((pending, '40{"wait":true}'), (refused, '40{"wait":true,"refuse":true}')):
            await raw.receive()
            raw.send(wish)
        await server.handlers.until(lambda: len(server.handlers.sockets) == 2)
        for number in range(1000):
            server.handlers.shout(Frame("news", number))
        server.handlers.release.set()
        assert (await pending.receive()).startswith("40{")
        assert (await refused.receive()).startswith("44{")
        assert await pending.call("echo") == [None]
        with pytest.raises(Closed):
            await refused.receive()


async def test_closing_sends_the_client_away_so_that_it_comes_back(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        await server.handlers.sockets[raw.sid].close()
        assert await raw.closing() == 1001
    assert server.handlers.left == ["server disconnect"]


async def test_a_client_that_is_dismissed_hears_what_was_sent_before_and_is_told_to_stay_away(
    server: EchoServer,
) -> None:
    """TENANCY 10.4/17: `41` is a disconnect by the server, after which clients do not come back by themselves."""
    async with await RawSocket.join(server.port) as raw:
        socket = server.handlers.sockets[raw.sid]
        socket.write(Frame("tenant:unavailable", {"state": "deleting"}))
        socket.dismiss()
        assert await raw.receive() == '42["tenant:unavailable",{"state":"deleting"}]'
        assert await raw.receive() == "41"
        assert await raw.closing() == 1001
    assert server.handlers.left == ["server disconnect"]


@pytest.mark.parametrize(
    ("last", "reason"),
    [("41", "client namespace disconnect"), ("1", "client disconnect"), (None, "transport close")],
)
async def test_reasons(server: EchoServer, last: str | None, reason: str) -> None:
    async with await RawSocket.join(server.port) as raw:
        if last is None:
            raw.send_raw(frame(b"\x03\xe8", CLOSE))
        else:
            raw.send(last)
        assert await raw.closing() == 1000
    await server.handlers.until(lambda: server.handlers.left)
    assert server.handlers.left == [reason]


async def test_a_silent_client_is_closed_and_a_living_one_is_not(quick: EchoServer) -> None:
    async with await RawSocket.join(quick.port) as silent, await RawSocket.join(quick.port) as living:
        beats = asyncio.create_task(living.closing(10))
        await quick.handlers.until(lambda: quick.handlers.left)
        assert quick.handlers.left == ["ping timeout"]
        assert silent.sid not in quick.handlers.sockets
        assert living.sid in quick.handlers.sockets
        beats.cancel()
        await asyncio.gather(beats, return_exceptions=True)


async def test_a_client_that_is_read_again_has_the_whole_time_for_its_pong(quick: EchoServer) -> None:
    async with await RawSocket.join(quick.port) as raw:
        socket = quick.handlers.sockets[raw.sid]
        socket.hold()
        await asyncio.sleep(1.5)
        assert socket.open
        socket.release()
        assert socket.review(asyncio.get_running_loop().time()) > 0
        assert socket.open


async def test_a_websocket_ping_is_answered(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        raw.send_raw(frame(b"are you there", PING))
        assert await raw.receive_frame() == (PONG, b"are you there")


async def test_packets_that_come_in_one_segment_with_the_upgrade_are_not_lost(server: EchoServer) -> None:
    head = (
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, "
        "Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head.encode() + frame("40"))
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in await reader.readuntil(b"\r\n\r\n")
    async with RawSocket(reader, writer) as raw:
        assert (await raw.receive()).startswith("0{")
        assert (await raw.receive()).startswith("40{")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Connection": "close"}, 400),
        ({"Upgrade": "h2c"}, 400),
    ],
)
async def test_a_bad_upgrade_is_refused(server: EchoServer, headers: dict[str, str], status: int) -> None:
    with pytest.raises(Rejected, match=f"{status}"):
        await RawSocket.open(server.port, **headers)
    assert server.engine.connections == 0


async def test_compression_is_not_agreed_to(server: EchoServer) -> None:
    async with await RawSocket.join(server.port, Sec_WebSocket_Extensions="permessage-deflate") as raw:
        assert await raw.call("echo", "plain") == [None, "plain"]


async def test_sockets_are_bounded() -> None:
    async with echo_server(Options(max_connections=1)) as server, await RawSocket.join(server.port):
        with pytest.raises(Rejected, match="503"):
            await RawSocket.open(server.port)


async def test_origins_are_asked_for() -> None:
    options = Options(allow_origin=lambda origin, request: origin == f"http://{request.query.get('appId')}")
    path = "/socket.io/?EIO=4&transport=websocket&appId=acme"
    async with echo_server(options) as server:
        async with await RawSocket.open(server.port, path, Origin="http://acme") as raw:
            assert await raw.receive()
        with pytest.raises(Rejected, match="400"):
            await RawSocket.open(server.port, path, Origin="http://evil")


async def test_calls_of_a_gate_take_turns() -> None:
    async with echo_server() as server:
        server.handlers.gate = Gate(2)
        async with await RawSocket.join(server.port) as one, await RawSocket.join(server.port) as other:
            for raw in (one, other):
                for number in range(20):
                    raw.send(event("wait", number, ack=number))
            await server.handlers.until(lambda: server.handlers.running == 2)
            # The second client gets a turn although the first one has been waiting with twenty calls.
            server.handlers.release.set()
            answers = await asyncio.gather(*(read_answers(raw, 20) for raw in (one, other)))
            assert [len(found) for found in answers] == [20, 20]
            assert server.handlers.most == 2
            order = [arguments[0] for _, arguments in server.handlers.calls]
            assert order.index(5, order.index(5) + 1) < 16
            assert server.handlers.gate.running == 0


async def test_draining_answers_what_runs_and_closes_everyone() -> None:
    async with echo_server() as server:
        busy, idle = await RawSocket.join(server.port), await RawSocket.join(server.port)
        async with busy, idle:
            for number in range(50):
                busy.send(event("wait", ack=number))
            await server.handlers.until(lambda: server.handlers.running == 32)
            await server.listener.stop_accepting()
            draining = asyncio.create_task(server.engine.drain(5))
            assert await idle.closing() == 1001
            assert not draining.done()
            server.handlers.release.set()
            assert len(await read_answers(busy, 50)) == 50
            assert await busy.closing() == 1001
            assert await draining
            with pytest.raises(ConnectionError):
                await RawSocket.open(server.port)
    assert server.handlers.left == ["server shutting down"] * 2


async def test_draining_gives_up_in_time(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        raw.send(event("wait", ack=1))
        await server.handlers.until(lambda: server.handlers.running == 1)
        assert not await server.engine.drain(0.2)
        with pytest.raises(Rejected, match="503"):
            await RawSocket.open(server.port)


def test_the_engine_knows_the_libraries_it_was_written_for(monkeypatch: pytest.MonkeyPatch) -> None:
    check()
    monkeypatch.setattr("server.engine.library.VERSIONS", {"aiohttp": "2."})
    monkeypatch.setattr("server.engine.library.NAMES", ("aiohttp.web:AppRunner._make_servers",))
    with pytest.raises(
        Unsuitable, match=r"aiohttp 3.* is installed, 2.x is needed; aiohttp.web:AppRunner._make_servers"
    ):
        check()


async def say(raw: RawSocket, packet: str) -> str:
    raw.send(packet)
    return await raw.receive()


async def read_answers(raw: RawSocket, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        packet = await raw.receive()
        if packet.startswith("43"):
            found.append(packet)
    return found
