"""Parse Server's two ways in, in their raw form: REST over kept connections, and the LiveQuery websocket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import quote

import orjson

from bench.client import Answer, ignore
from bench.wire import WebSocket

APPLICATION = "bench"


class RestError(Exception):
    """Parse answered with an error: its HTTP status, and the body it came with."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status


def request(method: str, path: str, token: str = "", body: object = None) -> bytes:
    """One HTTP request to `path` below `/parse`."""
    content = b"" if body is None else orjson.dumps(body)
    session = f"X-Parse-Session-Token: {token}\r\n" if token else ""
    head = (
        f"{method} /parse{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Parse-Application-Id: {APPLICATION}\r\n{session}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def where(conditions: Mapping[str, object]) -> str:
    """The `where` of a query string."""
    return "where=" + quote(orjson.dumps(conditions))


class Http(asyncio.Protocol):
    """One kept HTTP connection. Answers come in the order of the requests; they need a `Content-Length`."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._waiting: deque[Callable[[int, bytes], None]] = deque()
        self._rest = b""

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> Http:
        return (await asyncio.get_running_loop().create_connection(cls, host, port))[1]

    def call(self, message: bytes, answer: Callable[[int, bytes], None]) -> None:
        """Sends one request; `answer` gets the status and the body."""
        self._waiting.append(answer)
        self.transport.write(message)

    async def request(self, message: bytes) -> Any:
        """Sends one request; the decoded body.

        Raises:
            RestError: for any status from 400 on.
        """
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.call(message, lambda status, body: future.set_result((status, body)))
        await asyncio.wait((future, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise ConnectionError("closed before the request was answered")
        status, body = future.result()
        if status >= 400:
            raise RestError(status, orjson.loads(body))
        return orjson.loads(body)

    async def close(self) -> None:
        self.transport.close()
        await self.closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class that asyncio knows.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        while (blank := data.find(b"\r\n\r\n")) >= 0:
            field = data.index(b"\r\nContent-Length: ", 0, blank + 2) + 18
            stop = blank + 4 + int(data[field : data.index(b"\r", field)])
            if len(data) < stop:
                break
            self._waiting.popleft()(int(data[9:12]), data[blank + 4 : stop])
            data = data[stop:]
        self._rest = data


class LiveQuery(WebSocket):
    """One LiveQuery connection. Events go to `on_event`, as `{"op":"create","object":{...}}`."""

    def __init__(self, token: str, on_event: Answer) -> None:
        super().__init__()
        self.on_event = on_event
        self._token = token
        self._replies: deque[asyncio.Future[Any]] = deque()

    @classmethod
    async def open(cls, port: int, token: str = "", *, on_event: Answer = ignore, host: str = "127.0.0.1") -> LiveQuery:
        socket = cls(token, on_event)
        await socket.upgrade(host, port, "/parse")
        await socket._ask({"op": "connect", "applicationId": APPLICATION})
        return socket

    async def subscribe(self, class_name: str, conditions: Mapping[str, object]) -> None:
        """Asks for the events of all records that match."""
        await self._ask({"op": "subscribe", "requestId": 1, "query": {"className": class_name, "where": conditions}})

    async def _ask(self, question: Mapping[str, object]) -> None:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._replies.append(future)
        self.send(orjson.dumps({**question, **({"sessionToken": self._token} if self._token else {})}))
        await asyncio.wait((future, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise ConnectionError(f"closed with {self.closed.result()} before '{question['op']}' was answered")
        if future.result()["op"] == "error":
            raise ConnectionError(str(future.result()))

    def on_text(self, text: bytes) -> None:
        if self._replies:
            self._replies.popleft().set_result(orjson.loads(text))
        else:
            self.on_event(text)
