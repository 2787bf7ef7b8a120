"""A socket over polling, and its change to a websocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from server.engine import Frame, Options
from tests.support.echo_server import EchoServer, echo_server
from tests.support.raw_socket import RawSocket, Rejected, event

SEPARATOR = "\x1e"


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    async with echo_server() as running:
        yield running


@pytest.fixture
async def quick() -> AsyncIterator[EchoServer]:
    async with echo_server(Options(ping_interval=0.5, ping_timeout=0.5, handshake_timeout=0.5)) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        yield session


class Poller:
    """The polling client's side, by hand."""

    def __init__(self, http: aiohttp.ClientSession, server: EchoServer) -> None:
        self.http = http
        self.url = f"{server.url}/socket.io/?EIO=4&transport=polling"

    async def open(self) -> Poller:
        opening = (await self.poll())[0]
        self.sid = json.loads(opening[1:])["sid"]
        self.url += f"&sid={self.sid}"
        return self

    async def join(self) -> Poller:
        await self.open()
        await self.post("40")
        assert (await self.poll())[0].startswith('40{"sid":')
        return self

    async def poll(self, status: int = 200) -> list[str]:
        async with self.http.get(self.url) as answer:
            assert answer.status == status
            return (await answer.text()).split(SEPARATOR)

    async def post(self, *packets: str, status: int = 200) -> None:
        async with self.http.post(self.url, data=SEPARATOR.join(packets).encode()) as answer:
            assert answer.status == status


async def test_calls_and_events(server: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, server).join()
    await poller.post(*(event("echo", number, ack=number) for number in range(40)))
    answers: list[str] = []
    while len(answers) < 40:
        answers += await poller.poll()
    assert answers == [f"43{number}[null,{number}]" for number in range(40)]
    waiting = asyncio.create_task(poller.poll())
    await asyncio.sleep(0.05)
    server.handlers.shout(Frame("news", {"n": 1}))
    assert await waiting == ['42["news",{"n":1}]']


async def test_a_long_message_is_read_whole(server: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, server).join()
    await poller.post(event("echo", "x" * 900_000, ack=1))
    assert len((await poller.poll())[0]) > 900_000


async def test_a_message_that_is_too_long_ends_the_session(server: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, server).join()
    await poller.post(event("echo", "x" * 1_000_000, ack=1), status=400)
    assert server.handlers.left == ["bad packet"]
    await poller.poll(400)


async def test_a_full_waiting_room_holds_the_post_back(http: aiohttp.ClientSession) -> None:
    async with echo_server(Options(running_calls=2, waiting_calls=3)) as server:
        poller = await Poller(http, server).join()
        posting = asyncio.create_task(poller.post(*(event("wait", number, ack=number) for number in range(9))))
        await server.handlers.until(lambda: server.handlers.running == 2)
        assert not (await asyncio.wait([posting], timeout=0.1))[0]
        server.handlers.release.set()
        await posting
        answers: list[str] = []
        while len(answers) < 9:
            answers += await poller.poll()
        assert server.handlers.most == 2


async def test_binary_in_a_post(server: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, server).join()
    await poller.post('451-7["echo",{"_placeholder":true,"num":0}]', "bAQID")
    assert "Binary values are not supported" in (await poller.poll())[0]
    await poller.post("bAQID", event("echo", ack=1))
    assert await poller.poll() == ["1"]
    assert server.handlers.calls == []


async def test_of_polls_and_of_posts_there_is_one_at_a_time(server: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, server).join()
    waiting = asyncio.create_task(poller.poll())
    await asyncio.sleep(0.05)
    await poller.poll(400)
    assert await waiting == ["1"]
    assert server.handlers.left == ["bad packet"]


async def test_a_post_within_another_ends_the_session(http: aiohttp.ClientSession) -> None:
    async with echo_server(Options(running_calls=1, waiting_calls=1)) as server:
        poller = await Poller(http, server).join()
        posting = asyncio.create_task(poller.post(*(event("wait", number, ack=number) for number in range(4))))
        await server.handlers.until(lambda: server.handlers.running == 1)
        await poller.post("3", status=400)
        assert server.handlers.left == ["bad packet"]
        await posting


async def test_pongs_do_not_replace_polls(quick: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, quick).join()
    async with asyncio.timeout(5):
        while not quick.handlers.left:
            await poller.post("3")
            await asyncio.sleep(0.05)
    assert quick.handlers.left == ["ping timeout"]


async def test_closing_is_told(server: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, server).join()
    server.handlers.shout(Frame("news", 1))
    for socket in [*server.handlers.sockets.values()]:
        await socket.close()
    assert await poller.poll() == ['42["news",1]', "1"]
    await poller.poll(400)


