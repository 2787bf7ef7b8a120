"""A Feathers client in its raw form: Engine.IO and Socket.IO text packets over `wire.WebSocket`.

Two ways to call: `request` for anything that reads the answer; `call`, for load, hands the raw answer to a callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import orjson

from bench.wire import WebSocket

Answer = Callable[[bytes], None]
"""Takes the arguments of an ack as a JSON list: `[null,result]`, or `[error]`."""

SUCCESS = b"[null,"


class Refused(Exception):
    """The server refused the connection. `data` is what its `connect_error` carries beside the message."""

    def __init__(self, message: str, data: object = None) -> None:
        super().__init__(message)
        self.data = data


class CallError(Exception):
    """A call was answered with an error; `error` is the whole of it."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error.get('name')} {error.get('code')}: {error.get('message')}")
        self.error = error
        self.name: str = error.get("name", "")
        self.code: int = error.get("code", 0)


def ignore(_: bytes) -> None:
    """An answer or event that nobody waits for."""


class Socket(WebSocket):
    """One connection of one app.

        socket = await Socket.open(port, "acme")
        message = await socket.request("create", "messages", {"text": "hi"}, {})

    Events go to `on_event`, as the JSON list `["messages created",{...}]`.
    """

    def __init__(self, on_event: Answer = ignore) -> None:
        super().__init__()
        self.on_event = on_event
        self.answer_pings = True
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: dict[int, Answer] = {}
        self._count = 0
        self._auth = b""

    @classmethod
    async def open(
        cls,
        port: int,
        app_id: str,
        *,
        host: str = "127.0.0.1",
        auth: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        on_event: Answer = ignore,
    ) -> Socket:
        """Connects as `app_id`, which travels in the handshake's query; `auth` is the payload of the CONNECT packet.

        Raises:
            Refused: the server refused with a `connect_error`.
            HandshakeError: it refused the upgrade, or hung up.
        """
        socket = cls(on_event)
        if auth is not None:
            socket._auth = orjson.dumps(auth)
        target = urlencode({"EIO": "4", "transport": "websocket", "appId": app_id, **(query or {})})
        await socket.upgrade(host, port, f"/socket.io/?{target}", headers)
        await socket.accepted
        return socket

    def call(self, body: bytes, answer: Answer) -> None:
        """Sends one call; `body` is its JSON list `["get","messages","1",{}]`."""
        self._count += 1
        self._calls[self._count] = answer
        self.send(b"42%d%b" % (self._count, body))

    async def request(self, method: str, *arguments: object) -> Any:
        """Calls `method` with the path and whatever follows it; the result.

        Raises:
            CallError: the server answered with an error.
            ConnectionError: the connection ended first.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.call(orjson.dumps([method, *arguments]), lambda text: None if future.done() else future.set_result(text))
        await asyncio.wait((future, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise ConnectionError(f"closed with {self.closed.result()} before '{method}' was answered")
        answer = orjson.loads(future.result())
        if answer[0] is not None:
            raise CallError(answer[0])
        return answer[1]

    async def log_in(self, token: str) -> Any:
        """Logs the connection in with an access token; the authentication result."""
        return await self.request("create", "authentication", {"strategy": "jwt", "accessToken": token}, {})

    def on_text(self, text: bytes) -> None:
        kind = text[:2]
        if kind == b"43":
            bracket = text.index(b"[")
            self._calls.pop(int(text[2:bracket]), ignore)(text[bracket:])
        elif kind == b"42":
            self.on_event(text[2:])
        elif kind == b"2":
            if self.answer_pings:
                self.send(b"3")
        elif text[:1] == b"0":
            self.send(b"40" + self._auth)
        elif kind == b"40":
            self.accepted.set_result(None)
        elif kind == b"44":
            refusal = orjson.loads(text[2:])
            self._end(Refused(refusal.get("message", ""), refusal.get("data")))
        elif kind == b"41":
            self.transport.close()

    def on_closed(self) -> None:
        self._end(Refused("the server hung up before it accepted the connection"))

    def _end(self, refusal: Refused) -> None:
        if self.upgraded.done() and self.upgraded.exception() is None and not self.accepted.done():
            self.accepted.set_exception(refusal)
        if not self.closed.done():
            self.transport.close()
