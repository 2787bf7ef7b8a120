"""Rooms: clients choose which of a service's events they hear, as far as its rules let them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from hooks.context import Connection
from server.main import Roost
from services.declaration import DeclarationError, parse
from services.rooms import MAX_ROOMS, join, leave
from tests.support.client import Client, connect, fresh, outcome, rest
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")

DECLARED = """
tenants:
  - id: acme
    services:
      messages: {rooms: {by: room}, rules: {default: authenticated}, multi: true}
      shouts: {rooms: {by: place, join: public}, rules: {default: public}, multi: true}
      secrets: {rooms: {by: room, join: public}, rules: {default: authenticated}}
      closed: {rooms: {by: room, join: nobody}, rules: {default: public}}
      hidden: {rooms: {by: room, join: public}, rules: {create: public}}
      plain: {rules: {default: public}}
  - id: globex
    services:
      shouts: {rooms: {by: place, join: public}, rules: {default: public}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def roomy(mongod: str) -> AsyncIterator[Roost]:
    tripwire = Tripwire()
    roost = await start_roost(mongod, DECLARED, tripwire=tripwire)
    yield roost
    await roost.drop()
    assert tripwire.violations == []


@pytest_asyncio.fixture(loop_scope="module")
async def clients(roomy: Roost) -> AsyncIterator[list[Client]]:
    """Ada and Bob, logged in, and a stranger."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(connect(roomy, "acme")) for _ in range(3)]
        for client in made[:2]:
            await client.sign_up(fresh("user"))
        for client in made:
            await client.take_events()
        yield made


async def texts(client: Client) -> list[str]:
    return [event.record["text"] for event in await client.take_events()]


async def test_events_go_to_the_room_that_the_record_names(clients: list[Client]) -> None:
    ada, bob, stranger = clients
    red = {"_id": "messages/red", "service": "messages", "room": "red"}
    assert await ada.call("create", "rooms", {"service": "messages", "room": "red"}, {}) == red
    assert await bob.call("create", "rooms", {"service": "messages", "room": "blue"}, {}) == {
        **red,
        "_id": "messages/blue",
        "room": "blue",
    }
    made = await bob.call(
        "create",
        "messages",
        [
            {"text": "1", "room": "red"},
            {"text": "2", "room": "blue"},
            {"text": "3"},
            {"text": "4", "room": ["red"]},
            {"text": "5", "room": True},
            {"text": "6", "room": ""},
        ],
        {},
    )
    assert await texts(ada) == ["1"]
    assert await texts(bob) == ["2"]
    await bob.call("patch", "messages", made[0]["_id"], {"text": "7"}, {})
    await bob.call("remove", "messages", made[0]["_id"], {})
    assert [(event.name, event.record["text"]) for event in await ada.take_events()] == [
        ("messages patched", "7"),
        ("messages removed", "7"),
    ]
    for client in (bob, stranger):
        await client.quiet()


async def test_one_finds_and_leaves_ones_own_rooms(clients: list[Client]) -> None:
    ada, bob, _ = clients
    assert await ada.call("find", "rooms", {}) == []
    for room in ("b", "a", "a", 7):
        await ada.call("create", "rooms", {"service": "messages", "room": room}, {})
    found = await ada.call("find", "rooms", {})
    assert [one["_id"] for one in found] == ["messages/7", "messages/a", "messages/b"]
    assert await bob.call("find", "rooms", {}) == []
    assert (await outcome(bob, "remove", "rooms", "messages/a", {})).code == 404
    assert await ada.call("remove", "rooms", "messages/a", {}) == {
        "_id": "messages/a",
        "service": "messages",
        "room": "a",
    }
    assert (await outcome(ada, "remove", "rooms", "messages/a", {})).code == 404
    assert (await outcome(ada, "remove", "rooms", None, {})).code == 404
    await bob.call("create", "messages", [{"text": "1", "room": "a"}, {"text": "2", "room": 7}], {})
    assert await texts(ada) == ["2"]
    await bob.quiet()


async def test_the_rule_says_who_may_join(roomy: Roost, clients: list[Client]) -> None:
    ada, _, stranger = clients
    assert (await outcome(stranger, "create", "rooms", {"service": "messages", "room": "r"}, {})).code == 401
    await stranger.call("create", "rooms", {"service": "shouts", "room": "r"}, {})
    assert (await outcome(ada, "create", "rooms", {"service": "closed", "room": "r"}, {})).code == 403
    for data, code in [
        ({"service": "plain", "room": "r"}, 400),
        ({"service": "none", "room": "r"}, 404),
        ({"service": "messages/x", "room": "r"}, 404),
        ({"service": 5, "room": "r"}, 400),
        ({"service": "messages"}, 400),
        ({"service": "messages", "room": ""}, 400),
        ({"service": "messages", "room": "x" * 257}, 400),
        ({"service": "messages", "room": True}, 400),
        ({"service": "messages", "room": {"$ne": None}}, 400),
        ([{"service": "messages", "room": "r"}], 400),
        (None, 400),
    ]:
        assert (await outcome(ada, "create", "rooms", data, {})).code == code, data
    assert await ada.call("find", "rooms", {}) == []


async def test_a_room_shows_nothing_that_the_read_rule_hides(clients: list[Client]) -> None:
    ada, bob, stranger = clients
    for client in (bob, stranger):
        await client.call("create", "rooms", {"service": "secrets", "room": "r"}, {})
        await client.call("create", "rooms", {"service": "hidden", "room": "r"}, {})
    await ada.call("create", "secrets", {"text": "psst", "room": "r"}, {})
    await ada.call("create", "hidden", {"text": "nobody reads this", "room": "r"}, {})
    assert await texts(bob) == ["psst"]
    await stranger.quiet()
    await ada.quiet()


async def test_a_room_of_another_app_is_another_room(roomy: Roost, clients: list[Client]) -> None:
    ada = clients[0]
    async with connect(roomy, "globex") as eve:
        for client in (ada, eve):
            await client.call("create", "rooms", {"service": "shouts", "room": "r"}, {})
        await ada.call("create", "shouts", {"text": "ours", "place": "r"}, {})
        assert await texts(ada) == ["ours"]
        await eve.quiet()
        assert (await outcome(eve, "create", "rooms", {"service": "messages", "room": "r"}, {})).code == 404


async def test_logging_out_leaves_all_rooms(clients: list[Client]) -> None:
    ada, bob, _ = clients
    for service in ("messages", "shouts"):
        await ada.call("create", "rooms", {"service": service, "room": "r"}, {})
    await ada.logout()
    assert await ada.call("find", "rooms", {}) == []
    await bob.call("create", "shouts", {"text": "x", "place": "r"}, {})
    await ada.quiet()


async def test_a_connection_that_goes_leaves_its_rooms(roomy: Roost) -> None:
    gone = asyncio.Event()
    roomy.app.on("disconnect", lambda connection: gone.set())
    async with connect(roomy, "acme") as ada:
        await ada.call("create", "rooms", {"service": "shouts", "room": "leaving"}, {})
        assert "roost:room:shouts leaving" in roomy.app.channels.names("acme")
    async with asyncio.timeout(5):
        await gone.wait()
    assert "roost:room:shouts leaving" not in roomy.app.channels.names("acme")


async def test_rooms_are_bounded(clients: list[Client]) -> None:
    ada = clients[0]
    for room in range(MAX_ROOMS):
        await ada.call("create", "rooms", {"service": "messages", "room": room}, {})
    refused = await outcome(ada, "create", "rooms", {"service": "messages", "room": "one more"}, {})
    assert (refused.code, str(MAX_ROOMS) in refused.message) == (400, True)
    await ada.call("create", "rooms", {"service": "messages", "room": 5}, {})
    await ada.call("remove", "rooms", "messages/5", {})
    await ada.call("create", "rooms", {"service": "messages", "room": "one more"}, {})


async def test_rooms_need_a_socket(roomy: Roost) -> None:
    async with rest(roomy, "acme") as client:
        await client.sign_up(fresh("ada"))
        for arguments in (("find",), ("create", {"service": "messages", "room": "r"}), ("remove", "messages%2Fr")):
            refused = await outcome(client, arguments[0], "rooms", *arguments[1:])
            assert (refused.code, "socket" in refused.message) == (400, True)


async def test_the_server_itself_lets_into_closed_rooms(roomy: Roost) -> None:
    arrived: list[Connection] = []
    roomy.app.on("connection", arrived.append)
    async with connect(roomy, "acme") as ada:
        join(roomy.app, arrived[-1], "closed", "r")
        await ada.call("create", "closed", {"text": "in", "room": "r"}, {})
        assert await texts(ada) == ["in"]
        leave(roomy.app, arrived[-1], "closed", "r")
        await ada.call("create", "closed", {"text": "out", "room": "r"}, {})
        await ada.quiet()
        with pytest.raises(ValueError, match="room"):
            join(roomy.app, arrived[-1], "closed", "")


@pytest.mark.parametrize(
    ("rooms", "place"),
    [
        ("{by: 5}", "rooms.by"),
        ("{by: a.b}", "rooms.by"),
        ("{by: app_id}", "rooms.by"),
        ("{}", "rooms.by"),
        ("{by: room, join: friends}", "rooms.join"),
        ("{by: room, rule: public}", "rooms.rule"),
    ],
)
async def test_a_declaration_of_rooms_is_checked(rooms: str, place: str) -> None:
    with pytest.raises(DeclarationError, match=place.replace(".", r"\.")):
        parse(f"tenants: [{{id: acme, services: {{messages: {{rooms: {rooms}}}}}}}]")
    with pytest.raises(DeclarationError, match="a path of Roost itself"):
        parse("tenants: [{id: acme, services: {rooms: {}}}]")
