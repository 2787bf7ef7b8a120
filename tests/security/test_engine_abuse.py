"""What an anonymous client can do to the engine: its own connection may die, nothing else may notice.

The identifiers are those of the list of limits: M are measured facts, P protocol abuse, C connections.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from server.engine import Frame, Options
from tests.support.echo_server import EchoProcess, EchoServer, echo_process, echo_server
from tests.support.raw_socket import BINARY, PING, TEXT, Closed, RawSocket, event, frame

PLACEHOLDER = '["echo",{"_placeholder":true,"num":0}]'


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    async with echo_server() as running:
        yield running


@pytest.fixture
def process() -> Iterator[EchoProcess]:
    with echo_process() as running:
        yield running


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(f"4511-1{PLACEHOLDER}"), 1008, id="P1 eleven attachments"),
        pytest.param(frame(f"451000000000-1{PLACEHOLDER}"), 1008, id="P1 a billion attachments"),
        pytest.param(frame(f"45999999999999-1{PLACEHOLDER}"), 1008, id="P1 more than the library reads"),
        pytest.param(frame(f"452-1{PLACEHOLDER}") + frame(event("echo")), 1008, id="P1 a text among attachments"),
        pytest.param(frame(f"451-1{PLACEHOLDER}") + frame(b"a", BINARY) * 2, 1008, id="P1 one attachment too many"),
        pytest.param(frame(b"a", BINARY), 1008, id="P1 an attachment of nothing"),
        pytest.param(frame("4" + "x" * 1_000_000), 1009, id="P2 a message of 1 MB and one byte"),
        pytest.param(b"\xc1" + frame(b"x" * 100)[1:], 1002, id="P2 a compressed message"),
        pytest.param(frame("42" + "[" * 200_000), 1008, id="P3 deep nesting"),
        pytest.param(frame('42[{"a":1}]'), 1008, id="P6 an object as a name"),
        pytest.param(frame("42[]"), 1008, id="P7 no name"),
        pytest.param(frame("40"), 1008, id="P9 a second CONNECT"),
        pytest.param(frame("40/x") * 11, 1008, id="P9 many namespaces"),
        pytest.param(frame('42/x,["echo"]'), 1008, id="P9 an event to another namespace"),
        pytest.param(frame("44{}"), 1008, id="a packet of servers"),
        pytest.param(frame("49"), 1008, id="an unknown Socket.IO packet"),
        pytest.param(frame("x"), 1008, id="M6 an unknown Engine.IO packet"),
        pytest.param(frame(""), 1008, id="an empty packet"),
        pytest.param(frame("5"), 1008, id="an upgrade of a websocket"),
        pytest.param(frame(b'42["\xff"]'), 1008, id="P11 invalid UTF-8"),
        pytest.param(frame("echo", mask=None), 1002, id="a frame without a mask"),
        pytest.param(frame(b"x" * 126, PING), 1002, id="a ping that is too long"),
    ],
)
async def test_a_bad_packet_costs_its_connection_and_no_other(server: EchoServer, data: bytes, code: int) -> None:
    async with await RawSocket.join(server.port) as bystander, await RawSocket.join(server.port) as raw:
        raw.send_raw(data)
        assert await raw.closing() == code
        assert await bystander.call("echo", 1) == [None, 1]
    assert server.handlers.left[0] == "bad packet"
    assert [name for name, _ in server.handlers.calls] == ["echo"]


@pytest.mark.parametrize("packet", [event("echo", ack=1), "431[]", f"451-1{PLACEHOLDER}", "41", "461-1[]"])
async def test_nothing_is_taken_before_connect(server: EchoServer, packet: str) -> None:
    async with await RawSocket.open(server.port) as raw:
        raw.send(packet)
        assert await raw.closing() == 1008
    assert server.handlers.calls == []


async def test_what_is_sent_before_the_acceptance_waits_for_it(server: EchoServer) -> None:
    async with await RawSocket.open(server.port) as raw:
        raw.send('40{"wait":true}')
        raw.send(event("echo", 1, ack=1))
        await server.handlers.until(lambda: server.handlers.sockets)
        assert server.handlers.calls == []
        server.handlers.release.set()
        received = [await raw.receive() for _ in range(3)]
        assert received[1].startswith("40{")
        assert received[2] == "431[null,1]"


async def test_what_may_be_ignored_is_ignored(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        for packet in ("431[1]", "43", "6", "3", "3garbage", "40/x"):
            raw.send(packet)
        raw.send_raw(frame("461-7[]") + frame(b"x", BINARY))
        assert await raw.call("echo", 1) == [None, 1]
        deep = "[" * 900 + "]" * 900
        assert await say(raw, f'4277["most",{deep}]') == "4377[null,1]"


async def test_an_announced_attachment_is_read_past_and_the_call_is_refused(server: EchoServer) -> None:
    async with await RawSocket.join(server.port) as raw:
        for placeholder in (
            '{"_placeholder":true,"num":0}',
            '{"_placeholder":true,"num":-1}',
            '{"_placeholder":true,"num":"x"}',
        ):
            answer = await say(raw, f'451-7["echo",{placeholder}]')
            assert "Binary values are not supported" in answer
            raw.send_raw(frame(b"\x00" * 1000, BINARY))
        assert "Binary values" in await say(raw, f"450-8{PLACEHOLDER}")
        assert await raw.call("echo", 1) == [None, 1]
    assert [name for name, _ in server.handlers.calls] == ["echo"]


async def test_attachments_are_never_kept(process: EchoProcess) -> None:
    """M2: 9 MB are announced and sent, one by one dropped; what follows unannounced costs the connection."""
    async with await RawSocket.join(process.port) as raw:
        before = process.rss
        assert "Binary values" in await say(raw, f"4510-1{PLACEHOLDER}")
        for _ in range(10):
            raw.send_raw(frame(bytes(900_000), BINARY))
        assert await raw.call("echo", 1) == [None, 1]
        assert process.rss - before < 6
        for _ in range(150):
            raw.send_raw(frame(bytes(900_000), BINARY))
        assert await raw.closing() in (1008, None)
        assert process.rss - before < 6


async def test_bad_packets_write_one_line_a_second(server: EchoServer, caplog: pytest.LogCaptureFixture) -> None:
    """M6: neither our lines nor the libraries' can be used to fill a disk."""
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG):
        for garbage in (b"x", b"42[", b"\xff\xff"):
            for _ in range(40):
                async with await RawSocket.join(server.port) as raw:
                    raw.send_raw(frame(garbage))
                    await raw.closing()
        for _ in range(40):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/9.9\r\nBroken\r\n\r\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()
    lines = [record for record in caplog.records if record.name != "asyncio"]
    assert len(lines) <= 4 * (1 + int(time.monotonic() - began))


