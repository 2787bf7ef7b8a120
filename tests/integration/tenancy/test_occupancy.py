"""Apps that are switched off, and limits of connections (TENANCY.md TC-8, TC-9)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, cast

import aiohttp
import pytest
import socketio
from pymongo.monitoring import CommandListener, CommandStartedEvent
from yarl import URL

from server.connection import Connection
from server.main import Roost
from server.settings import SettingsError, load
from services.declaration import parse
from services.users import grant
from tests.conftest import StartRoost
from tests.integration.server.command import Server, environment, serving
from tests.support.client import Client, connect, handshake, rest, until
from tests.support.raw_socket import RawSocket
from tests.support.roost import TWO_APPS, settings_for, start_roost
from tests.support.tripwire import Tripwire

SOON = 5.0
"""Seconds in which a switch has to work everywhere."""
FULL = {"reason": "TooManyConnections"}


@pytest.fixture
async def pair(mongod: str, tripwire: Tripwire) -> AsyncIterator[tuple[Roost, Roost]]:
    """Two nodes over one database, which say often what they hold."""
    one = await start_roost(mongod, tripwire=tripwire, heartbeat=2)
    other = await Roost.start(one.settings, listeners=[tripwire])
    yield one, other
    await other.stop()
    await one.drop()


async def configure(roost: Roost, *others: Roost, app: str = "acme", **changes: Any) -> None:
    """Changes an app's configuration, and waits until all servers know it."""
    changed = await roost.backend.configuration.change(app, changes)

    async def all_know() -> bool:
        known = [server.catalogue.peek(app) for server in (roost, *others)]
        return all(tenant is not None and tenant.epoch >= changed.after.epoch for tenant in known)

    await until(all_know)


async def refused(server: Roost | Server, app: str = "acme", *, transport: str = "websocket") -> Any:
    """The data of a handshake's refusal, None if it was let in."""
    kind, payload = await handshake(server, f"appId={app}", transport=transport)
    return None if kind == "connect" else {**payload["data"].get("data", {}), "code": payload["data"]["code"]}


async def test_a_switched_off_app_is_off_everywhere_and_comes_back(pair: tuple[Roost, Roost]) -> None:
    """TC-8: sockets get a last event and are closed within 5 s on every node; new calls and handshakes are 403."""
    one, other = pair
    async with connect(one, "acme") as ada, connect(other, "acme") as eve, connect(other, "globex") as neighbour:
        await asyncio.gather(*(roost.catalogue.get("acme") for roost in pair))
        async with asyncio.timeout(SOON):
            await one.backend.configuration.change("acme", {"is_active": False})
            for client in (ada, eve):
                await client.gone()
                last = await client.next_event()
                assert (last.name, last.record) == ("tenant:inactive", {"reason": "TenantInactive", "state": "ready"})
                assert client.events[client.heard :] == []
        for roost in pair:
            for transport in ("websocket", "polling"):
                assert await refused(roost, transport=transport) == {"reason": "TenantInactive", "code": 403}
            async with rest(roost, "acme") as caller:
                reply = await caller.request("GET", "/notes")
                assert (reply.status, reply.json["data"]) == (403, {"reason": "TenantInactive"})
        await neighbour.quiet()
        assert await neighbour.call("find", "notes", {}) == []
    # Its operators can read and change it all the same, and no restart brings it back.
    assert (await one.backend.configuration.change("acme", {"plan": "large"})).after.plan == "large"
    await one.backend.configuration.change("acme", {"is_active": True})
    for roost in pair:
        await until(partial(_is_let_in, roost), SOON)


async def _is_let_in(roost: Roost) -> bool:
    return await refused(roost) is None


async def test_a_handshake_that_was_under_way_does_not_slip_through(roost: Roost) -> None:
    """TC-8: what was found before the switch is looked at again before the socket is accepted."""
    found = await roost.catalogue.get("acme")
    assert found is not None
    await configure(roost, is_active=False)
    with pytest.raises(Exception, match="switched off"):
        roost.resolver.current(found)


async def test_the_next_one_is_refused_over_all_nodes(pair: tuple[Roost, Roost]) -> None:
    """TC-9: counted over all nodes; 429 in connect_error's data; a place that is left is a place again."""
    one, other = pair
    await configure(one, other, limits={"max_concurrent_connections": 3})
    async with connect(one, "acme"), connect(other, "acme"), AsyncExitStack() as stack:
        third = await stack.enter_async_context(connect(other, "acme"))
        for roost in pair:
            for transport in ("websocket", "polling"):
                answer = await refused(roost, transport=transport)
                assert answer == {**FULL, "limit": 3, "code": 429}
            assert await refused(roost, "globex") is None
        assert await one.slots.total("acme") == 3
        await third.sio.disconnect()
        await until(lambda: _has_total(one, 2))
        async with connect(one, "acme"):
            assert await refused(other) is not None
    await until(lambda: _has_total(one, 0))


