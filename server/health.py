"""Probes: is the process alive, can it work."""

from __future__ import annotations

from aiohttp import web

from server import __version__, wire
from server.connections import Connections
from services.database.deployment import Deployment
from services.placement.writes import Writes


class Health:
    """`/health` answers as long as the process lives; `/ready` answers 503 while MongoDB cannot be reached or written."""

    def __init__(self, deployment: Deployment, connections: Connections, writes: Writes) -> None:
        self._deployment = deployment
        self._writes = writes
        self._connections = connections

    async def health(self, request: web.Request) -> web.Response:
        """`{status, version, connections}`, always 200."""
        return _json({"status": "ok", "version": __version__, "connections": self._connections.count()})

    async def ready(self, request: web.Request) -> web.Response:
        """`{status, mongodb}`, 200 or 503."""
        up = await self._deployment.ping()
        # A process that was without a database for long has to hear first what has moved meanwhile.
        ready = up and self._writes.is_held
        return _json(
            {"status": "ready" if ready else "unavailable", "mongodb": "up" if up else "down"},
            status=200 if ready else 503,
        )


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=wire.encode(value), content_type="application/json", status=status)
