"""TENANCY TC-10 to TC-12, RF-9, RF-10, RF-12: providers of apps, and the factory of their clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from bson import json_util

from hooks.errors import BadRequest, Unavailable
from server.main import Roost
from services.drivers import Driver, Plan
from services.mail.message import Mail
from tests.integration.mail.smtp_server import PASSWORD, USER, SmtpServer, certificate, smtp_server
from tests.integration.settings.people import (
    TRANSPORTS,
    administrator,
    configure,
    effective,
    new_app,
    own,
    patch,
    refusal,
    tenant_of,
)
from tests.support.client import fresh, until
from tests.support.roost import CONTROL_PLANE, start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
PLATFORM = "no-reply@platform.example"
LONG = "marker-of-a-long-secret"


class Clerk(Driver):
    """A driver of a kind of its own, as a plug-in would bring it; it keeps count of what it makes and gives back."""

    schema: Mapping[str, Any] = {"name": {"type": "string", "required": True}}

    def __init__(self) -> None:
        self.opened: list[Plan] = []
        self.closed: list[str] = []

    async def open(self, plan: Plan) -> str:
        await asyncio.sleep(0)
        if plan.options["name"] == "broken":
            raise RuntimeError(f"no client with {plan.secret}")
        self.opened.append(plan)
        return f"{plan.app_id}:{plan.options['name']}"

    async def close(self, client: str) -> None:
        self.closed.append(client)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clerk() -> Clerk:
    return Clerk()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(mongod: str, tmp_path_factory: pytest.TempPathFactory, clerk: Clerk) -> AsyncIterator[Roost]:
    """A server that may reach this very machine."""
    tripwire = Tripwire()
    data: Path = tmp_path_factory.mktemp("roost")
    roost = await start_roost(mongod, tripwire=tripwire, data=data, outbound_private=True, mail_from=PLATFORM)
    roost.app.drivers.register("clerk", "clerk", clerk)
    yield roost
    await roost.drop()
    assert tripwire.violations == []


def smtp(server: SmtpServer, **more: Any) -> dict[str, Any]:
    """A provider by this server."""
    wanted = {"driver": "smtp", "host": "127.0.0.1", "port": server.port, "tls": "none", "sender": "hello@own.example"}
    return {**wanted, **more}


async def send(roost: Roost, app: str, to: str = "ada@a.example") -> None:
    """Sends a mail of an app, as its jobs do."""
    async with roost.backend.mailers(await tenant_of(roost, app)) as mailer:
        await mailer.send(Mail(to, "Hello", "text"))


def senders(server: SmtpServer) -> list[str | None]:
    """Under which addresses mails have come."""
    return [envelope.mail_from for envelope in server.envelopes]


def files(roost: Roost) -> list[str]:
    """From whom mails in the folder are."""
    return [
        str(message_from_bytes(file.read_bytes())["From"])
        for file in sorted((roost.settings.data / "mail").glob("*.eml"))
    ]


async def secret_names(roost: Roost, app: str) -> list[str]:
    """What secrets an app has, besides that of the place where its data is."""
    placement = (await tenant_of(roost, app)).placement
    return [kept.name for kept in await roost.backend.secrets.names(app) if kept.name != placement.credentials_ref]


@each_transport
async def test_an_app_mails_through_its_own_provider(
    house: Roost, transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TC-10, RF-9: configured by `settings`; the secret is written, used, and read back as a mark alone."""
    context, _ = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    app = await new_app(house)
    async with administrator(house, app, transport) as ada, smtp_server(tls=context, login=True) as server:
        wanted = smtp(server, tls="implicit", user=USER, secret=PASSWORD)
        assert await patch(ada, {"providers": {"mail": wanted}}, **{"$dry_run": True}) != await own(ada)
        answer = await patch(ada, {"providers": {"mail": wanted}})
        shown = {name: value for name, value in wanted.items() if name != "secret"}
        assert answer["providers"]["mail"] == {**shown, "secret": {"set": True, "source": "own"}}
        assert (await own(ada))["providers"] == answer["providers"]
        found = await effective(ada)
        assert found["providers"]["mail"] == {"value": answer["providers"]["mail"], "source": "own"}
        await send(house, app)
        assert senders(server) == ["hello@own.example"]
        entry = house.backend.deployment.client[f"{house.settings.database}_control"]["tenants"]
        assert PASSWORD not in json_util.dumps(await entry.find_one({"_id": app}))