async def _has_total(roost: Roost, total: int) -> bool:
    return await roost.slots.total("acme") == total


async def test_many_at_once_get_exactly_as_many_places_as_there_are(pair: tuple[Roost, Roost]) -> None:
    """TC-9: the reservation is atomic."""
    one, other = pair
    await configure(one, other, limits={"max_concurrent_connections": 5})

    async def attempt(roost: Roost, stack: AsyncExitStack) -> bool:
        try:
            await stack.enter_async_context(connect(roost, "acme"))
        except Exception:
            return False
        return True

    async with AsyncExitStack() as stack:
        answers = await asyncio.gather(*(attempt(roost, stack) for roost in pair * 10))
        assert sum(answers) == 5
        assert one.slots.held("acme") + other.slots.held("acme") == await one.slots.total("acme") == 5
    await until(lambda: _has_total(one, 0))


async def test_a_refused_login_takes_no_place(roost: Roost) -> None:
    """TC-9."""
    await configure(roost, limits={"max_concurrent_connections": 1})
    for _ in range(3):
        kind, payload = await handshake(roost, "appId=acme", headers={"Authorization": "Bearer x"})
        assert (kind, payload["data"]["code"]) == ("refused", 401)
    async with connect(roost, "acme"):
        assert await roost.slots.total("acme") == 1


