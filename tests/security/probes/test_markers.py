"""TENANCY RF-9: a random marker in every secret of the control plane is in nothing that comes out while an app uses them all.

Every service is asked, by its declaration among the probes; a new one is covered with it.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bson import json_util
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hooks.errors import FeathersError
from hooks.tenant import Tenant
from server import main
from server.telemetry.traces import Traces
from services.entities.connections import secret_name
from services.entities.records import Entities
from services.entities.registry import CONNECTIONS
from services.mail.message import Mail, MailFailed
from tests.integration.entities.people import HUB, tenant_of
from tests.integration.oauth.browser import Browser, PageError
from tests.security.probes.declarations import PROBES, Probe
from tests.security.probes.probing import record_of
from tests.security.probes.world import Side, World, start_world, stored
from tests.support.client import CallError, outcome

MARKED = "marked"
PAGES = (
    "/openapi.json",
    "/asyncapi.json",
    "/docs",
    "/docs/types.d.ts",
    "/health",
    "/ready",
    "/metrics",
    "/.well-known/jwks.json",
)
ARGUMENTS = {"find": (), "get": ("id",), "remove": ("id",), "patch": ("id", "change"), "update": ("id", "change")}
ENDING = frozenset({"authentication", "sessions", "users", "accounts", "members"})
"""Services whose calls could end the caller's own login; of these, nothing is removed or replaced."""
QUERIES: tuple[dict[str, Any], ...] = (
    {},
    {"$select": ["secrets", "secret", "secret_ref", "options"]},
    {"$effective": True},
)


class Markers:
    """What must not be seen."""

    def __init__(self) -> None:
        self.values: list[str] = []

    def fresh(self) -> str:
        """Another one, to be put into a secret."""
        self.values.append(f"marker-{secrets.token_hex(12)}")
        return self.values[-1]

    def within(self, text: str) -> Iterator[str]:
        """Those that are in a text: as they are, or as something else would write them."""
        for value in self.values:
            raw = value.encode()
            # In base64, what stands before moves the letters: three beginnings are possible.
            coded = [base64.b64encode(b"x" * shift + raw).decode()[4:-4] for shift in range(3)]
            forms = [value, raw.hex(), value[:-4], value[::-1], *coded]
            if any(form in text for form in forms):
                yield value


def test_markers_are_found_in_any_form() -> None:
    """RF-9: the search would find one."""
    markers = Markers()
    value = markers.fresh()
    raw = value.encode()
    basic = base64.b64encode(f"client:{value}".encode()).decode()
    for text in (f"so {value}.", raw.hex(), basic, json.dumps({"a": [value]}), value[:-4] + "****"):
        assert [*markers.within(text)] == [value], text
    assert [*markers.within("marker-")] == []


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The traces of the server."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(main, "Traces", lambda: Traces(provider))
    yield exporter
    provider.shutdown()


@pytest.mark.timeout(300)
async def test_no_secret_of_the_control_plane_comes_out(
    mongod: str, tmp_path: Path, spans: InMemorySpanExporter, capsys: pytest.CaptureFixture[str]
) -> None:
    """RF-9: results, errors, events, documents, metrics, traces, logs, exports, and all that is stored of the app."""
    markers = Markers()
    told: list[str] = []
    async with start_world(mongod, tracing=True, outbound_private=True) as world:
        roost, north = world.roost, world.north
        await plant(world, markers)
        assert len(markers.values) >= 4
        calls = 0
        for transport in ("http", "socket", "manager"):
            for path in sorted(world.registered()):
                calls += await ask_all(world, path, transport, told)
        assert calls > 300
        await use_all(world, told)
        for page in PAGES:
            reply = await north.http.request("GET", f"{page}?appId={north.names.app}")
            told.append(f"{reply.status} {reply.headers} {reply.body.decode()}")
        for side in (north, world.south):
            for client in (side.listener, side.socket):
                told += [json.dumps(event) for event in await client.take_events()]
        kept = json_util.dumps([await stored(roost, side.names.app) for side in (north, world.south)])
        file = tmp_path / "north.export"
        await roost.backend.backup.export(north.names.app, file, lambda *progress: None)
        exported = file.read_bytes().decode(errors="replace")
        traces = str([(span.name, dict(span.attributes or {}), span.events) for span in spans.get_finished_spans()])
        assert [key.app_id for key in roost.backend.providers.kept()].count(north.names.app) == 1, "it was used"
    said = capsys.readouterr()
    outputs = {"told": "\n".join(told), "stored": kept, "exported": exported, "traces": traces}
    outputs |= {"log": said.out + said.err}
    for name, text in outputs.items():
        assert len(text) > 500, name
        assert [*markers.within(text)] == [], name
        assert "PRIVATE KEY" not in text, name


