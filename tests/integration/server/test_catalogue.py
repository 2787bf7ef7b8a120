"""What another process changes in the catalogue reaches a running server, its live sockets included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.backend import Backend, open_backend
from server.main import Roost
from services.control.catalogue import Catalogue
from services.declaration import parse
from tests.support.client import TIMEOUT, Rest, connect, handshake, outcome, rest, until
from tests.support.roost import TWO_APPS

SOON = 3.0
"""Seconds. Less than for how long an unknown app is remembered: it must be forgotten as soon as it is there."""


@pytest.fixture
async def elsewhere(roost: Roost) -> AsyncIterator[Backend]:
    """The backend of another process over the same database."""
    async with open_backend(roost.settings) as backend:
        yield backend


@pytest.fixture
async def client(roost: Roost) -> AsyncIterator[Rest]:
    async with rest(roost, "acme") as client:
        yield client


async def test_a_new_service_is_there_for_open_sockets(roost: Roost, elsewhere: Backend) -> None:
    async with connect(roost, "acme") as ada:
        assert (await outcome(ada, "find", "plans")).code == 404
        extended = TWO_APPS.replace("      sealed:", "      plans: {rules: {default: public}}\n      sealed:")
        changes = await elsewhere.apply(parse(extended))
        assert [(change.tenant, change.outcome) for change in changes] == [("acme", "updated"), ("globex", "unchanged")]

        async def is_there() -> bool:
            return isinstance(await outcome(ada, "find", "plans"), dict)

        await until(is_there, SOON)
        created = await ada.call("create", "plans", {"text": "x"}, {})
        assert (await ada.next_event()).record == created
    async with connect(roost, "globex") as other:
        assert (await outcome(other, "find", "plans")).code == 404


async def test_a_service_that_is_gone_is_gone_for_open_sockets_and_keeps_its_data(
    roost: Roost, elsewhere: Backend
) -> None:
    async with connect(roost, "acme") as ada, connect(roost, "globex") as other:
        kept = await ada.call("create", "notes", {"text": "kept"}, {})
        await ada.next_event()
        (change, _) = await elsewhere.apply(parse(TWO_APPS.replace("      notes:", "      papers:", 1)))
        assert change.withdrawn == ("notes",)

        async def is_gone() -> bool:
            return isinstance(await outcome(ada, "find", "notes"), Exception)

        await until(is_gone, SOON)
        assert (await outcome(ada, "get", "notes", kept["_id"])).code == 404
        assert await other.call("find", "notes") == []
        await elsewhere.apply(parse(TWO_APPS))
        await until(lambda: _is_list(ada), SOON)
        assert await ada.call("get", "notes", kept["_id"]) == kept


async def _is_list(client: object) -> bool:
    return isinstance(await outcome(client, "find", "notes"), list)  # type: ignore[arg-type]


async def test_changed_rules_hold_for_calls_and_events_of_open_sockets(roost: Roost, elsewhere: Backend) -> None:
    async with connect(roost, "acme") as ada, connect(roost, "acme") as stranger:
        await ada.sign_up("ada")
        await stranger.take_events()
        await ada.call("create", "messages", {"text": "before"}, {})
        await stranger.quiet()
        opened = TWO_APPS.replace("rules: {default: authenticated}", "rules: {default: public}", 1)
        await elsewhere.apply(parse(opened))

        async def is_open() -> bool:
            return isinstance(await outcome(stranger, "find", "messages"), dict)

        await until(is_open, SOON)
        await ada.call("create", "messages", {"text": "after"}, {})
        assert (await stranger.next_event()).record["text"] == "after"

        await elsewhere.apply(parse(TWO_APPS))

        async def is_closed() -> bool:
            return isinstance(await outcome(stranger, "find", "messages"), Exception)

        await until(is_closed, SOON)
        await ada.call("create", "messages", {"text": "again"}, {})
        await stranger.quiet()


async def test_a_new_app_may_be_connected_to_at_once(roost: Roost, elsewhere: Backend, client: Rest) -> None:
    assert (await handshake(roost, "appId=initech"))[0] == "refused"
    assert "initech" not in roost.catalogue.known()
    await elsewhere.apply(parse("tenants: [{id: initech, services: {notes: {rules: {default: public}}}}]"))

    async def is_known() -> bool:
        return (await handshake(roost, "appId=initech"))[0] == "connect"

    await until(is_known, SOON)
    async with connect(roost, "initech") as ada:
        await ada.sign_up("ada")
        assert (await ada.call("find", "users"))["total"] == 1


async def test_changed_origins_hold_for_handshakes_and_requests(roost: Roost, elsewhere: Backend, client: Rest) -> None:
    old, new = "http://localhost:3030", "https://app.example"

    async def is_let_in(origin: str) -> bool:
        kind, _ = await handshake(roost, "appId=acme", headers={"Origin": origin})
        status = (await client.request("GET", "/notes", headers={"Origin": origin})).status
        assert (kind, status) in (("connect", 200), ("turned away", 403))
        return kind == "connect"

    assert await is_let_in(old)
    assert not await is_let_in(new)
    await elsewhere.apply(parse(TWO_APPS.replace(old, new)))
    await until(lambda: is_let_in(new), SOON)
    assert not await is_let_in(old)


async def test_another_way_to_log_in_holds_at_once(roost: Roost, elsewhere: Backend) -> None:
    async with connect(roost, "acme") as ada:
        await ada.sign_up("ada@acme.example")
        await elsewhere.apply(parse(TWO_APPS.replace("name: Acme", "name: Acme\n    auth: {username_field: email}")))

        async def is_by_email() -> bool:
            data = {"strategy": "local", "email": "ada@acme.example", "password": "secret-123"}
            return isinstance(await outcome(ada, "create", "authentication", data), dict)

        await until(is_by_email, SOON)


async def test_pages_and_schemas_change_too(roost: Roost, elsewhere: Backend) -> None:
    async with connect(roost, "acme") as ada:
        await ada.sign_up("ada")
        await ada.call("create", "messages", [{"text": "x"}] * 20, {})
        changed = TWO_APPS.replace("default: 10, max: 50", "default: 3, max: 5").replace("n: {type", "m: {type")
        await elsewhere.apply(parse(changed))

        async def is_short() -> bool:
            return len((await ada.call("find", "messages", {}))["data"]) == 3

        await until(is_short, SOON)
        assert len((await ada.call("find", "messages", {"$limit": 50}))["data"]) == 5
        assert (await outcome(ada, "create", "messages", {"text": "x", "m": "no number"})).code == 400
        assert (await ada.call("create", "messages", {"text": "x", "n": "any"}, {}))["n"] == "any"


async def test_the_watch_ends_whenever_it_is_stopped(roost: Roost) -> None:
    """The driver swallows a cancellation that comes while it opens a connection: one alone would be lost."""
    for step in range(30):
        async with open_backend(roost.settings, joins=False) as backend:
            catalogue = Catalogue(backend.deployment, database=roost.settings.database)
            await catalogue.start()
            await asyncio.sleep(step * 0.0005)
            async with asyncio.timeout(TIMEOUT) as limit:
                await catalogue.stop()
            assert not limit.expired()
