"""FEATHERS.md 6.2 and 6.3: channels and publishers of services, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from hooks.context import Connection, HookContext
from hooks.tenant import Tenant
from server.main import Roost
from services.application import Application
from services.channels import Channel
from tests.support.client import Client, Event, connect, fresh, rest


@dataclass(frozen=True)
class House:
    """A server of its own, three sockets of acme and one of globex, with the server's side of each."""

    roost: Roost
    app: Application
    acme: Tenant
    globex: Tenant
    clients: dict[str, Client]
    connections: dict[str, Connection]

    def channel(self, *names: str) -> Channel:
        return self.app.channel(self.acme, *names)

    async def create(self, text: str = "x") -> Any:
        """A public note of acme, made over REST: whatever the sockets hear is due to their channels."""
        async with rest(self.roost, "acme") as maker:
            return await maker.call("create", "notes", {"text": text})

    async def heard(self) -> dict[str, list[Event]]:
        """What came to each socket since the last time, without those that heard nothing."""
        news = {name: await client.take_events() for name, client in self.clients.items()}
        return {name: events for name, events in news.items() if events}


@pytest.fixture
async def house(roost: Roost) -> AsyncIterator[House]:
    arrived: list[Connection] = []
    roost.app.on("connection", arrived.append)
    async with AsyncExitStack() as stack:
        clients, connections = {}, {}
        for name, app_id in (("ada", "acme"), ("bob", "acme"), ("cid", "acme"), ("eve", "globex")):
            clients[name] = await stack.enter_async_context(connect(roost, app_id))
            connections[name] = arrived[-1]
        acme, globex = connections["ada"].tenant, connections["eve"].tenant
        yield House(roost, roost.app, acme, globex, clients, connections)


def to(*names: str) -> Callable[[Any, HookContext], Any]:
    """A publisher that chooses the channels of these names."""
    return lambda record, context: [_app(context).channel(context.tenant, name) for name in names]


def _app(context: HookContext) -> Application:
    assert isinstance(context.app, Application)
    return context.app


# Channels.


async def test_members_join_and_leave_and_empty_channels_disappear(house: House) -> None:
    ada, bob, cid = (house.connections[name] for name in ("ada", "bob", "cid"))
    before = set(house.app.channels.names("acme"))
    channel = house.channel("a")
    assert (len(channel), channel.connections) == (0, [])
    channel.join(ada, None, bob).join(ada)
    assert channel.connections == [ada, bob]
    assert set(house.app.channels.names("acme")) - before == {"a"}
    house.channel("a").leave(bob, cid, None)
    assert channel.connections == [ada]
    channel.join(bob, cid).leave(lambda member: member is not bob)
    assert channel.connections == [bob]
    channel.leave(bob)
    assert set(house.app.channels.names("acme")) == before


async def test_combined_channels_join_and_leave_as_one_and_count_each_member_once(house: House) -> None:
    ada, bob = house.connections["ada"], house.connections["bob"]
    both = house.channel("a", "b")
    both.join(ada)
    house.channel("b").join(bob)
    assert both.connections == [ada, bob]
    assert len(both) == 2
    assert house.channel("a").connections == [ada]
    both.leave(ada)
    assert (len(house.channel("a")), house.channel("b").connections) == (0, [bob])
    assert both.filter(lambda member: member is ada).connections == []


async def test_channels_of_different_tenants_are_different_whatever_their_names(house: House) -> None:
    house.channel("same").join(house.connections["ada"])
    theirs = house.app.channel(house.globex, "same")
    assert theirs.connections == []
    with pytest.raises(ValueError, match="own tenant"):
        theirs.join(house.connections["ada"])
    theirs.leave(house.connections["ada"])
    assert len(house.channel("same")) == 1
    for names in ((), ("",), ("roost:everyone",), ("a", "roost:room:notes x")):
        with pytest.raises(ValueError, match="name"):
            house.channel(*names)


# Publishers.


async def test_only_the_chosen_channel_hears(house: House) -> None:
    house.channel("a").join(house.connections["ada"])
    house.app.publish(to("a"), path="notes")
    made = await house.create()
    assert await house.heard() == {"ada": [Event("notes created", (made,))]}


async def test_the_most_specific_publisher_counts_and_a_second_one_replaces_the_first(house: House) -> None:
    for name in ("ada", "bob", "cid"):
        house.channel(name).join(house.connections[name])
    expected = []
    house.app.publish(to("ada"))
    await house.create()
    expected.append({"ada"})
    house.app.publish(to("bob"), event="created")
    await house.create()
    expected.append({"bob"})
    house.app.publish(to("cid"), path="notes")
    await house.create()
    expected.append({"cid"})
    house.app.publish(to("ada", "bob"), path="notes", event="created")
    await house.create()
    expected.append({"ada", "bob"})
    house.app.publish(to("nobody"), path="notes", event="created")
    await house.create()
    news = await house.heard()
    counts = {name: len(events) for name, events in news.items()}
    assert counts == {name: sum(name in one for one in expected) for name in ("ada", "bob", "cid")}


async def test_a_publisher_may_be_async_and_answer_with_nested_lists_and_none(house: House) -> None:
    house.channel("a").join(house.connections["ada"])
    house.channel("b").join(house.connections["bob"])

    async def publish(record: Any, context: HookContext) -> Any:
        await asyncio.sleep(0)
        return [None, [house.channel("a"), [[house.channel("b")], None]], ()]

    house.app.publish(publish, path="notes")
    await house.create()
    assert set(await house.heard()) == {"ada", "bob"}
    house.app.publish(lambda record, context: None, path="notes")
    await house.create()
    assert await house.heard() == {}


