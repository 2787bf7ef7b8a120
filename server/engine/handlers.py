"""What the engine tells the server, and how the server refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from multidict import MultiMapping

if TYPE_CHECKING:
    from server.engine.socket import Socket


class Refused(Exception):
    """A handshake is refused: the client gets `connect_error` with this message and data."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class Request(Protocol):
    """The HTTP request by which a client came."""

    @property
    def query(self) -> MultiMapping[str]: ...

    @property
    def headers(self) -> MultiMapping[str]: ...

    @property
    def remote(self) -> str | None:
        """The address of the peer, if it has one."""
        ...


class Handlers(Protocol):
    """What the engine tells the server."""

    async def connect(self, socket: Socket, request: Request, auth: Any) -> None:
        """A client asks to connect; raise `Refused` to refuse. Nothing reaches the socket before this returns."""
        ...

    async def call(self, socket: Socket, name: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """A client calls; the answer is the acknowledgement's arguments. Never raises."""
        ...

    def disconnect(self, socket: Socket, reason: str) -> None:
        """An accepted socket is gone."""
        ...
