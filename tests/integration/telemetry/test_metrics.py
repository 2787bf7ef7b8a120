"""`/metrics` (TENANCY OB-2, OB-4): exact sums, few names, examples for slow calls, and not for everybody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import aiohttp
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from pydantic import SecretStr

from server.main import Roost
from server.telemetry import ranking
from tests.conftest import StartRoost
from tests.support.client import connect, outcome, rest

parse_open: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families
LABELS = ("tenant", "method", "outcome", "cluster")
TOKEN = "a token of the operators"


async def scrape(roost: Roost, **headers: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"{roost.url}/metrics", headers=headers) as reply:
        return reply.status, reply.headers["Content-Type"], await reply.text()


async def values(roost: Roost, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric by the values of their labels."""
    _, _, text = await scrape(roost)
    return {
        tuple(sample.labels[label] for label in LABELS if label in sample.labels): sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name == name
    }


async def test_calls_and_events_are_counted_and_the_sum_is_exact(roost: Roost) -> None:
    """OB-2: totals equal the unlabelled metric."""
    async with connect(roost, "acme") as ada, connect(roost, "acme"), rest(roost, "globex") as eve:
        for _ in range(3):
            await ada.call("create", "notes", {"n": 1}, {})
        await outcome(ada, "get", "notes", "nothing", {})
        await eve.call("find", "notes", {})
        calls = await values(roost, "roost_calls_total")
        assert calls["acme", "create", "ok"] == 3
        assert calls["acme", "get", "404"] == 1
        assert calls["globex", "find", "ok"] == 1
        sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for (_, *labels), count in calls.items():
            sums[tuple(labels)] += count
        assert sums == await values(roost, "roost_calls_all_total")
        assert (await values(roost, "roost_event_deliveries_total"))[("acme",)] == 6
        assert (await values(roost, "roost_connections"))[("acme",)] == 2
        assert sum((await values(roost, "roost_connections")).values()) == 2
        seconds = await values(roost, "roost_call_seconds_count")
        assert seconds[("create",)] == 3


async def test_only_the_busiest_are_named(roosts: StartRoost) -> None:
    """OB-2: the rest is `other`."""
    apps = "".join(
        f"\n  - id: app-{n}\n    services: {{notes: {{rules: {{default: public}}}}}}" for n in range(ranking.TOP + 3)
    )
    roost = await roosts(f"tenants:{apps}")
    for n in range(ranking.TOP + 3):
        async with rest(roost, f"app-{n}") as client:
            await client.call("find", "notes", {})
    calls = await values(roost, "roost_calls_total")
    assert len(calls) == ranking.TOP + 1
    assert calls["other", "find", "ok"] == 3


async def test_slow_calls_come_with_an_example(roost: Roost) -> None:
    """OB-4: which tenant's and which call it was, as the log names it."""
    async with connect(roost, "acme") as ada:
        await ada.call("find", "notes", {})
    _, kind, text = await scrape(roost, Accept="application/openmetrics-text")
    assert kind.startswith("application/openmetrics-text")
    found = [
        sample.exemplar.labels
        for family in parse_open(text)
        for sample in family.samples
        if sample.name == "roost_call_seconds_bucket" and sample.exemplar is not None
    ]
    assert found
    assert {labels["tenant"] for labels in found} == {"acme"}
    assert all(labels["call"] for labels in found)


async def test_metrics_are_not_for_everybody(roosts: StartRoost) -> None:
    open_here = await roosts(trusted_proxies=("127.0.0.1/32",))
    assert (await scrape(open_here))[0] == 200
    status, _, text = await scrape(open_here, **{"X-Forwarded-For": "203.0.113.9"})
    assert (status, "roost_" in text) == (404, False)
    unaware = await roosts()
    for header in ("X-Forwarded-For", "x-real-ip", "Forwarded", "Via"):
        status, _, text = await scrape(unaware, **{header: "203.0.113.9"})
        assert (status, "roost_" in text) == (404, False), "a proxy on this machine speaks for anybody"
    guarded = await roosts(metrics_token=SecretStr(TOKEN))
    for headers in ({}, {"Authorization": "Bearer another"}):
        assert (await scrape(guarded, **headers))[0] == 401
    assert (await scrape(guarded, Authorization=f"Bearer {TOKEN}"))[0] == 200
