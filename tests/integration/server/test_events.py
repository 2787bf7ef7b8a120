"""FEATHERS.md 6: who hears what, when, and how much of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from hooks.context import Params
from server.main import Roost
from tests.conftest import StartRoost
from tests.support.client import Client, Event, connect, fresh, outcome, rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class People:
    """Two users and a stranger of acme, and a user of globex."""

    ada: Client
    bob: Client
    stranger: Client
    foreigner: Client

    async def all_quiet(self) -> None:
        for person in (self.ada, self.bob, self.stranger, self.foreigner):
            await person.quiet()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(shared: Roost) -> AsyncIterator[People]:
    async with AsyncExitStack() as stack:
        ada, bob, stranger = [await stack.enter_async_context(connect(shared, "acme")) for _ in range(3)]
        foreigner = await stack.enter_async_context(connect(shared, "globex"))
        await ada.sign_up(fresh("ada"))
        await bob.sign_up(fresh("bob"))
        await foreigner.sign_up(f"{fresh()}@globex.example", field="email")
        for person in (ada, bob, stranger, foreigner):
            await person.take_events()
        yield People(ada, bob, stranger, foreigner)


async def test_each_writing_method_is_heard_by_those_who_may_read(people: People) -> None:
    made = await people.ada.call("create", "messages", {"text": "one", "n": 1}, {})
    patched = await people.ada.call("patch", "messages", made["_id"], {"n": 2}, {})
    updated = await people.ada.call("update", "messages", made["_id"], {"text": "two"}, {})
    removed = await people.ada.call("remove", "messages", made["_id"], {})

    expected = [
        Event("messages created", (made,)),
        Event("messages patched", (patched,)),
        Event("messages updated", (updated,)),
        Event("messages removed", (removed,)),
    ]
    assert await people.ada.take_events() == expected
    assert await people.bob.take_events() == expected
    await people.all_quiet()


async def test_a_public_service_is_heard_by_strangers_of_the_same_app_alone(people: People) -> None:
    made = await people.ada.call("create", "notes", {"text": "for all"}, {})

    for person in (people.ada, people.bob, people.stranger):
        assert await person.take_events() == [Event("notes created", (made,))]
    await people.foreigner.quiet()


async def test_the_own_event_comes_before_the_answer(people: People) -> None:
    for _ in range(5):
        before = len(people.ada.events)
        await people.ada.call("create", "notes", {"text": "x"}, {})
        assert len(people.ada.events) == before + 1
    await people.ada.take_events()
    assert len(await people.bob.take_events()) == 5
    await people.stranger.take_events()


async def test_many_records_are_many_events_in_order(people: People) -> None:
    texts = [fresh("row") for _ in range(20)]
    made = await people.ada.call("create", "messages", [{"text": text} for text in texts], {})
    assert await people.bob.take_events() == [Event("messages created", (record,)) for record in made]

    ids = [record["_id"] for record in made]
    query = {"_id": {"$in": ids}, "$sort": {"_id": -1}}
    patched = await people.ada.call("patch", "messages", None, {"n": 5}, query)
    assert [record["_id"] for record in patched] == ids[::-1]
    assert await people.bob.take_events() == [Event("messages patched", (record,)) for record in patched]

    removed = await people.ada.call("remove", "messages", None, query)
    assert await people.bob.take_events() == [Event("messages removed", (record,)) for record in removed]
    assert len(await people.ada.take_events()) == 60
    await people.all_quiet()


async def test_what_changes_nothing_says_nothing(people: People) -> None:
    ada = people.ada
    made = await ada.call("create", "messages", {"text": "x"}, {})
    await ada.take_events()
    await people.bob.take_events()

    assert await ada.call("patch", "messages", None, {"n": 1}, {"text": fresh("none")}) == []
    assert await ada.call("remove", "messages", None, {"text": fresh("none")}) == []
    await ada.call("find", "messages", {})
    await ada.call("get", "messages", made["_id"], {})
    for method, arguments in [
        ("create", ({"text": 5}, {})),
        ("create", ([{"text": "x"}, {}], {})),
        ("patch", (made["_id"], {"n": "x"}, {})),
        ("patch", (made["_id"], {"n": 1}, {"text": "other"})),
        ("update", ("none", {"text": "x"}, {})),
        ("remove", ("none", {})),
        ("create", ({"_id": made["_id"], "text": "twice"}, {})),
    ]:
        assert (await outcome(ada, method, "messages", *arguments)).code >= 400
    assert (await outcome(people.stranger, "create", "messages", {"text": "x"})).code == 401
    await people.all_quiet()


async def test_events_carry_the_whole_record_whatever_the_caller_selects(people: People) -> None:
    cut = await people.ada.call("create", "messages", {"text": "whole", "n": 1}, {"$select": ["n"]})
    assert cut == {"_id": cut["_id"], "n": 1}
    whole = {"_id": cut["_id"], "text": "whole", "n": 1}
    assert [event.record for event in await people.bob.take_events()] == [whole]

    cut = await people.ada.call("patch", "messages", cut["_id"], {"n": 2}, {"$select": ["text"]})
    assert cut == {"_id": cut["_id"], "text": "whole"}
    assert [event.record for event in await people.bob.take_events()] == [{**whole, "n": 2}]

    assert await people.ada.call("remove", "messages", cut["_id"], {"$select": []}) == {"_id": cut["_id"]}
    assert [event.record for event in await people.bob.take_events()] == [{**whole, "n": 2}]
    await people.ada.take_events()


async def test_calls_over_http_are_heard_by_sockets(shared: Roost, people: People) -> None:
    async with rest(shared, "acme") as client:
        made = await client.call("create", "notes", {"text": "by http"})
    assert await people.ada.next_event() == Event("notes created", (made,))
    assert await people.bob.next_event() == Event("notes created", (made,))
    assert await people.stranger.next_event() == Event("notes created", (made,))
    await people.foreigner.quiet()


async def test_what_nobody_may_read_is_heard_by_nobody(shared: Roost, people: People) -> None:
    tenant = shared.catalogue.peek("acme")
    assert tenant is not None
    await shared.app.call("sealed", "create", Params(tenant=tenant), data={"text": "inside"})
    await people.all_quiet()


async def test_calls_of_the_server_itself_are_heard(shared: Roost, people: People) -> None:
    tenant = shared.catalogue.peek("acme")
    assert tenant is not None
    context = await shared.app.call("notes", "create", Params(tenant=tenant), data={"text": "inside"})
    result: Any = context.result
    assert (await people.stranger.next_event()).record == {"_id": str(result["_id"]), "text": "inside"}
    await people.ada.take_events()
    await people.bob.take_events()
    await people.foreigner.quiet()


async def test_logins_are_no_events(people: People) -> None:
    await people.stranger.sign_up(fresh("guest"))
    assert [event.name for event in await people.ada.take_events()] == ["users created"]
    await people.stranger.logout()
    await people.bob.take_events()
    await people.all_quiet()


async def test_a_login_opens_and_a_logout_closes_the_ears(people: People) -> None:
    guest = people.stranger
    await guest.sign_up(fresh("guest"))
    await people.ada.call("create", "messages", {"text": "heard"}, {})
    assert (await guest.next_event()).record["text"] == "heard"

    await guest.logout()
    await people.ada.call("create", "messages", {"text": "not heard"}, {})
    await guest.quiet()
    await people.ada.call("create", "notes", {"text": "for all"}, {})
    assert (await guest.next_event()).record["text"] == "for all"
    await people.ada.take_events()
    await people.bob.take_events()


async def test_a_second_login_does_not_double_events(people: People) -> None:
    name = fresh("twice")
    await people.stranger.sign_up(name)
    await people.stranger.login(name)
    await people.stranger.login_by(people.stranger.token)
    await people.ada.call("create", "messages", {"text": "once"}, {})
    assert [event.record["text"] for event in await people.stranger.take_events()] == ["once"]
    await people.stranger.logout()
    await people.ada.take_events()
    await people.bob.take_events()


async def test_each_socket_hears_one_service_in_the_order_of_its_calls(people: People) -> None:
    for number in range(30):
        await people.ada.call("create", "notes", {"n": number}, {})
    for person in (people.ada, people.bob, people.stranger):
        assert [event.record["n"] for event in await person.take_events()] == [*range(30)]


@pytest.mark.asyncio(loop_scope="function")
async def test_quiet_notices_an_event(roosts: StartRoost) -> None:
    """The proof of the tests above: an event that came too many is seen."""
    roost = await roosts()
    async with connect(roost, "acme") as one, connect(roost, "acme") as two:
        await one.call("create", "notes", {"text": "x"}, {})
        with pytest.raises(AssertionError):
            await two.quiet()


@pytest.mark.asyncio(loop_scope="function")
async def test_a_socket_that_leaves_while_others_speak_harms_nobody(roosts: StartRoost) -> None:
    roost = await roosts()
    async with connect(roost, "acme") as ada:
        async with connect(roost, "acme") as leaver:
            calls = [asyncio.ensure_future(ada.call("create", "notes", {"n": n}, {})) for n in range(50)]
            await leaver.next_event()
        await asyncio.gather(*calls)
        assert len(await ada.take_events()) == 50
    await until(lambda: roost.app.channels.names("acme") == [])
