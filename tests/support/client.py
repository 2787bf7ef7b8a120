"""Clients for tests, in the manner of a channel test: `async with connect(roost, "acme") as ada: await ada.call(...)`.

Three of them: `connect` is a Socket.IO client with calls and events, `rest` speaks HTTP, and `handshake` is the bare
protocol, for what no client library would send.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import quote, urlencode

import aiohttp
import socketio
from yarl import URL

_HASTE = aiohttp.ClientWSTimeout(ws_close=0.05)
"""How long the bare protocol waits for a goodbye."""
TIMEOUT = 5.0
"""Seconds after which something that should have come is missing."""
PASSWORD = "secret-123"

_names = itertools.count(1)


def fresh(word: str = "name") -> str:
    """A word that no other test of this run uses."""
    return f"{word}-{next(_names)}"


class Served(Protocol):
    """A server: in this process, or another one."""

    @property
    def url(self) -> str: ...


class CallError(Exception):
    """A call was answered with an error; `wire` is its JSON."""

    def __init__(self, wire: Mapping[str, Any]) -> None:
        super().__init__(f"{wire.get('code')} {wire.get('name')}: {wire.get('message')}")
        self.wire = dict(wire)
        self.name: str = wire["name"]
        self.code: int = wire["code"]
        self.message: str = wire["message"]
        self.data: Any = wire.get("data")


class Event(NamedTuple):
    """What was pushed: the name as on the wire, such as `messages created`, and its arguments."""

    name: str
    arguments: tuple[Any, ...]

    @property
    def record(self) -> Any:
        """The one argument."""
        (record,) = self.arguments
        return record


class Caller(Protocol):
    """A client of either transport."""

    async def call(self, method: str, path: str, *arguments: Any) -> Any:
        """The result of a call with its arguments as the official client sends them.

        Raises:
            CallError: the call was answered with an error.
        """
        ...


async def outcome(caller: Caller, method: str, path: str, *arguments: Any) -> Any:
    """The result of a call, or the CallError that answered it."""
    try:
        return await caller.call(method, path, *arguments)
    except CallError as error:
        return error


class Client:
    """A connected socket. Made by `connect`."""

    def __init__(self, sio: socketio.AsyncClient) -> None:
        self.sio = sio
        self.events: list[Event] = []
        """All that was heard, in order."""
        self.heard = 0
        """How many of them were taken by `next_event`."""
        self.token: str | None = None
        self._news = asyncio.Event()
        self._gone = asyncio.Event()
        sio.on("*", self._hear)
        sio.on("disconnect", self._end)

    def _hear(self, name: str, *arguments: Any) -> None:
        self.events.append(Event(name, arguments))
        self._news.set()

    def _end(self, *_: Any) -> None:
        self._gone.set()

    @property
    def connected(self) -> bool:
        return self.sio.connected

    async def gone(self, seconds: float = TIMEOUT) -> None:
        """Waits until the server has closed the socket."""
        async with asyncio.timeout(seconds):
            await self._gone.wait()

    async def ack(self, name: str, *arguments: Any, seconds: float = TIMEOUT) -> tuple[Any, ...]:
        """The acknowledgement's arguments, as they are."""
        answered: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()

        def take(*answer: Any) -> None:
            if not answered.done():
                answered.set_result(answer)

        await self.sio.emit(name, arguments, callback=take)
        async with asyncio.timeout(seconds):
            return await answered

    async def call(self, method: str, path: str, *arguments: Any) -> Any:
        """See `Caller`."""
        answer = await self.ack(method, path, *arguments)
        match answer:
            case [None, result]:
                return result
            case [{"name": str(), "code": int(), "message": str(), "className": str()} as error]:
                raise CallError(error)
        raise AssertionError(f"not an answer: {answer!r}")

    async def next_event(self) -> Event:
        """The next event that was not taken yet."""
        async with asyncio.timeout(TIMEOUT):
            while self.heard == len(self.events):
                self._news.clear()
                await self._news.wait()
        self.heard += 1
        return self.events[self.heard - 1]

    async def fence(self) -> None:
        """Returns when all has come that was sent to this socket before: an answer cannot overtake an event."""
        assert len(await self.ack("find", "no-such-service")) == 1

    async def quiet(self) -> None:
        """Asserts that no event has come besides those that were taken."""
        await self.fence()
        assert self.events[self.heard :] == []

    async def take_events(self) -> list[Event]:
        """All events that have come and were not taken yet."""
        await self.fence()
        news = self.events[self.heard :]
        self.heard = len(self.events)
        return news

    async def sign_up(self, name: str, password: str = PASSWORD, *, field: str = "username") -> Any:
        """Creates the user and logs in as it; the user."""
        user = await self.call("create", "users", {field: name, "password": password}, {})
        await self.login(name, password, field=field)
        return user

    async def login(self, name: str, password: str = PASSWORD, *, field: str = "username") -> Any:
        """Logs in by password; the answer, whose token is kept as `token`."""
        answer = await self.call(
            "create", "authentication", {"strategy": "local", field: name, "password": password}, {}
        )
        self.token = answer["accessToken"]
        return answer

    async def login_by(self, token: str | None) -> Any:
        """Logs in by an access token; the answer."""
        return await self.call("create", "authentication", {"strategy": "jwt", "accessToken": token}, {})

    async def logout(self) -> Any:
        return await self.call("remove", "authentication", None, {})