async def test_a_thousand_broken_connections_leave_a_server_that_answers(server: EchoServer) -> None:
    """P10: mutated frames. None raises anything that is not expected: the log has no traceback."""
    chance = random.Random(7)
    corpus = [event("echo", {"a": [1, 2]}, ack=3), "40", "41", f"451-7{PLACEHOLDER}", "3", "2probe", "431[]", "40/x,{}"]
    async with await RawSocket.join(server.port) as bystander:
        for number in range(300):
            raw = await RawSocket.open(server.port)
            async with raw:
                if chance.random() < 0.8:
                    raw.send("40")
                for _ in range(8):
                    data = bytearray(frame(chance.choice(corpus), chance.choice([TEXT, TEXT, TEXT, BINARY, 0, PING])))
                    for _ in range(chance.choice([0, 1, 1, 3])):
                        data[chance.randrange(len(data))] = chance.randrange(256)
                    raw.send_raw(bytes(data))
                with suppress(ConnectionError):
                    await raw.flush()
            if number % 50 == 0:
                assert await bystander.call("echo", number) == [None, number]
    async with asyncio.timeout(5):
        await server.handlers.until(lambda: not server.handlers.sockets)


async def test_a_frame_in_single_bytes_is_read_at_a_bounded_cost(process: EchoProcess) -> None:
    """C7: 64 KiB in reads of one byte each."""
    async with await RawSocket.join(process.port) as raw:
        before = process.cpu
        data = frame(event("echo", "x" * 65_536, ack=1))
        sock = raw.socket
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            raw.send_raw(data[at : at + 1])
            if at % 64 == 0:
                await raw.flush()
                await asyncio.sleep(0)
        assert len(await raw.receive()) > 65_536
        assert process.cpu - before < 3