@each_transport
async def test_a_secret_stays_is_cleared_and_is_never_its_mask(house: Roost, transport: str) -> None:
    """RF-10: omitted it stays, null clears it, what is shown in its place is refused; it goes to no other server unasked."""
    app = await new_app(house)
    async with administrator(house, app, transport) as ada, smtp_server() as server:
        await patch(ada, {"providers": {"mail": smtp(server, user="ada", secret=LONG)}})
        shown = (await own(ada))["providers"]["mail"]["secret"]
        assert shown == {"set": True, "hint": LONG[-4:], "source": "own"}
        (first,) = await secret_names(house, app)
        for mask in (shown, LONG[-4:], f"****{LONG[-4:]}", "••••", "", 7):
            error = await refusal(ada, "patch", "settings", "current", {"providers": {"mail": {"secret": mask}}})
            assert error.code == 400, mask
            assert LONG not in str(error.wire)
        await patch(ada, {"providers": {"mail": {"sender": "other@own.example"}}})
        assert (await own(ada))["providers"]["mail"]["secret"] == shown
        assert await secret_names(house, app) == [first]
        for elsewhere in ({"host": "localhost"}, {"port": 25}, {"driver": "log"}):
            error = await refusal(ada, "patch", "settings", "current", {"providers": {"mail": elsewhere}})
            assert (error.code, "providers.mail" in str(error.wire)) == (400, True)
        await patch(ada, {"providers": {"mail": {"secret": "another-long-secret"}}})
        second = {*await secret_names(house, app)} - {first}
        await patch(ada, {"providers": {"mail": {"secret": "a-third-long-secret"}}})
        assert first not in await secret_names(house, app), "what nobody can use any more is gone"
        assert second <= {*await secret_names(house, app)}
        answer = await patch(ada, {"providers": {"mail": {"secret": None, "user": None}}})
        assert "secret" not in answer["providers"]["mail"]
        answer = await patch(ada, {"providers": {"mail": None}})
        assert "providers" not in answer
        assert (await effective(ada))["providers"]["mail"] == {"value": {"set": True}, "source": "default"}


async def test_nobody_sends_as_the_platform(house: Roost) -> None:
    """RF-12: without a provider, under an address of its own below the platform's domain; and as nobody else."""
    app = await new_app(house)
    await send(house, app)
    assert files(house)[-1] == f"no-reply+{app}@platform.example"
    await send(house, CONTROL_PLANE)
    assert files(house)[-1] == PLATFORM
    async with administrator(house, app) as ada, smtp_server() as server:
        for sender in (
            PLATFORM,
            "ceo@platform.example",
            "CEO@Platform.Example",
            "no-reply+other@platform.example",
            "x",
        ):
            wanted = {"providers": {"mail": smtp(server, sender=sender)}}
            assert (await refusal(ada, "patch", "settings", "current", wanted)).code == 400, sender
        await patch(ada, {"providers": {"mail": smtp(server, sender=f"no-reply+{app}@platform.example")}})
        await patch(ada, {"sender_name": "The App"})
        await send(house, app)
        content = server.envelopes[-1].content
        assert isinstance(content, bytes)
        assert message_from_bytes(content)["From"] == f"The App <no-reply+{app}@platform.example>"