async def plant(world: World, markers: Markers) -> None:
    """Puts a marker into each kind of secret that the control plane can have, and has the north use them."""
    roost, north = world.roost, world.north
    plane = tenant_of(roost, HUB)
    entities, kept = Entities(roost.backend.isolation), roost.backend.secrets
    nowhere = "http://127.0.0.1:9"
    options: dict[str, dict[str, Any]] = {
        "oauth2": {"authorization": nowhere, "token": nowhere, "userinfo": nowhere, "client_id": "hub"},
        "github": {"client_id": "hub"},
        "google": {"client_id": "hub"},
    }
    for strategy, own in options.items():
        record = {"name": f"hub-{strategy}", "strategy": strategy, "options": own, "shareable": True}
        made = await entities.add(plane, CONNECTIONS, {**record, "secrets": {"client_secret": {"set": True}}})
        await kept.put(HUB, secret_name(made["_id"], "client_secret"), markers.fresh())
    await kept.put(HUB, "mail", markers.fresh())
    await kept.put(HUB, "anything", markers.fresh())
    mail = {
        "driver": "smtp",
        "host": "127.0.0.1",
        "port": 9,
        "tls": "none",
        "user": "hub",
        "sender": "post@hub.example",
    }
    providers = {"mail": {**mail, "secret_ref": "mail", "secret_hint": markers.values[-2][-4:], "shareable": True}}
    changed = await roost.backend.configuration.change(HUB, {"providers": providers})
    await roost.catalogue.refresh(changed.after)
    await north.http.call("create", "connections", {"name": MARKED, "strategy": "oauth2"})
    await north.http.call("create", "clients", {"name": MARKED, "callbacks": ["https://north.example/back"]})


async def ask_all(world: World, path: str, transport: str, told: list[str]) -> int:
    """Calls every method of a service in the north, as its administrator or its manager; how many calls there were."""
    side, probe = world.north, PROBES.get(path, Probe())
    place = path if probe.where is None else probe.where(side.names)
    id = await id_of(side, path, place)
    given: dict[str, Any] = {"id": id, "change": probe.change(side.names)}
    arguments: list[Any]
    made, calls = "nothing", 0
    for method in sorted(world.offered(path)):
        if path in ENDING and method in ("remove", "update"):
            continue
        if method in ARGUMENTS:
            # What others need stays: what was just made is removed.
            arguments = [given[name] for name in ARGUMENTS[method]] if method != "remove" else [made]
        else:
            arguments = [probe.calls[method](side.names) if method in probe.calls else probe.data(side.names)]
        for query in QUERIES if method in ("find", "get", "patch") else ({},):
            answer = await outcome(side.caller(transport), method, place, *arguments, query)
            told.append(text_of(answer))
            calls += 1
            if method == "create" and isinstance(answer, dict):
                made = str(answer.get(probe.id, made))
    return calls


async def id_of(side: Side, path: str, place: str) -> str:
    """A record of a service: one that is made, or one that there is already."""
    if path in PROBES:
        try:
            return str((await record_of(side, path))[PROBES[path].id])
        except CallError:
            pass
    found = await outcome(side.http, "find", place)
    records = found.get("data", []) if isinstance(found, dict) else found if isinstance(found, list) else []
    return str(records[0].get("_id", "nothing")) if records else "nothing"


async def use_all(world: World, told: list[str]) -> None:
    """Signs in, mails and tries settings by what the control plane shares: all of it fails, where secrets are in use."""
    roost, north = world.roost, world.north
    async with aiohttp.ClientSession() as session:
        browser = Browser(roost, session)
        address = await browser.begin(north.names.app, MARKED)
        state = address.split("state=")[1].split("&")[0]
        told.append(await browser.come_back(f"{roost.url}/oauth/{MARKED}/callback?code=x&state={state}"))
        for strategy in ("github", "google"):
            await north.http.call("create", "connections", {"name": f"by-{strategy}", "strategy": strategy})
            try:
                told.append(await browser.begin(north.names.app, f"by-{strategy}"))
            except PageError as error:
                told.append(str(error))
        told += browser.told
    grant = {"strategy": "oauth", "provider": MARKED, "code": "x", "code_verifier": "v" * 43}
    for caller in (north.http, north.socket):
        data = {**grant, "redirect_uri": "https://north.example/back"}
        told.append(text_of(await outcome(caller, "create", "authentication", data)))
        told.append(text_of(await outcome(caller, "get", "settings", "current", {"$effective": True})))
        part = {"providers": {"mail": {"driver": "smtp", "secret_ref": "mail"}}}
        told.append(text_of(await outcome(caller, "patch", "settings", "current", part, {"$dry_run": True})))
    told.append(await mail(world, north))
    told.append(repr(roost.backend.providers.kept()))


async def mail(world: World, side: Side) -> str:
    """What is said where a mail of the app cannot be sent."""
    tenant: Tenant = side.tenant()
    try:
        async with world.roost.backend.mailers(tenant) as mailer:
            await mailer.send(Mail("ada@a.example", "Hello", "text"))
    except (MailFailed, FeathersError) as error:
        return f"{error!r} {error.__cause__!r}"
    raise AssertionError("nobody listens there")


def text_of(answer: Any) -> str:
    """An answer or an error as it came."""
    return json.dumps(answer.wire if isinstance(answer, CallError) else answer)