async def test_a_client_that_does_not_come_back_is_given_up(quick: EchoServer, http: aiohttp.ClientSession) -> None:
    await Poller(http, quick).join()
    silent = await Poller(http, quick).open()
    await quick.handlers.until(lambda: quick.handlers.left)
    assert quick.handlers.left == ["ping timeout"]
    assert await silent.poll() == ["1"]
    assert quick.engine.connections == 0


async def test_a_poll_whose_client_is_gone_ends_the_session(quick: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, quick).join()
    waiting = asyncio.create_task(poller.poll())
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0.1)
    quick.handlers.shout(Frame("news", 1))
    await quick.handlers.until(lambda: quick.handlers.left)
    assert quick.handlers.left == ["transport close"]


async def test_a_client_that_does_not_poll_is_cut(http: aiohttp.ClientSession) -> None:
    async with echo_server(Options(slow_after=0.1)) as server:
        await Poller(http, server).join()
        for number in range(300):
            server.handlers.shout(Frame("news", number))
        await server.handlers.until(lambda: server.handlers.left)
        assert server.handlers.left == ["slow consumer"]
        far = await Poller(http, server).join()
        for number in range(2000):
            server.handlers.shout(Frame("news", number))
        await server.handlers.until(lambda: len(server.handlers.left) == 2)
        await far.poll(400)


async def test_origins_and_jsonp(http: aiohttp.ClientSession) -> None:
    async with echo_server(Options(allow_origin=lambda origin, _: origin == "http://good")) as server:
        url = f"{server.url}/socket.io/?EIO=4&transport=polling"
        async with http.get(url, headers={"Origin": "http://good"}) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "http://good"
            assert "Access-Control-Allow-Credentials" not in answer.headers
        async with http.options(url, headers={"Origin": "http://good"}) as answer:
            assert answer.headers["Access-Control-Allow-Methods"] == "OPTIONS, GET, POST"
        async with http.get(url, headers={"Origin": "http://evil"}) as answer:
            assert answer.status == 400
            assert "Access-Control-Allow-Origin" not in answer.headers
        async with http.get(f"{url}&j=0") as answer:
            assert answer.status == 400


async def begin_upgrade(poller: Poller, server: EchoServer) -> RawSocket:
    raw = await RawSocket.open(server.port, f"/socket.io/?EIO=4&transport=websocket&sid={poller.sid}")
    raw.send("2probe")
    assert await raw.receive() == "3probe"
    return raw


async def test_the_upgrade_keeps_every_packet_in_order(server: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, server).join()
    waiting = asyncio.create_task(poller.poll())
    await asyncio.sleep(0.05)
    async with await begin_upgrade(poller, server) as raw:
        assert await waiting == ["6"]
        for number in range(3):
            server.handlers.shout(Frame("news", number))
        assert await poller.poll() == ["6"]
        await poller.post(event("echo", "by post", ack=1))
        raw.send("5")
        server.handlers.shout(Frame("news", 3))
        raw.send(event("echo", "by websocket", ack=2))
        received = [await raw.receive() for _ in range(6)]
        assert received[:3] == [f'42["news",{number}]' for number in range(3)]
        assert {'431[null,"by post"]', '432[null,"by websocket"]', '42["news",3]'} == {*received[3:]}
        await poller.poll(400)
        assert server.handlers.left == []


async def test_an_upgrade_that_fails_leaves_the_polling_session(quick: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, quick).join()
    server = quick
    raw = await begin_upgrade(poller, server)
    with pytest.raises(Rejected, match="400"):
        await RawSocket.open(server.port, f"/socket.io/?EIO=4&transport=websocket&sid={poller.sid}")
    assert await poller.poll() == ["6"]
    await raw.abort()
    server.handlers.shout(Frame("news", 1))
    async with asyncio.timeout(5):
        while '42["news",1]' not in (packets := await poller.poll()):
            assert set(packets) <= {"6", "2"}
            await poller.post("3")
    async with await begin_upgrade(poller, server) as late:
        assert await late.closing() == 1008
    async with await RawSocket.open(server.port, f"/socket.io/?EIO=4&transport=websocket&sid={poller.sid}") as wrong:
        wrong.send("40")
        assert await wrong.closing() == 1008


async def test_the_end_of_the_session_ends_its_upgrade(server: EchoServer, http: aiohttp.ClientSession) -> None:
    poller = await Poller(http, server).join()
    async with await begin_upgrade(poller, server) as raw:
        for socket in [*server.handlers.sockets.values()]:
            await socket.close()
        assert await raw.closing() == 1001
