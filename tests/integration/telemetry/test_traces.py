"""Traces (TENANCY OB-3): a span for each call and each command, with the tenant, and nothing that a client sent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server import main
from server.backend import StartError
from server.telemetry.traces import Traces
from services.database.command_spans import CommandSpans
from services.database.deployment import Deployment
from services.store import Namespace
from tests.conftest import StartRoost
from tests.support.client import connect, outcome

CANARY = "canary-in-a-trace"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    provider = TracerProvider()
    monkeypatch.setattr(main, "Traces", lambda: Traces(provider))
    yield provider
    provider.shutdown()


@pytest.fixture
def exporter(provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_spans_carry_their_tenant(roosts: StartRoost, exporter: InMemorySpanExporter) -> None:
    """OB-3: on the root and on the spans of the database."""
    roost = await roosts(tracing=True)
    async with connect(roost, "acme") as ada:
        exporter.clear()
        await ada.call("create", "notes", {"text": CANARY}, {})
        await outcome(ada, "get", "notes", CANARY, {})
    spans = exporter.get_finished_spans()
    roots = [span for span in spans if span.name in ("notes create", "notes get")]
    assert [span.name for span in roots] == ["notes create", "notes get"]
    tenant = await roost.catalogue.get("acme")
    assert tenant is not None
    for root in roots:
        assert root.parent is None
        assert attributes(root)["tenant.id"] == "acme"
        assert attributes(root)["app.epoch"] == tenant.epoch
    assert attributes(roots[1])["roost.error_code"] == 404
    create = roots[0].context
    assert create is not None
    commands = [span for span in spans if span.parent is not None and span.parent.span_id == create.span_id]
    assert commands
    for span in commands:
        assert attributes(span)["tenant.id"] == "acme"
        assert attributes(span)["db.collection.name"] == "notes"
    assert CANARY not in str([(span.name, attributes(span), span.events) for span in spans])


async def test_clients_of_one_server_do_not_end_each_others_spans(
    mongod: str, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """OB-3: apps with a client of their own may be on one server, where the commands of both have the same numbers."""
    spans = CommandSpans(Traces(provider))
    deployments = [Deployment(mongod, path="lean", event_listeners=[spans]) for _ in range(2)]
    try:
        for deployment in deployments:
            await deployment.open()
        exporter.clear()
        await asyncio.gather(
            *(
                deployment.collection(Namespace("spans", f"notes{number}")).count({"n": 1})
                for _ in range(10)
                for number, deployment in enumerate(deployments)
            )
        )
    finally:
        for deployment in deployments:
            await deployment.close()
    names = [attributes(span)["db.collection.name"] for span in exporter.get_finished_spans()]
    assert (names.count("notes0"), names.count("notes1")) == (10, 10)


async def test_without_the_extra_the_start_says_so(roosts: StartRoost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(StartError, match=r"ROOST_TRACING.*install the extra 'tracing'"):
        await roosts(tracing=True)
