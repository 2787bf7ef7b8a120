"""LIMITS P12, M1: whoever is not accepted, not yet or not at all, is sent nothing of what is published."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress

from server.engine import Frame
from server.main import Roost
from tests.support.client import connect
from tests.support.echo_server import echo_server
from tests.support.raw_socket import PING, PONG, TEXT, Closed, RawSocket, frame

PUBLISHES = 1_000
NORTH = "/socket.io/?EIO=4&transport=websocket&appId=acme"
STAGES = {
    "not connected": [],
    "unknown app": ['40{"appId":"nobody"}'],
    "another app than named before": ['40{"appId":"globex"}'],
    "another namespace": ["40/other,"],
}
"""What a socket sends after its upgrade; none of it gets it accepted."""


async def test_p12_sockets_that_are_refused_or_waiting_hear_nothing(roost: Roost) -> None:
    """P12: refused and pending sockets receive 0 packets during 1,000 publishes."""
    async with AsyncExitStack() as stack:
        ear = await stack.enter_async_context(connect(roost, "acme"))
        speaker = await stack.enter_async_context(connect(roost, "acme"))
        outside: dict[str, RawSocket] = {}
        for name, packets in STAGES.items():
            raw = outside[name] = await stack.enter_async_context(await RawSocket.open(roost.port, NORTH))
            assert (await raw.receive()).startswith("0{")
            for packet in packets:
                raw.send(packet)
        forged = await RawSocket.open(roost.port, NORTH, Authorization="Bearer a.b.c")
        outside["a forged token"] = await stack.enter_async_context(forged)
        foreign = await RawSocket.open(roost.port, NORTH, Origin="http://localhost:3030")
        outside["a foreign origin"] = await stack.enter_async_context(foreign)
        for name in ("a forged token", "a foreign origin"):
            assert (await outside[name].receive()).startswith("0{")
            outside[name].send('40{"appId":"nobody"}')

        made = [{"text": f"secret-{number}"} for number in range(100)]
        for _ in range(PUBLISHES // len(made)):
            await speaker.call("create", "notes", made, {})
        while len([event for event in ear.events if event.name == "notes created"]) < PUBLISHES:
            await ear.next_event()
        for name, raw in outside.items():
            heard = await rest_of(raw)
            assert "secret" not in "".join(heard), name
            assert all(packet.startswith("44") for packet in heard), (name, heard[:3])


async def test_p12_what_is_sent_to_a_socket_before_its_acceptance_is_lost_on_it() -> None:
    """P12 at the engine itself: even who was put among the listeners while the handshake waits is sent nothing."""
    async with echo_server() as server, await RawSocket.open(server.port) as pending:
        refused = await RawSocket.open(server.port)
        for raw, wish in ((pending, '{"wait":true}'), (refused, '{"wait":true,"refuse":true}')):
            assert (await raw.receive()).startswith("0{")
            raw.send("40" + wish)
        await server.handlers.until(lambda: len(server.handlers.sockets) == 2)
        for number in range(PUBLISHES):
            server.handlers.shout(Frame("news", number))
        server.handlers.release.set()
        assert (await pending.receive()).startswith('40{"sid"')
        assert (await refused.receive()).startswith("44")
        for raw in (pending, refused):
            assert await rest_of(raw) == []
        server.handlers.shout(Frame("news", "now"))
        assert await pending.receive() == '42["news","now"]'
        await refused.abort()


async def rest_of(raw: RawSocket) -> list[str]:
    """What was sent and is not read yet: all of it has come when a ping of the websocket is answered, or the socket ends."""
    heard: list[str] = []
    raw.send_raw(frame(b"fence", PING))
    with suppress(Closed):
        while True:
            opcode, payload = await raw.receive_frame()
            if opcode == PONG:
                break
            if opcode == TEXT and payload != b"2":
                heard.append(payload.decode())
    return heard
