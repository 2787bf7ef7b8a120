"""PT-3: two tenants in which everything is called the same. PT-6: calls of many tenants that take turns in one process."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

from server.main import Roost
from tests.conftest import StartRoost
from tests.security.probes import wanderer
from tests.support.client import PASSWORD, Caller, Client, Rest, connect, outcome, rest
from tests.support.placed import raw

TWINS = ("castor", "pollux")
_APP = """
    auth: {username_field: email}
    services:
      notes: {paginate: false, multi: true, rules: {default: public}}
      diary: {rules: {default: {owner_id: $user._id}}, stamp: {owner_id: $user._id}}
"""
APPS = "tenants:\n" + "".join(f"  - id: {id}{_APP}" for id in TWINS)
ID, EMAIL = "65a0000000000000000000aa", "twin@mail.example"


async def twin(roost: Roost, app: str, stack: AsyncExitStack) -> tuple[Client, Rest, dict[str, Any]]:
    """Signs up the one with that e-mail, gives him the id that the other has, and logs him in."""
    from bson import ObjectId

    socket = await stack.enter_async_context(connect(roost, app))
    http = await stack.enter_async_context(rest(roost, app))
    await http.call("create", "users", {"email": EMAIL, "password": f"{PASSWORD}-{app}", "text": app})
    async with raw(roost, app) as database:
        user = await database["users"].find_one_and_delete({"app_id": app, "email": EMAIL})
        await database["users"].insert_one({**user, "_id": {"a": app, "i": ObjectId(ID)}})
    for client in (socket, http):
        await client.login(EMAIL, f"{PASSWORD}-{app}", field="email")
    return socket, http, {"_id": ID, "name": "same", "text": app}


async def test_everything_may_be_called_the_same(roosts: StartRoost) -> None:
    """PT-3: the same user id, e-mail, record ids and names; each finds, changes, hears of and loses his own alone."""
    roost = await roosts(APPS)
    async with AsyncExitStack() as stack:
        twins = {app: await twin(roost, app, stack) for app in TWINS}
        for app, (socket, http, record) in twins.items():
            assert (await http.call("get", "users", ID))["text"] == app
            assert (await http.call("find", "users", {"email": EMAIL}))["total"] == 1
            await socket.call("create", "notes", record)
            await socket.call("create", "diary", record)
        for app, (socket, http, record) in twins.items():
            for caller in (socket, http):
                assert await caller.call("get", "notes", ID) == record
                assert [one["text"] for one in (await caller.call("find", "diary", {"name": "same"}))["data"]] == [app]
            login = {"strategy": "local", "email": EMAIL, "password": f"{PASSWORD}-{_other(app)}"}
            assert (await outcome(http, "create", "authentication", login)).code == 401
            sessions = await http.call("find", "sessions")
            assert len(sessions) == 2
        (castor, _, _), (pollux, http, record) = twins["castor"], twins["pollux"]
        await castor.take_events()
        await pollux.take_events()
        await pollux.call("patch", "notes", ID, {"text": "changed"})
        await pollux.call("remove", "diary", ID)
        await pollux.call("remove", "sessions", None)
        await pollux.login(EMAIL, f"{PASSWORD}-pollux", field="email")
        await pollux.call("remove", "users", ID)
        await castor.quiet()
        assert (await castor.call("get", "notes", ID))["text"] == "castor"
        assert (await castor.call("get", "diary", ID))["text"] == "castor"
        assert (await castor.call("get", "users", ID))["email"] == EMAIL
        assert len(await castor.call("find", "sessions")) == 2
        assert (await outcome(http, "find", "diary")).code == 401


def _other(app: str) -> str:
    return TWINS[1 - TWINS.index(app)]


MANY = [f"tenant-{number:02}" for number in range(20)]
CALLS = 200


async def test_calls_of_many_tenants_take_turns(roosts: StartRoost) -> None:
    """PT-6: 200 calls of 20 tenants, which all let others on at random moments: each is its caller's from end to end."""
    roost = await roosts(
        "tenants:\n" + "".join(f"  - id: {id}{_APP}" for id in MANY), modules=(wanderer.__name__,), model="shared"
    )
    chance = random.Random(5)
    async with AsyncExitStack() as stack:
        people: list[tuple[str, Client, Rest]] = []
        for app in MANY:
            socket = await stack.enter_async_context(connect(roost, app))
            http = await stack.enter_async_context(rest(roost, app))
            await socket.sign_up(f"ada@{app}.example", field="email")
            http.headers["Authorization"] = f"Bearer {socket.token}"
            people.append((app, socket, http))

        async def one(number: int) -> None:
            app, socket, http = people[number % len(people)]
            await asyncio.sleep(chance.random() / 10)
            caller: Caller = socket if chance.random() < 0.5 else http
            answer = await caller.call("create", wanderer.PATH, {"text": f"{app} {number}"})
            assert {*answer["tenants"]} == {app}
            assert answer["user"] == f"ada@{app}.example"
            assert {text.split()[0] for text in answer["texts"]} == {app}
            assert {f"{app} {number} {step}" for step in range(3)} <= {*answer["texts"]}

        await asyncio.gather(*(one(number) for number in range(CALLS)))
        for app, socket, http in people:
            heard = [event for event in await socket.take_events() if event.name == "notes created"]
            assert {event.record["text"].split()[0] for event in heard} == {app}
            assert len(heard) == len(await http.call("find", "notes")) == CALLS // len(MANY) * 3
