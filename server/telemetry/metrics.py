"""`/metrics` for Prometheus: what the server does, the busiest tenants by name and all others together."""

from __future__ import annotations

import asyncio
import hmac
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Exemplar

from hooks.context import HookContext
from hooks.errors import FeathersError, NotAuthenticated, NotFound
from hooks.tenant import Tenant
from server import wire
from server.addresses import Addresses
from server.connections import Connections
from server.handshake import bearer
from server.telemetry.ranking import OTHER, Ranking, TenantCounter
from services.tasks import end

WINDOW = 10.0
"""Seconds of traffic after which it is looked who is named."""
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds."""

FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via")
"""Headers by which a proxy is known."""

Read = Callable[[], float]
ReadEach = Callable[[], Mapping[str, float]]


class _Seconds:
    """How long calls of a method take, with one call as an example for each range."""

    __slots__ = ("counts", "examples", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.examples: list[Exemplar | None] = [None] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float, labels: dict[str, str]) -> None:
        place = bisect_left(BOUNDS, seconds)
        self.counts[place] += 1
        self.sum += seconds
        self.examples[place] = Exemplar(labels, seconds)

    def buckets(self) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        running = 0
        found: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for bound, count, example in zip([*map(str, BOUNDS), "+Inf"], self.counts, self.examples, strict=True):
            running += count
            found.append((bound, running) if example is None else (bound, running, example))
        return found


class Metrics:
    """Counts calls and events; gauges are read when somebody asks. A collector of `prometheus_client`."""

    def __init__(self, connections: Connections, call_id: Callable[[], str]) -> None:
        """`call_id` names the call that goes on, for the examples."""
        self._connections = connections
        self._call_id = call_id
        self._ranking = Ranking()
        self._calls = TenantCounter(self._ranking)
        self._events = TenantCounter(self._ranking)
        self._seconds: dict[str, _Seconds] = {}
        self._gauges: list[tuple[str, str, Read]] = []
        self._labelled: list[tuple[str, str, str, ReadEach]] = []
        self._task: asyncio.Task[None] | None = None

    def gauge(self, name: str, about: str, read: Read) -> None:
        """Exports what `read` answers, under `roost_<name>`."""
        self._gauges.append((name, about, read))

    def gauges(self, name: str, about: str, label: str, read: ReadEach) -> None:
        """Exports all that `read` answers, by what it gives as the label: words of the operators, of which there are few."""
        self._labelled.append((name, about, label, read))

    def call(self, context: HookContext, seconds: float, error: BaseException | None) -> None:
        """Counts a call from outside that has ended."""
        app_id, method = context.params.tenant.id, context.method
        self._ranking.note(app_id)
        self._calls.inc(app_id, (method, outcome(error)))
        taken = self._seconds.get(method)
        if taken is None:
            taken = self._seconds[method] = _Seconds()
        taken.add(seconds, {"tenant": app_id, "call": self._call_id()})

    def event(self, tenant: Tenant, sockets: int) -> None:
        """Counts an event that went to so many sockets."""
        self._ranking.note(tenant.id, 0.1 * sockets)
        self._events.inc(tenant.id, (), sockets)

    async def start(self) -> None:
        """Begins to look who is named."""
        self._task = asyncio.create_task(self._review(), name="metrics")

    async def stop(self) -> None:
        """Ends it."""
        if self._task is not None:
            await end(self._task)

    def collect(self) -> Iterator[Metric]:
        """What is exported."""
        yield from _counters("roost_calls", "Calls from outside.", ("method", "outcome"), self._calls)
        yield from _counters("roost_event_deliveries", "Events, once for each socket they went to.", (), self._events)
        yield from self._connection_gauges()
        seconds = HistogramMetricFamily("roost_call_seconds", "How long calls from outside take.", labels=("method",))
        for method, taken in self._seconds.items():
            seconds.add_metric((method,), buckets=taken.buckets(), sum_value=taken.sum)
        yield seconds
        for name, about, read in self._gauges:
            yield GaugeMetricFamily(f"roost_{name}", about, value=read())
        for name, about, label, read_each in self._labelled:
            family = GaugeMetricFamily(f"roost_{name}", about, labels=(label,))
            for value, number in sorted(read_each().items()):
                family.add_metric((value,), number)
            yield family

    def _connection_gauges(self) -> Iterator[Metric]:
        by_tenant = GaugeMetricFamily("roost_connections", "Open sockets.", labels=("tenant",))
        rest = total = self._connections.count()
        for app_id in sorted(self._ranking.named):
            own = self._connections.count_of(app_id)
            rest -= own
            by_tenant.add_metric((app_id,), own)
        by_tenant.add_metric((OTHER,), rest)
        yield by_tenant
        yield GaugeMetricFamily("roost_connections_all", "Open sockets of all tenants.", value=total)

    async def _review(self) -> None:
        while True:
            await asyncio.sleep(WINDOW)
            self._ranking.review()


class MetricsPage:
    """Answers `/metrics`: to whoever has the token, or without one to this machine alone: names of tenants are not public."""

    def __init__(self, metrics: Metrics, addresses: Addresses, token: str | None) -> None:
        self._addresses = addresses
        self._token = token
        self._registry = CollectorRegistry()
        self._registry.register(metrics)
        for own in (ProcessCollector, PlatformCollector, GCCollector):
            own(registry=self._registry)

    async def handle(self, request: web.Request) -> web.Response:
        """The metrics, as OpenMetrics with examples for those who accept that, else as plain text; 401 or 404 for others."""
        try:
            self._check(request)
        except FeathersError as error:
            return web.Response(body=wire.encode(error.to_json()), status=error.code, content_type="application/json")
        if "application/openmetrics-text" in request.headers.get("Accept", ""):
            body, kind = _open_metrics(self._registry), openmetrics.CONTENT_TYPE_LATEST
        else:
            body, kind = exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_LATEST
        return web.Response(body=body, headers={"Content-Type": kind, "Cache-Control": "no-store"})

    def _check(self, request: web.Request) -> None:
        if self._token is None:
            # A proxy on this machine that is not named as trusted speaks for anybody.
            is_forwarded = any(name in request.headers for name in FORWARDED) and not self._addresses.is_by_proxy(
                request
            )
            if is_forwarded or not _is_here(self._addresses.of(request)):
                raise NotFound("Path /metrics not found")
            return
        given = bearer(request.headers.get("Authorization")) or ""
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise NotAuthenticated("The metrics need the token of ROOST_METRICS_TOKEN")


def outcome(error: BaseException | None) -> str:
    """How a call ended: `ok`, the code of an error of ours, or `500`."""
    if error is None:
        return "ok"
    return str(error.code) if isinstance(error, FeathersError) else "500"


def _counters(name: str, about: str, labels: Iterable[str], counter: TenantCounter) -> Iterator[Metric]:
    by_tenant = CounterMetricFamily(name, f"{about} The busiest tenants by name.", labels=("tenant", *labels))
    for app_id, values, count in counter.samples():
        by_tenant.add_metric((app_id, *values), count)
    yield by_tenant
    all_together = CounterMetricFamily(f"{name}_all", f"{about} All tenants together.", labels=tuple(labels))
    for values, count in counter.totals.items():
        all_together.add_metric(values, count)
    yield all_together


def _open_metrics(registry: CollectorRegistry) -> bytes:
    generate: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
    return generate(registry)


def _is_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