async def test_a_login_that_ends_while_a_slot_is_asked_for_is_none(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TC-9: whoever ends logins finds those of connections that there are, and this is none yet."""
    await configure(roost, limits={"max_concurrent_connections": 5})
    async with rest(roost, "acme") as http, connect(roost, "acme") as bob:
        await http.sign_up("ada")
        await bob.sign_up("bob")
        reserve, tenant = roost.slots.reserve, roost.catalogue.peek("acme")
        assert tenant is not None

        def is_heard() -> bool:
            return any("heard" in one.user.get("permissions", ()) for one in roost.connections.of("acme") if one.user)

        async def reserve_slowly(*arguments: Any) -> None:
            await reserve(*arguments)
            await http.call("remove", "sessions", None, {})
            # What comes after it in the database's stream has been heard: so has it.
            await grant(roost.backend.isolation, tenant, "bob", "heard")
            await until(is_heard)

        monkeypatch.setattr(roost.slots, "reserve", reserve_slowly)
        async with connect(roost, "acme", headers=http.headers):
            users = [None if one.user is None else one.user["username"] for one in roost.connections.of("acme")]
            assert users == ["bob", None]


async def test_a_socket_that_changes_its_transport_counts_once(roost: Roost) -> None:
    """TC-9: an upgrade is no second connection."""
    await configure(roost, limits={"max_concurrent_connections": 1})
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client = Client(
            socketio.AsyncClient(reconnection=False, http_session=cast("Any", session), handle_sigint=False)
        )
        await client.sio.connect(f"{roost.url}?appId=acme")
        stack.push_async_callback(client.sio.disconnect)
        await until(lambda: client.sio.transport() == "websocket")
        assert await client.call("find", "notes", {}) == []
        assert await roost.slots.total("acme") == 1
        assert await refused(roost) is not None


async def test_a_client_that_loses_its_connection_and_comes_back_with_its_session_counts_once(roost: Roost) -> None:
    """TC-9: a poll was broken off without a word; who comes back by the session has it ended, and its place is free at once."""
    await configure(roost, limits={"max_concurrent_connections": 1})
    url = URL(f"{roost.url}/socket.io/?EIO=4&transport=polling&appId=acme")
    async with aiohttp.ClientSession() as http:
        for _ in range(3):
            async with http.get(url) as response:
                sid = json.loads((await response.text())[1:])["sid"]
            own = url.update_query(sid=sid)
            async with http.post(own, data="40") as response:
                assert response.status == 200
            async with http.get(own) as response:
                assert (await response.text()).startswith("40{"), "the place of the one before is free"
            (connection,) = roost.connections.of("acme")
            _, writer = await asyncio.open_connection(own.host, own.port)
            writer.write(f"GET {own.raw_path_qs} HTTP/1.1\r\nHost: {own.authority}\r\n\r\n".encode())
            await until(partial(_is_polled, connection))
            writer.transport.abort()
            assert await roost.slots.total("acme") == 1
            assert await refused(roost) is not None
            async with http.get(own) as response:
                assert response.status == 400
            await until(partial(_has_total, roost, 0))


def _is_polled(connection: Connection) -> bool:
    """Whether a poll of the connection is waiting."""
    carrier: Any = connection.socket.carrier
    return carrier._waiter is not None


async def test_a_socket_whose_transport_is_gone_leaves_its_place_to_the_one_that_comes_back(roost: Roost) -> None:
    """TC-9: a websocket has no session to come back with; its end frees the place, also without a closing handshake."""
    await configure(roost, limits={"max_concurrent_connections": 1})
    for _ in range(3):
        socket = await RawSocket.join(roost.port, x_app_id="acme")
        assert await roost.slots.total("acme") == 1
        assert await refused(roost) is not None
        await socket.abort()

        async def is_free() -> bool:
            return await roost.slots.total("acme") == 0

        await until(is_free)
    assert await refused(roost) is None


async def test_nothing_is_counted_where_there_is_no_limit(mongod: str) -> None:
    """TC-9: nothing on the hot path; a limit that comes later counts those who are there."""
    seen: list[str] = []

    class Ear(CommandListener):
        def started(self, event: CommandStartedEvent) -> None:
            seen.append(str(event.command.get(event.command_name)))

        def succeeded(self, event: Any) -> None:
            """Nothing to see."""

        def failed(self, event: Any) -> None:
            """Nothing to see."""

    roost = await Roost.start(settings_for(mongod, heartbeat=2), parse(TWO_APPS), listeners=[Ear()])
    try:
        seen.clear()
        async with connect(roost, "acme") as ada, connect(roost, "acme"):
            await ada.call("find", "notes", {})
            assert "connection_slots" not in seen
            await configure(roost, limits={"max_concurrent_connections": 2})
            await until(lambda: _has_total(roost, 2))
            assert await refused(roost) is not None
    finally:
        await roost.drop()


async def test_none_plans_and_numbers(roosts: StartRoost) -> None:
    """TC-9: 0 is none at all; without a number the plan's default holds; one that is not named has no limit."""
    roost = await roosts(plan_connections={"small": 1})
    await configure(roost, limits={"max_concurrent_connections": 0})
    assert await refused(roost) == {**FULL, "limit": 0, "code": 429}
    await configure(roost, limits={}, plan="small")
    async with connect(roost, "acme"):
        assert await refused(roost) == {**FULL, "limit": 1, "code": 429}
        await configure(roost, plan="large")
        assert await refused(roost) is None


@pytest.mark.parametrize("plans", ["small", "small=many", "small=-1"])
def test_plans_that_are_none(monkeypatch: pytest.MonkeyPatch, plans: str) -> None:
    """TC-9."""
    monkeypatch.setenv("ROOST_PLAN_CONNECTIONS", plans)
    with pytest.raises(SettingsError, match="ROOST_PLAN_CONNECTIONS"):
        load()
    monkeypatch.setenv("ROOST_PLAN_CONNECTIONS", "small=1, large=20")
    assert load().plan_connections == {"small": 1, "large": 20}


async def test_a_lower_limit_turns_nobody_out_unless_it_is_to(pair: tuple[Roost, Roost]) -> None:
    """TC-9: `enforce: evict_oldest` closes the oldest of each node."""
    one, other = pair
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(roost, "acme")) for roost in (one, other) * 3]
        await configure(one, other, limits={"max_concurrent_connections": 2})
        await until(lambda: _has_total(one, 6))
        assert await refused(one) is not None
        assert all(client.connected for client in clients)
        for client in clients:
            assert await client.call("find", "notes", {}) == []

        limits = {"max_concurrent_connections": 2, "enforce": "evict_oldest"}
        await one.backend.configuration.change("acme", {"limits": limits})
        await until(lambda: _has_total(one, 2))
        await asyncio.gather(*(client.gone() for client in clients[:4]))
        assert [client.connected for client in clients[4:]] == [True, True]


async def test_a_killed_process_gives_its_places_back(mongod: str, tmp_path: Any) -> None:
    """TC-9, TC-14: two real processes; the slots of the one that is killed return, with MongoDB alone."""
    settings = settings_for(mongod)
    file = tmp_path / "apps.yaml"
    file.write_text(TWO_APPS.replace("name: Acme", "name: Acme\n    limits: {max_concurrent_connections: 2}"))
    env = environment(mongod, settings.database, ROOST_HEARTBEAT="2")
    async with serving("--apply", file, env=env) as first, serving(env=env) as second, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(connect(first, "acme"))
        assert await refused(second) == {**FULL, "limit": 2, "code": 429}
        first.process.kill()
        await first.process.wait()
        # The survivor looks for the dead while it holds something itself, or is asked by who wants a place.

        async def is_let_in() -> bool:
            return await refused(second) is None

        await until(is_let_in, 20.0)
    roost = await start_roost(mongod, database=settings.database)
    await roost.drop()