@asynccontextmanager
async def connect(
    roost: Served,
    app_id: str,
    *,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Client]:
    """A socket of an app, over a websocket."""
    async with aiohttp.ClientSession() as session:
        sio = socketio.AsyncClient(reconnection=False, http_session=cast("Any", session), handle_sigint=False)
        client = Client(sio)
        await sio.connect(
            f"{roost.url}?{urlencode({'appId': app_id})}",
            headers=dict(headers or {}),
            transports=["websocket"],
            wait_timeout=int(TIMEOUT),
        )
        try:
            yield client
        finally:
            await sio.disconnect()


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Rest:
    """An HTTP client of an app. Made by `rest`."""

    session: aiohttp.ClientSession
    url: str
    headers: dict[str, str] = field(default_factory=dict)

    async def request(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Sends one request; `path` is sent as it is, with its query string; `body` is sent as JSON, `raw` as it is."""
        sent = {**self.headers, **(headers or {})}
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent = {"Content-Type": "application/json", **sent}
        target = URL(self.url + path, encoded=True)
        async with self.session.request(verb, target, data=raw, headers=sent, allow_redirects=False) as response:
            return Reply(response.status, await response.read(), dict(response.headers))

    async def call(self, method: str, path: str, *arguments: Any) -> Any:
        """See `Caller`."""
        verb, counted = _VERBS.get(method, ("POST", ("data",)))
        given = dict(zip((*counted, "query"), arguments, strict=False))
        target = "/" + path
        if given.get("id") is not None:
            target += "/" + quote(str(given["id"]), safe="")
        query = query_string(given.get("query") or {})
        headers = {} if method in _VERBS else {"X-Service-Method": method}
        body = json.dumps(given["data"]).encode() if "data" in given else None
        reply = await self.request(verb, target + (f"?{query}" if query else ""), raw=body, headers=headers)
        if reply.status >= 400:
            assert reply.json["code"] == reply.status
            raise CallError(reply.json)
        return reply.json if reply.body else None

    async def sign_up(self, name: str, password: str = PASSWORD, *, field: str = "username") -> Any:
        """Creates the user and logs in as it; the user."""
        user = await self.call("create", "users", {field: name, "password": password})
        await self.login(name, password, field=field)
        return user

    async def login(self, name: str, password: str = PASSWORD, *, field: str = "username") -> Any:
        """Logs in by password; later requests carry the token."""
        answer = await self.call("create", "authentication", {"strategy": "local", field: name, "password": password})
        self.headers["Authorization"] = f"Bearer {answer['accessToken']}"
        return answer


@asynccontextmanager
async def rest(roost: Served, app_id: str | None, **headers: str) -> AsyncIterator[Rest]:
    """An HTTP client of an app; None names no app."""
    own = headers if app_id is None else {"x-app-id": app_id, **headers}
    timeout = aiohttp.ClientTimeout(total=2 * TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Rest(session, roost.url, own)


_VERBS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "find": ("GET", ()),
    "get": ("GET", ("id",)),
    "create": ("POST", ("data",)),
    "update": ("PUT", ("id", "data")),
    "patch": ("PATCH", ("id", "data")),
    "remove": ("DELETE", ("id",)),
}


def query_string(query: Mapping[str, Any]) -> str:
    """A query as the official REST client writes it."""
    return "&".join(f"{quote(name)}={quote(value)}" for name, value in _flat(query, ""))


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        children = [(f"{name}[{key}]" if name else str(key), child) for key, child in value.items()]
    elif isinstance(value, list):
        children = [(f"{name}[{index}]", child) for index, child in enumerate(value)]
    else:
        return [(name, "" if value is None else value if isinstance(value, str) else json.dumps(value))]
    return [pair for key, child in children for pair in _flat(child, key)]


@dataclass(slots=True)
class Wire:
    """A websocket that speaks Socket.IO packets as text. Made by `wire`."""

    socket: aiohttp.ClientWebSocketResponse
    session_id: str
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    async def receive(self) -> str | None:
        """The next packet; pings are answered and left out; None is the end."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                message = await self.socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return None
                if message.data != "2":
                    return str(message.data)
                await self.socket.send_str("3")

    async def ack(self, arguments: str) -> list[Any] | None:
        """Sends an event whose JSON is `arguments`; the acknowledgement, None when the socket was closed instead."""
        number = next(self._ids)
        await self.socket.send_str(f"42{number}{arguments}")
        prefix = f"43{number}"
        while (packet := await self.receive()) is not None:
            if packet.startswith(prefix + "["):
                answer: list[Any] = json.loads(packet.removeprefix(prefix))
                return answer
        return None


@asynccontextmanager
async def wire(
    roost: Served, query: str, *, headers: Any = None, auth: str = "", max_size: int = 4_000_000
) -> AsyncIterator[tuple[Wire, str]]:
    """The bare protocol over a websocket: the socket, and the packet that answered its CONNECT."""
    url = f"{roost.url}/socket.io/?EIO=4&transport=websocket&{query}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(URL(url, encoded=True), headers=headers, max_msg_size=max_size, timeout=_HASTE) as socket,
    ):
        opened = await socket.receive_str(timeout=TIMEOUT)
        spoken = Wire(socket, json.loads(opened[1:])["sid"])
        await socket.send_str("40" + auth)
        yield spoken, await spoken.receive() or ""


async def handshake(
    roost: Served, query: str, *, transport: str = "websocket", headers: Any = None, auth: str = ""
) -> tuple[str, Any]:
    """What a handshake is answered: `("connect", {sid})`, `("refused", {message, data})`, or at the door
    `("turned away", status)`.
    """
    if transport == "websocket":
        try:
            async with wire(roost, query, headers=headers, auth=auth) as (_, packet):
                return _answered(packet)
        except aiohttp.WSServerHandshakeError as error:
            return "turned away", error.status
    url = f"{roost.url}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(URL(f"{url}&{query}", encoded=True)) as response:
            if response.status != 200:
                return "turned away", response.status
            sid = json.loads((await response.text())[1:])["sid"]
        async with session.post(f"{url}&sid={sid}", data="40" + auth) as response:
            assert response.status == 200
        async with session.get(f"{url}&sid={sid}") as response:
            return _answered((await response.text()).split("\x1e")[0])


def _answered(packet: str) -> tuple[str, Any]:
    kinds = {"40": "connect", "44": "refused"}
    return kinds[packet[:2]], json.loads(packet[2:])


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = TIMEOUT) -> None:
    """Returns as soon as the condition holds; it is asked again and again, for what sends no event."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.02)
