"""The engine's bounds, all in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from server.engine.handlers import Request


@dataclass(frozen=True, slots=True)
class Options:
    """Every bound of the engine. Times are in seconds, sizes in bytes."""

    path: str = "socket.io"
    """Where the engine is served."""
    transports: tuple[str, ...] = ("polling", "websocket")
    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    handshake_timeout: float = 10.0
    """For the first HTTP header, for CONNECT once the transport is open, for the handlers' `connect`, for an upgrade."""
    message_timeout: float = 30.0
    """For the body of a request. (On a websocket, a message that does not end holds up the PONG, and is cut by it.)"""
    keepalive_timeout: float = 75.0
    """How long an HTTP connection without a request stays open."""
    max_message: int = 1_000_000
    """A longer message closes its connection."""
    max_attachments: int = 10
    """Binary attachments that a packet may announce. They are read past, never kept."""
    max_connections: int = 20_000
    """Sockets of this process; further handshakes are answered with 503."""
    outgoing_bytes: int = 1_048_576
    outgoing_packets: int = 256
    """What may wait for a consumer that does not read. Past either bound it must make headway, or it is cut."""
    slow_after: float = 2.0
    """How long a watched consumer may go without headway."""
    slow_rate: int = 16_384
    """Bytes per second that count as headway."""
    running_calls: int = 32
    """Calls of one socket that run at once."""
    waiting_calls: int = 100
    """Calls of one socket that wait for a place; then the socket is not read until some are answered."""
    may_skip_http: Callable[[Request], bool] | None = None
    """Whether the HTTP application's middlewares have nothing to ask of a handshake, so that it may go past them."""
    allow_origin: Callable[[str, web.Request], bool] | None = None
    """Whether a page of this origin may connect. Without it no origin is checked and no CORS header is sent."""
