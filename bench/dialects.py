"""How the work is said to each kind of server: the Feathers protocol over Socket.IO, Parse's REST with LiveQuery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import orjson

from bench.client import SUCCESS, Answer, Socket, ignore
from bench.parse import Http, LiveQuery, request, where
from bench.plan import Account

Done = Callable[[bytes], None]
"""Told when a call is answered: with nothing when it went well, else with the answer."""

USER, PASSWORD = "load", "correct horse battery staple"
PAGE = {"room": "lobby"}
FILLER = "a line of talk that is about as long as such lines are, and then a little longer, to be fair"


def marker(tenant: str) -> bytes:
    """What all text of a tenant begins with, so that an event tells whose it is."""
    return f"~{tenant}~".encode()


def message(tenant: str, room: str, number: int) -> dict[str, object]:
    """A record of the tenant."""
    return {"room": room, "n": number, "text": f"{marker(tenant).decode()} {FILLER} {number}"}


class Closable(Protocol):
    """Something that is connected."""

    async def close(self) -> object: ...


class Link(Closable, Protocol):
    """What one logged-in client has open: it calls, and it hears the events of its tenant."""

    def call(self, body: bytes, done: Done) -> None: ...


class Dialect(Protocol):
    """One kind of server, as a client sees it."""

    async def sign_up(self, tenant: str, records: int) -> Account:
        """Makes the tenant's user and its records."""

    async def link(self, account: Account, on_event: Answer, in_flight: int) -> Link: ...

    async def listen(self, account: Account, on_event: Answer) -> Closable:
        """A logged-in client that only hears events."""

    async def connect(self, tenant: str) -> Closable:
        """A client that has just connected."""

    async def fresh(self, tenant: str) -> Closable:
        """A client that has yet to log in, for `authenticate`."""

    async def authenticate(self, client: Closable, account: Account) -> None: ...

    def create(self, account: Account, number: int) -> bytes: ...

    def get(self, account: Account, number: int) -> bytes: ...

    def find(self, account: Account, number: int) -> bytes: ...

    def patch(self, account: Account, number: int) -> bytes: ...


def pick(ids: Sequence[str], number: int) -> str:
    return ids[number % len(ids)]


class SocketLink:
    """A link over one socket."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket

    def call(self, body: bytes, done: Done) -> None:
        self.socket.call(body, lambda answer: done(b"" if answer.startswith(SUCCESS) else answer))

    async def close(self) -> None:
        await self.socket.close()


class Feathers:
    """Feathers 5's protocol: Feathers itself, Roost, and the plain Python server."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def sign_up(self, tenant: str, records: int) -> Account:
        socket = await Socket.open(self.port, tenant)
        secret = {"username": USER, "password": PASSWORD}
        await socket.request("create", "users", secret, {})
        login = await socket.request("create", "authentication", {"strategy": "local", **secret}, {})
        made = [
            await socket.request("create", "messages", message(tenant, PAGE["room"], number), {})
            for number in range(records)
        ]
        await socket.close()
        return Account(tenant, login["accessToken"], tuple(record["_id"] for record in made))

    async def link(self, account: Account, on_event: Answer, in_flight: int) -> SocketLink:
        return SocketLink(await self.listen(account, on_event))

    async def listen(self, account: Account, on_event: Answer) -> Socket:
        socket = await Socket.open(self.port, account.tenant, on_event=on_event)
        await socket.log_in(account.token)
        return socket

    async def connect(self, tenant: str) -> Socket:
        return await Socket.open(self.port, tenant)

    fresh = connect

    async def authenticate(self, client: Closable, account: Account) -> None:
        assert isinstance(client, Socket)
        await client.log_in(account.token)

    def create(self, account: Account, number: int) -> bytes:
        return orjson.dumps(["create", "messages", message(account.tenant, "hall", number), {}])

    def get(self, account: Account, number: int) -> bytes:
        return orjson.dumps(["get", "messages", pick(account.messages, number), {}])

    def find(self, account: Account, number: int) -> bytes:
        return orjson.dumps(["find", "messages", {**PAGE, "$sort": {"n": -1}, "$limit": 10}])

    def patch(self, account: Account, number: int) -> bytes:
        data = {"text": message(account.tenant, "", number)["text"]}
        return orjson.dumps(["patch", "messages", pick(account.messages, number), data, {}])


class RestLink:
    """A link over as many HTTP connections as calls may be in flight, and a LiveQuery for the events."""

    def __init__(self, connections: list[Http], events: LiveQuery) -> None:
        self.connections = connections
        self.events = events
        self._idle = list(connections)

    def call(self, body: bytes, done: Done) -> None:
        connection = self._idle.pop()

        def answer(status: int, content: bytes) -> None:
            self._idle.append(connection)
            done(b"" if status < 400 else content)

        connection.call(body, answer)

    async def close(self) -> None:
        await asyncio.gather(self.events.close(), *(connection.close() for connection in self.connections))


class Parse:
    """Parse Server: calls by REST, events and bare connections by LiveQuery."""

    path = "/classes/Message"

    def __init__(self, port: int) -> None:
        self.port = port

    async def sign_up(self, tenant: str, records: int) -> Account:
        http = await Http.open(self.port)
        user = {"username": f"{USER}@{tenant}", "password": PASSWORD, "app": tenant}
        token = (await http.request(request("POST", "/users", body=user)))["sessionToken"]
        made = [
            await http.request(request("POST", self.path, token, message(tenant, PAGE["room"], number)))
            for number in range(records)
        ]
        await http.close()
        return Account(tenant, token, tuple(record["objectId"] for record in made))

    async def link(self, account: Account, on_event: Answer, in_flight: int) -> RestLink:
        connections = [await Http.open(self.port) for _ in range(in_flight)]
        return RestLink(connections, await self.listen(account, on_event))

    async def listen(self, account: Account, on_event: Answer) -> LiveQuery:
        events = await LiveQuery.open(self.port, account.token, on_event=on_event)
        await events.subscribe("Message", {"app": account.tenant})
        return events

    async def connect(self, tenant: str) -> LiveQuery:
        return await LiveQuery.open(self.port, on_event=ignore)

    async def fresh(self, tenant: str) -> Http:
        return await Http.open(self.port)

    async def authenticate(self, client: Closable, account: Account) -> None:
        assert isinstance(client, Http)
        await client.request(request("GET", "/users/me", account.token))

    def create(self, account: Account, number: int) -> bytes:
        return request("POST", self.path, account.token, message(account.tenant, "hall", number))

    def get(self, account: Account, number: int) -> bytes:
        return request("GET", f"{self.path}/{pick(account.messages, number)}", account.token)

    def find(self, account: Account, number: int) -> bytes:
        return request("GET", f"{self.path}?{where(PAGE)}&order=-n&limit=10&count=1", account.token)

    def patch(self, account: Account, number: int) -> bytes:
        data = {"text": message(account.tenant, "", number)["text"]}
        return request("PUT", f"{self.path}/{pick(account.messages, number)}", account.token, data)


DIALECTS: dict[str, Callable[[int], Dialect]] = {"feathers": Feathers, "parse": Parse}
