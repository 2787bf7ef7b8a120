"""The station: metrics, traces and tails of one process, put together."""

from __future__ import annotations

from contextlib import AsyncExitStack

from aiohttp import web

from server import logs
from server.addresses import Addresses
from server.backend import Backend
from server.connections import Connections
from server.telemetry.metrics import Metrics, MetricsPage
from server.telemetry.observer import Observer
from server.telemetry.tail import Tail
from server.telemetry.traces import Traces


class Station:
    """What observes the calls and events of a server."""

    def __init__(
        self, backend: Backend, connections: Connections, addresses: Addresses, traces: Traces | None = None
    ) -> None:
        token = backend.settings.metrics_token
        self.metrics = Metrics(connections, logs.current_call)
        self.tail = Tail(backend.tails, node=backend.nodes.id)
        self.observer = Observer(self.metrics, self.tail, traces)
        self.metrics.gauges(
            "mongo_connections",
            "Connections of this process to all servers of a cluster, besides those that watch them.",
            "cluster",
            lambda: {cluster: pool.open for cluster, pool in backend.pools().items()},
        )
        self.metrics.gauges(
            "mongo_connections_most",
            "What the clients that are open now may have at most, with those that watch: servers x (pool + 2) of each.",
            "cluster",
            lambda: {cluster: pool.most for cluster, pool in backend.pools().items()},
        )
        self._page = MetricsPage(self.metrics, addresses, None if token is None else token.get_secret_value())

    async def start(self, stack: AsyncExitStack) -> None:
        """Begins to look who is named, and who is watched."""
        await self.metrics.start()
        stack.push_async_callback(self.metrics.stop)
        await self.tail.start()
        stack.push_async_callback(self.tail.stop)

    def attach(self, web_app: web.Application) -> None:
        """Serves `/metrics`."""
        web_app.router.add_get("/metrics", self._page.handle)