async def test_the_control_planes_provider_is_shared_as_a_whole(house: Roost) -> None:
    """RF-8, RF-12: only where it is shared; with those on its list; until it is not; and an app's own counts as a whole."""
    app, other = await new_app(house), await new_app(house)
    async with smtp_server() as hub, smtp_server() as mine, administrator(house, app) as ada:
        provider = smtp(hub, sender="post@hub.example")
        await configure(house, CONTROL_PLANE, providers={"mail": provider})
        try:
            await send(house, app)
            assert senders(hub) == []
            await configure(
                house, CONTROL_PLANE, providers={"mail": {**provider, "shareable": True, "share_with": [app]}}
            )
            await send(house, app)
            await send(house, other)
            await send(house, CONTROL_PLANE)
            assert senders(hub) == [f"post+{app}@hub.example", "post@hub.example"]
            found = (await effective(ada))["providers"]["mail"]
            assert found == {"value": {"set": True}, "source": "control_plane"}
            error = await refusal(ada, "patch", "settings", "current", {"providers": {"mail": {"port": mine.port}}})
            assert error.code == 400, "a part of a provider is none"
            await patch(ada, {"providers": {"mail": smtp(mine)}})
            await send(house, app)
            assert (senders(mine), len(hub.envelopes)) == (["hello@own.example"], 2)
            refused = await refusal(ada, "patch", "settings", "current", {"providers": {"mail": {"shareable": True}}})
            assert refused.code == 400
            await patch(ada, {"providers": {"mail": None}})
            await configure(house, CONTROL_PLANE, providers={"mail": provider})
            await send(house, app)
            assert len(hub.envelopes) == 2
        finally:
            await configure(house, CONTROL_PLANE, providers={})


BAD: list[Any] = [
    {"mail": {"driver": "pigeon"}},
    {"mail": {"host": "mail.example"}},
    {"pigeon": {"driver": "smtp"}},
    {"mail": {"driver": "smtp", "host": "a b", "port": 25, "tls": "none", "sender": "a@b.example"}},
    {"mail": {"driver": "smtp", "host": "m.example", "port": "25", "tls": "none", "sender": "a@b.example"}},
    {"mail": {"driver": "smtp", "host": "m.example", "port": 25, "tls": "none", "sender": "a@b.example", "x": 1}},
    {"mail": {"driver": "smtp", "host": "m.example", "port": 25, "tls": "none", "user": "u", "sender": "a@b.example"}},
    {"mail": {"driver": "log", "secret_ref": "other"}},
    {"mail": "smtp"},
    {},
    [],
]


@each_transport
async def test_what_cannot_work_is_refused_when_it_is_written(house: Roost, transport: str) -> None:
    """TC-10, TC-12: an unknown driver is a 400 at once; nothing is kept, no revision is counted; each mistake has its place."""
    app = await new_app(house)
    before = await tenant_of(house, app)
    async with administrator(house, app, transport) as ada:
        for providers in BAD:
            error = await refusal(ada, "patch", "settings", "current", {"providers": providers})
            assert error.code == 400, providers
        mixed = {"providers": {"mail": {"driver": "log"}}, "locale": {"language": "de"}}
        assert (await refusal(ada, "patch", "settings", "current", mixed)).code == 400
        error = await refusal(ada, "patch", "settings", "current", {"providers": {"mail": {"driver": "pigeon"}}})
        assert error.wire["errors"] == [{"path": "providers.mail.driver", "message": "must be one of log, smtp"}]
        with pytest.raises(BadRequest):
            await house.backend.configuration.change(app, {"providers": {"mail": {"driver": "pigeon"}}})
    assert (await tenant_of(house, app)).settings_rev == before.settings_rev
    assert await secret_names(house, app) == []