async def test_twenty_thousand_calls_at_once(process: EchoProcess) -> None:
    """P8, M4: 32 run, the rest waits in the client; every call is answered, in the order in which they were sent."""
    count = 20_000
    async with await RawSocket.join(process.port) as warm:
        await fire(warm, 2000)
    before = process.rss
    async with await RawSocket.join(process.port) as raw, await RawSocket.join(process.port) as bystander:
        firing = asyncio.create_task(fire(raw, count))
        peak, delays = before, []
        while not firing.done():
            began = time.perf_counter()
            await bystander.call("echo")
            delays.append(time.perf_counter() - began)
            peak = max(peak, process.rss)
        answers = await firing
        assert answers == [f"43{number}[null,{number}]" for number in range(count)]
        assert (await raw.call("most"))[1] <= 32 + 1
        assert peak - before <= 16
        assert sorted(delays)[len(delays) // 2] < 0.1


async def test_a_hundred_calls_at_once_are_served_by_a_small_server() -> None:
    async with (
        echo_server(Options(running_calls=4, waiting_calls=10)) as server,
        await RawSocket.join(server.port) as raw,
    ):
        answers = await fire(raw, 100)
        assert answers == [f"43{number}[null,{number}]" for number in range(100)]
        assert server.handlers.most == 4


async def test_a_client_is_not_timed_out_because_it_is_not_read() -> None:
    options = Options(running_calls=1, waiting_calls=1, ping_interval=0.3, ping_timeout=0.3)
    async with echo_server(options) as server, await RawSocket.join(server.port) as raw:
        for number in range(4):
            raw.send(event("wait", ack=number))
        reading = asyncio.create_task(collect(raw, 4))
        await asyncio.sleep(1.5)
        assert server.handlers.left == []
        server.handlers.release.set()
        assert len(await reading) == 4


async def test_a_client_that_does_not_read_is_cut(process: EchoProcess) -> None:
    """C4, M3: 60 MB are offered to a client that sends PONGs and reads nothing; a reader beside it loses nothing."""
    async with await RawSocket.join(process.port) as speaker, await RawSocket.join(process.port) as reader:
        counting = asyncio.create_task(count_events(reader, 1200))
        for _ in range(100):
            await speaker.call("shout", "x" * 50_000)
        before = process.rss
        sock = await join_deaf(process.port)
        began, cut, peak = time.monotonic(), 0.0, before
        for number in range(1100):
            await speaker.call("shout", "x" * 50_000)
            peak = max(peak, process.rss)
            if not cut and number % 20 == 0:
                with suppress(BlockingIOError):
                    try:
                        sock.send(frame("3"))
                    except ConnectionError:
                        cut = time.monotonic()
        assert cut
        assert cut - began < 5
        assert peak - before < 12
        assert "slow consumer" in (await speaker.call("left"))[1]
        assert await counting == 1200
        sock.close()


@pytest.mark.parametrize("packets", [1, 12])
async def test_a_client_that_makes_no_headway_is_cut_without_being_sent_more(packets: int) -> None:
    """Past the bound within `slow_after`; below it, with some bytes waiting for ever, within the time of a ping."""
    options = Options(outgoing_bytes=400_000, slow_after=0.3, ping_timeout=0.6, ping_interval=0.6)
    async with echo_server(options) as server:
        sock = await join_deaf(server.port)
        (deaf,) = server.handlers.sockets.values()
        big = Frame("news", "x" * 50_000)
        while not deaf.carrier.stalled:
            deaf.write(big)
            await asyncio.sleep(0)
        for _ in range(packets):
            deaf.write(big)
        async with asyncio.timeout(5):
            while not server.handlers.left:
                sock.send(frame("3"))
                await asyncio.sleep(0.05)
        assert server.handlers.left == ["slow consumer"]
        sock.close()


async def test_answers_wait_for_a_client_that_reads_late(process: EchoProcess) -> None:
    """A client may ask for much more than the bound and read it in its own time; only 32 answers exist meanwhile."""
    async with await RawSocket.join(process.port) as raw:
        before = process.rss
        for number in range(100):
            raw.send(event("long", 900_000, ack=number))
        await raw.flush()
        await asyncio.sleep(1)
        assert process.rss - before < 60
        for number in range(100):
            assert (await raw.receive(10)).startswith(f'43{number}[null,"xxx')


async def test_events_to_a_slow_but_moving_client_are_not_lost() -> None:
    """Past the bound a client that reads is left alone, as long as it makes headway."""
    options = Options(outgoing_bytes=300_000, slow_after=0.3, slow_rate=1000)
    async with echo_server(options) as server, await RawSocket.join(server.port) as raw:
        (slow,) = server.handlers.sockets.values()
        frames = 0
        big = Frame("news", "x" * 50_000)
        # Fill what the kernel takes, then go past the bound once.
        while not slow.carrier.stalled:
            server.handlers.shout(big)
            frames += 1
            await asyncio.sleep(0)
        for _ in range(7):
            server.handlers.shout(big)
            frames += 1
        assert server.handlers.left == []
        for _ in range(frames):
            await raw.receive(10)
        assert server.handlers.left == []


async def test_a_slow_header_and_a_slow_body_are_cut() -> None:
    """C6, scaled: the header within the handshake's time, the body within the message's."""
    async with echo_server(Options(handshake_timeout=0.4, message_timeout=0.4)) as server:
        head = (
            f"POST /socket.io/?EIO=4 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 50\r\n\r\n".encode()
        )
        began = time.monotonic()
        await asyncio.gather(*(dribble(server.port, b"", b"GET / HTTP/1.1\r\nHost: x") for _ in range(20)))
        await asyncio.gather(*(dribble(server.port, head, b"x" * 50) for _ in range(5)))
        assert time.monotonic() - began < 3


async def test_http_connections_are_bounded() -> None:
    async with echo_server(Options(max_connections=3)) as server:
        opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(6)]
        for _, writer in opened:
            writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = []
        for reader, writer in opened:
            try:
                answers.append((await reader.read())[:12])
            except ConnectionError:
                answers.append(b"")
            writer.close()
        assert answers.count(b"HTTP/1.1 404") == 3
        assert answers.count(b"") == 3