async def test_who_is_in_several_channels_hears_once_with_the_data_of_the_first(house: House) -> None:
    ada, bob = house.connections["ada"], house.connections["bob"]
    house.channel("a").join(ada)
    house.channel("b").join(ada, bob)
    house.app.publish(
        lambda record, context: [house.channel("a").send({"for": "a"}), house.channel("b").send({"for": "b"})],
        path="notes",
    )
    await house.create()
    assert await house.heard() == {
        "ada": [Event("notes created", ({"for": "a"},))],
        "bob": [Event("notes created", ({"for": "b"},))],
    }


async def test_filters_are_asked_when_the_event_is_sent(house: House) -> None:
    everybody = house.channel("a").join(*(house.connections[name] for name in ("ada", "bob", "cid")))
    logged_in = everybody.filter(lambda member: member.user is not None)
    house.app.publish(
        lambda record, context: logged_in.filter(lambda member: member is not house.connections["bob"]), path="notes"
    )
    await house.create()
    assert await house.heard() == {}
    for name in ("ada", "bob"):
        await house.clients[name].sign_up(fresh(name))
    await house.heard()
    await house.create()
    assert set(await house.heard()) == {"ada"}


async def test_a_publisher_that_fails_costs_its_event_alone(house: House) -> None:
    def fail(record: Any, context: HookContext) -> Any:
        if record["text"] == "bad":
            raise RuntimeError("no idea")
        return house.channel("a") if record["text"] == "good" else "no channel"

    house.channel("a").join(house.connections["ada"])
    house.app.publish(fail, path="notes")
    assert (await house.create("bad"))["text"] == "bad"
    assert (await house.create("odd"))["text"] == "odd"
    await house.create("good")
    news = await house.heard()
    assert [event.record["text"] for event in news["ada"]] == ["good"]


async def test_a_channel_of_another_tenant_is_refused(house: House) -> None:
    house.app.channel(house.globex, "a").join(house.connections["eve"])
    house.channel("a").join(house.connections["ada"])
    house.app.publish(lambda record, context: [house.channel("a"), house.app.channel(house.globex, "a")], path="notes")
    await house.create()
    assert await house.heard() == {}


async def test_a_publisher_sees_the_record_and_the_call(house: House) -> None:
    seen: list[tuple[Any, str, str, str | None]] = []

    def publish(record: Any, context: HookContext) -> None:
        seen.append((record["text"], context.path, context.method, context.params.provider))

    house.app.publish(publish, path="notes")
    async with rest(house.roost, "acme") as maker:
        await maker.call("create", "notes", [{"text": "one"}, {"text": "two"}], {"$select": ["_id"]})
    assert seen == [("one", "notes", "create", "rest"), ("two", "notes", "create", "rest")]


# What happens to connections.


async def test_the_channels_of_generated_apps_work(roost: Roost) -> None:
    app = roost.app
    log: list[str] = []
    gone = asyncio.Event()

    def connected(connection: Connection) -> None:
        app.channel(connection.tenant, "anonymous").join(connection)

    def logged_in(result: Any, params: Any) -> None:
        log.append(f"login {result['user']['username']} {params.connection is not None}")
        if params.connection is not None:
            app.channel(params.tenant, "anonymous").leave(params.connection)
            app.channel(params.tenant, "authenticated").join(params.connection)

    async def logged_out(result: Any, params: Any) -> None:
        log.append(f"logout {result['user']['username']}")

    def disconnected(connection: Connection) -> None:
        log.append(f"disconnect {sorted(connection.channels)}")
        gone.set()

    app.on("connection", connected)
    app.on("login", logged_in)
    app.on("logout", logged_out)
    app.on("disconnect", disconnected)
    app.publish(lambda record, context: app.channel(context.tenant, "authenticated"), path="notes")
    app.publish(lambda record, context: app.channel(context.tenant, "anonymous"), path="messages")
    with pytest.raises(ValueError, match="disconnect"):
        app.on("nothing", connected)

    tenant = await roost.catalogue.get("acme")
    assert tenant is not None
    name = fresh("ada")
    async with connect(roost, "acme") as ada, connect(roost, "acme") as stranger:
        assert len(app.channel(tenant, "anonymous")) == 2
        await ada.sign_up(name)
        await ada.take_events()
        assert len(app.channel(tenant, "anonymous")) == len(app.channel(tenant, "authenticated")) == 1
        await ada.call("create", "notes", {"text": "for members"}, {})
        await ada.call("create", "messages", {"text": "for strangers"}, {})
        assert [event.record["text"] for event in await ada.take_events()] == ["for members"]
        assert [event.record["text"] for event in await stranger.take_events()] == ["for strangers"]
        async with rest(roost, "acme") as client:
            await client.login(name)
        assert len(app.channel(tenant, "authenticated")) == 1
        await ada.logout()
        assert len(app.channel(tenant, "authenticated")) == 0
        assert len(app.channel(tenant, "anonymous")) == 1
        await stranger.sio.disconnect()
        async with asyncio.timeout(5):
            await gone.wait()
        assert app.channels.names("acme") == ["roost:everyone"]
    assert log[:4] == [f"login {name} True", f"login {name} False", f"logout {name}", "disconnect []"]


async def test_a_listener_that_fails_costs_the_others_nothing(roost: Roost) -> None:
    heard: list[str] = []

    def fail(connection: Connection) -> None:
        raise RuntimeError("sync")

    async def fail_later(connection: Connection) -> None:
        raise RuntimeError("async")

    for listener in (fail, fail_later, lambda connection: heard.append(connection.tenant.id)):
        roost.app.on("connection", listener)
    async with connect(roost, "acme") as ada:
        assert await ada.call("find", "notes", {}) == []
    assert heard == ["acme"]