async def test_a_dry_run_tries_the_connection(house: Roost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TC-12: a server that is not there, or does not take the login, is told before anything is written."""
    context, _ = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    app, query = await new_app(house), {"$dry_run": True}
    async with administrator(house, app) as ada, smtp_server(tls=context, login=True) as server:
        good = smtp(server, tls="implicit", user=USER, secret=PASSWORD)
        await patch(ada, {"providers": {"mail": good}}, **query)
        for wrong in ({"secret": "another password"}, {"port": 1}, {"tls": "starttls"}):
            wanted = {"providers": {"mail": {**good, **wrong}}}
            error = await refusal(ada, "patch", "settings", "current", wanted, query)
            assert (error.code, error.wire["errors"][0]["path"]) == (400, "providers.mail")
            assert "another password" not in str(error.wire)
        assert await secret_names(house, app) == []
        await patch(ada, {"providers": {"mail": good}})
        await patch(ada, {"providers": {"mail": {"sender": "new@own.example"}}}, **query)
        assert (await own(ada))["providers"]["mail"]["sender"] == "hello@own.example"
        assert server.envelopes == []


async def test_providers_lead_into_no_private_network(mongod: str, tmp_path: Path) -> None:
    """TC-10: hosts that apps name are public ones; those of the operators' own may be private."""
    roost = await start_roost(mongod, data=tmp_path)
    try:
        async with smtp_server() as server, administrator(roost, "acme") as ada:
            error = await refusal(
                ada, "patch", "settings", "current", {"providers": {"mail": smtp(server)}}, {"$dry_run": True}
            )
            assert error.code == 400
            await patch(ada, {"providers": {"mail": smtp(server)}})
            with pytest.raises(Exception, match="Forbidden"):
                await send(roost, "acme")
            await configure(roost, CONTROL_PLANE, providers={"mail": smtp(server, shareable=True)})
            await send(roost, "globex")
            assert senders(server) == ["hello+globex@own.example"]
    finally:
        await roost.drop()


async def test_clients_are_made_once_and_closed_when_nobody_holds_them(house: Roost, clerk: Clerk) -> None:
    """TC-10: kept by app, kind, configuration and secret; built when asked for; the old one is closed when it is idle."""
    app, factory = await new_app(house), house.backend.providers
    await house.backend.secrets.put(app, "clerk", "first")
    await configure(house, app, providers={"clerk": {"driver": "clerk", "name": "one", "secret_ref": "clerk"}})
    made = len(clerk.opened)

    async def take() -> str:
        async with factory.client("clerk", await tenant_of(house, app)) as client:
            return str(client)

    assert {*await asyncio.gather(*(take() for _ in range(50)))} == {f"{app}:one"}
    assert len(clerk.opened) == made + 1
    assert clerk.opened[-1].secret == "first"
    assert "first" not in repr(clerk.opened[-1])
    async with factory.client("clerk", await tenant_of(house, app)) as held:
        await configure(house, app, providers={"clerk": {"driver": "clerk", "name": "two", "secret_ref": "clerk"}})
        assert await take() == f"{app}:two"
        assert clerk.closed == [], "it is in use"
        assert held == f"{app}:one"
    await until(lambda: clerk.closed == [f"{app}:one"])
    # A change of something else makes no other client; a new value of the secret does.
    await configure(house, app, region="eu")
    await take()
    assert len(clerk.opened) == made + 2
    await house.backend.secrets.put(app, "clerk", "second")
    await house.catalogue.refresh((await house.backend.tenants.get(app)) or await tenant_of(house, app))
    await take()
    assert clerk.opened[-1].secret == "second"
    keys = [key for key in factory.kept() if key.app_id == app]
    assert len(keys) == 1
    assert len({*factory.kept()}) == len(factory.kept())


async def test_a_provider_that_fails_concerns_its_app_alone(
    house: Roost, clerk: Clerk, capsys: pytest.CaptureFixture[str]
) -> None:
    """TC-10: 503 for that tenant, others unaffected; what the driver says is not told. No provider at all is a 503 as well."""
    bad, good, none = await new_app(house), await new_app(house), await new_app(house)
    await house.backend.secrets.put(bad, "clerk", "marker-secret")
    await configure(house, bad, providers={"clerk": {"driver": "clerk", "name": "one", "secret_ref": "clerk"}})
    await configure(house, good, providers={"clerk": {"driver": "clerk", "name": "fine"}})
    factory = house.backend.providers
    async with factory.client("clerk", await tenant_of(house, bad)):
        pass
    await configure(house, bad, providers={"clerk": {"driver": "clerk", "name": "broken", "secret_ref": "clerk"}})
    for app in (bad, bad, none):
        with pytest.raises(Unavailable) as refused:
            async with factory.client("clerk", await tenant_of(house, app)):
                pass
        assert "marker" not in str(refused.value)
    async with factory.client("clerk", await tenant_of(house, good)) as client:
        assert client == f"{good}:fine"
    await house.backend.secrets.forget(bad, "clerk")
    await configure(house, bad, providers={"clerk": {"driver": "clerk", "name": "one", "secret_ref": "clerk"}})
    with pytest.raises(Unavailable):
        async with factory.client("clerk", await tenant_of(house, bad)):
            pass
    said = capsys.readouterr()
    assert "marker-secret" not in said.out + said.err


async def test_an_older_snapshot_does_not_bring_back_what_was(house: Roost, clerk: Clerk) -> None:
    """TC-11, CA-5: snapshots only go forward, also for calls that began before a change."""
    app, factory = await new_app(house), house.backend.providers
    await configure(house, app, providers={"clerk": {"driver": "clerk", "name": "old"}})
    before = await tenant_of(house, app)
    await configure(house, app, providers={"clerk": {"driver": "clerk", "name": "new"}})
    for tenant in (await tenant_of(house, app), before):
        async with factory.client("clerk", tenant) as client:
            assert client == f"{app}:new"


async def test_a_provider_is_switched_under_load(house: Roost) -> None:
    """TC-11: from A to B while two servers send; no call fails, and after the bound of 5 s none is on A."""
    app = await new_app(house)
    other = await Roost.start(house.settings.model_copy(update={"port": 0}))
    try:
        async with smtp_server() as a, smtp_server() as b, administrator(house, app) as ada:
            await patch(ada, {"providers": {"mail": smtp(a)}})
            await until(lambda: knows(other, app, a.port))
            running, sent = True, 0

            async def work(roost: Roost) -> None:
                nonlocal sent
                while running:
                    await send(roost, app, f"{fresh('user')}@a.example")
                    sent += 1

            workers = [asyncio.create_task(work(roost)) for roost in (house, other) for _ in range(4)]
            await until(lambda: len(a.envelopes) >= 20)
            await patch(ada, {"providers": {"mail": {"port": b.port}}})
            await until(lambda: knows(house, app, b.port) and knows(other, app, b.port), seconds=5.0)
            in_flight = sent + len(workers)
            await until(lambda: sent >= in_flight)
            left = len(a.envelopes)
            late = len(b.envelopes) + 40
            await until(lambda: len(b.envelopes) >= late)
            running = False
            await asyncio.gather(*workers)
            assert len(a.envelopes) == left
            assert len(a.envelopes) + len(b.envelopes) == sent
    finally:
        await other.stop()


def knows(roost: Roost, app: str, port: int) -> bool:
    """Whether a server knows of the configuration with this port."""
    tenant = roost.catalogue.peek(app)
    return tenant is not None and tenant.providers.get("mail", {}).get("port") == port


async def test_a_change_of_a_provider_is_in_the_log(house: Roost) -> None:
    """TC-12: in the app's log, without the secret."""
    app = await new_app(house)
    async with administrator(house, app) as ada, smtp_server() as server:
        await patch(ada, {"providers": {"mail": smtp(server, user="ada", secret=LONG)}})
    await house.backend.audit.settled()
    log = house.backend.isolation.collection(await tenant_of(house, app), "audit_log")
    (entry,) = await log.find({"event": "settings-changed"})
    changes = {change["setting"]: change["after"] for change in entry["details"]["changes"]}
    assert changes["providers.mail.port"] == server.port
    assert changes["providers.mail.secret"] == "(not shown)"
    assert LONG not in json.dumps(entry, default=str)