async def dribble(port: int, head: bytes, rest: bytes, pause: float = 0.1) -> None:
    """Sends the rest a byte at a time until the server has enough of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    reading = asyncio.create_task(reader.read())
    for at in range(len(rest)):
        writer.write(rest[at : at + 1])
        if (await asyncio.wait([reading], timeout=pause))[0]:
            break
    else:
        raise AssertionError("the server took it all")
    with suppress(ConnectionError):
        await reading
    writer.transport.abort()


async def join_deaf(port: int) -> socket.socket:
    """An accepted socket of which nothing more is ever read."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    head = (
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    )
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    await loop.sock_sendall(sock, head.encode() + frame("40"))
    received = b""
    while b"40{" not in received:
        received += await loop.sock_recv(sock, 1000)
    return sock


async def fire(raw: RawSocket, count: int) -> list[str]:
    """Sends so many calls at once, reading meanwhile."""
    reading = asyncio.create_task(collect(raw, count))
    packets = b"".join(frame(event("yield", number, ack=number)) for number in range(count))
    for at in range(0, len(packets), 65_536):
        raw.send_raw(packets[at : at + 65_536])
        await raw.flush()
    return await reading


async def collect(raw: RawSocket, count: int) -> list[str]:
    """The next so many packets."""
    return [await raw.receive(20) for _ in range(count)]


async def count_events(raw: RawSocket, count: int) -> int:
    """Reads until so many events have come, or none comes any more."""
    found = 0
    with suppress(Closed, TimeoutError):
        while found < count:
            found += (await raw.receive(10)).startswith('42["news"')
    return found


async def say(raw: RawSocket, packet: str) -> str:
    """Sends a packet and answers with the next that comes."""
    raw.send(packet)
    return await raw.receive()
