"""More than one node: events of each reach the sockets of all, those who may hear of them and nobody else, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from bson import ObjectId
from pydantic import SecretStr
from pymongo import WriteConcern

from hooks.context import HookContext
from hooks.errors import Unavailable
from server.backend import StartError
from server.main import Roost
from services.bus.envelope import Envelope, unseal
from services.bus.outgoing import Outgoing, Sealed
from services.control.bus import COLLECTION, MongoBus
from services.control.tenants import control_database
from tests.conftest import StartRoost
from tests.support.client import Client, connect, outcome, until
from tests.support.redis import redis_server

APPS = """
tenants:
  - id: acme
    services:
      notes: {rules: {default: public}, multi: true}
      diary:
        hidden: [mood]
        rules:
          default: {any: [{public: true}, {owner_id: "$user._id"}]}
        stamp: {owner_id: "$user._id"}
      talks:
        rooms: {by: room, join: public}
        rules: {default: public}
  - id: globex
    services:
      notes: {rules: {default: public}}
"""
CANARY = "hidden-canary"


@pytest.fixture(params=["mongodb", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Any]]:
    """The settings of a bus."""
    if request.param == "mongodb":
        yield {}
        return
    with redis_server() as url:
        yield {"bus": SecretStr(url)}


async def two(roosts: StartRoost, **settings: Any) -> tuple[Roost, Roost]:
    """Two nodes of one database."""
    database = f"t{uuid4().hex[:12]}"
    here = await roosts(APPS, database=database, **settings)
    there = await roosts(APPS, database=database, **settings)
    return here, there


def heard(client: Client, prefix: str = "") -> list[tuple[str, Any]]:
    return [(event.name, event.record) for event in client.events if event.name.startswith(prefix)]


async def test_events_reach_the_sockets_of_other_nodes(roosts: StartRoost, bus: dict[str, Any]) -> None:
    here, there = await two(roosts, **bus)
    async with connect(here, "acme") as ada, connect(there, "acme") as bob, connect(there, "globex") as eve:
        made = await ada.call("create", "notes", {"text": "hello"}, {})
        await until(lambda: bool(heard(bob, "notes")))
        await bob.call("patch", "notes", made["_id"], {"text": "hi"}, {})
        await until(lambda: len(heard(bob, "notes")) == len(heard(ada, "notes")) == 2)
        wanted = [("notes created", made), ("notes patched", {**made, "text": "hi"})]
        assert heard(ada, "notes") == heard(bob, "notes") == wanted, "each once, on either node"
        await ada.call("remove", "notes", None, {"_id": made["_id"]})
        await until(lambda: len(heard(bob, "notes")) == 3)
        assert heard(eve) == []


async def test_the_rule_of_get_decides_on_every_node(roosts: StartRoost, bus: dict[str, Any]) -> None:
    """Who may not get a record hears nothing; whose sight it leaves hears `removed`, with the id alone."""
    here, there = await two(roosts, **bus)
    async with connect(here, "acme") as ada, connect(there, "acme") as ada_too, connect(there, "acme") as bob:
        await ada.sign_up("ada")
        await ada_too.login("ada")
        await bob.sign_up("bob")
        for client in (ada, ada_too, bob):
            await client.take_events()
        made = await ada.call("create", "diary", {"text": "secret", "public": False, "mood": CANARY}, {})
        await ada.call("patch", "diary", made["_id"], {"public": True}, {})
        await ada.call("patch", "diary", made["_id"], {"public": False}, {})
        await until(lambda: len(heard(ada_too, "diary")) == 3 and len(heard(bob, "diary")) == 2)
        assert [name for name, _ in heard(ada_too, "diary")] == ["diary created", "diary patched", "diary patched"]
        assert [name for name, _ in heard(bob, "diary")] == ["diary patched", "diary removed"]
        assert heard(bob, "diary")[1][1] == {"_id": made["_id"]}
        assert CANARY not in str([*ada.events, *ada_too.events, *bob.events])


async def test_hidden_fields_do_not_leave_the_node(roosts: StartRoost) -> None:
    here, there = await two(roosts)
    async with connect(here, "acme") as ada, connect(there, "acme") as bob:
        await ada.sign_up("ada", "a long password")
        await ada.call("create", "diary", {"text": "open", "public": True, "mood": CANARY}, {})
        await until(lambda: bool(heard(bob, "diary")))
    posted = here.backend.deployment.client[control_database(here.settings.database)][COLLECTION]
    bodies = [bytes(event["body"]) async for event in posted.find()]
    assert bodies
    assert not any(CANARY.encode() in body or b"argon2" in body for body in bodies)


async def test_rooms_and_publishers_work_on_every_node(roosts: StartRoost) -> None:
    here, there = await two(roosts)

    def tell_some(record: Any, context: HookContext) -> Any:
        return node.app.channel(context.tenant, "some")

    async with connect(here, "acme") as ada, connect(there, "acme") as bob, connect(there, "acme") as eve:
        await bob.call("create", "rooms", {"service": "talks", "room": "blue"})
        await ada.call("create", "talks", {"room": "blue", "n": 1}, {})
        await ada.call("create", "talks", {"room": "red", "n": 2}, {})
        await until(lambda: bool(heard(bob, "talks")))
        for node in (here, there):
            node.app.publish(tell_some, path="notes")
        chosen = next(one for one in there.connections.of("acme"))
        tenant = chosen.tenant
        node = there
        there.app.channel(tenant, "some").join(chosen)
        await ada.call("create", "notes", {"n": 3}, {})
        await until(lambda: any(heard(client, "notes") for client in (bob, eve)))
        assert [record["n"] for _, record in heard(bob, "talks")] == [1]
        assert heard(eve, "talks") == []
        assert sum(len(heard(client, "notes")) for client in (ada, bob, eve)) == 1


async def test_events_of_a_node_arrive_in_order(roosts: StartRoost, bus: dict[str, Any]) -> None:
    here, there = await two(roosts, **bus)
    async with connect(here, "acme") as ada, connect(there, "acme") as bob:
        for start in range(0, 300, 50):
            await asyncio.gather(*(ada.call("create", "notes", {"n": n}, {}) for n in range(start, start + 50)))
        await until(lambda: len(heard(ada, "notes")) == len(heard(bob, "notes")) == 300, 20)
        assert heard(bob, "notes") == heard(ada, "notes")


async def test_a_node_alone_sends_nothing(roosts: StartRoost) -> None:
    roost = await roosts(APPS)
    async with connect(roost, "acme") as ada:
        await ada.call("create", "notes", {"n": 1}, {})
    posted = roost.backend.deployment.client[control_database(roost.settings.database)][COLLECTION]
    assert await posted.count_documents({}) == 0


async def test_a_node_that_joins_misses_nothing_from_its_first_socket_on(roosts: StartRoost) -> None:
    database = f"t{uuid4().hex[:12]}"
    here = await roosts(APPS, database=database)
    async with connect(here, "acme") as ada:
        going = True

        async def write() -> None:
            n = 0
            while going:
                await ada.call("create", "notes", {"n": n}, {})
                n += 1

        writing = asyncio.create_task(write())
        there = await roosts(APPS, database=database)
        async with connect(there, "acme") as bob:
            first = len(heard(ada, "notes"))
            await until(lambda: len(heard(ada, "notes")) > first + 50)
            going = False
            await writing
            last = heard(ada, "notes")[-1][1]["n"]
            await until(lambda: bool(heard(bob, "notes")) and heard(bob, "notes")[-1][1]["n"] == last)
            numbers = [record["n"] for _, record in heard(bob, "notes")]
            assert numbers == [*range(numbers[0], last + 1)]
            assert numbers[0] <= first


async def test_what_cannot_be_sent_waits_in_order_and_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    up = False

    async def send(events: Any) -> None:
        if not up:
            raise Unavailable
        sent.extend(unseal(event.body).record["n"] for event in events)

    monkeypatch.setattr("services.bus.outgoing.PAUSE", 0.01)
    monkeypatch.setattr("services.bus.outgoing.MOST", 100)
    monkeypatch.setattr("services.bus.outgoing.BATCH", 7)
    outgoing = Outgoing(send)
    outgoing.start()
    for n in range(150):
        outgoing.add(Envelope("acme", "notes", "created", {"n": n}, {}))
        await asyncio.sleep(0)
    up = True
    await outgoing.stop()
    assert sent[-100:] == [*range(50, 150)]
    assert sent == sorted(sent)
    assert outgoing.lost == 150 - len(sent)
    outgoing.add(Envelope("acme", "notes", "created", {"n": object()}, {}))


async def test_an_event_that_can_never_travel_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """One app's record near the largest that MongoDB keeps, and a fault nobody has thought of, stop no other app's events."""
    sent: list[str] = []
    faults: list[Exception] = [IndexError("nobody has thought of this")]

    async def send(events: Any) -> None:
        if faults:
            raise faults.pop()
        sent.extend(event.app_id for event in events)

    monkeypatch.setattr("services.bus.outgoing.PAUSE", 0.01)
    monkeypatch.setattr("services.bus.outgoing.LARGEST", 1000)
    outgoing = Outgoing(send)
    outgoing.start()
    outgoing.add(Envelope("acme", "notes", "patched", {"text": "x" * 1000}, {}))
    outgoing.add(Envelope("globex", "notes", "created", {"n": 1}, {}))
    await outgoing.stop()
    assert (sent, faults) == (["globex"], [])


async def test_what_no_majority_has_confirmed_is_sent_again(roosts: StartRoost) -> None:
    """As in a failover: the error names no event, and none of them is taken for sent."""
    roost = await roosts(APPS)

    class Doubtful(MongoBus):
        @property
        def _events(self) -> Any:
            return super()._events.with_options(write_concern=WriteConcern(w=2, wtimeout=50))

    bus = Doubtful(roost.backend.deployment, roost.backend.nodes, database=roost.settings.database)
    body = Envelope("acme", "notes", "created", {"n": 1}, {}).seal()
    with pytest.raises(Unavailable):
        await bus._send([Sealed(ObjectId(), 1, "acme", body)])


@pytest.mark.parametrize("body", [b"", b"x", b"\x05\x00\x00\x00\x00"])
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="no event"):
        unseal(body)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"body": None},
        {"body": 10**12},
        {"body": "text"},
        {"body": [1]},
        {"body": b"x"},
        {"body": b"0" * 16_777_120},
    ],
    ids=["nothing", "null", "number", "text", "list", "bytes", "too large to be told"],
)
async def test_what_is_no_event_does_not_make_a_node_deaf(roosts: StartRoost, document: dict[str, Any]) -> None:
    """Of another version, or of whoever can write to the database."""
    here, there = await two(roosts)
    events = here.backend.deployment.client[control_database(here.settings.database)][COLLECTION]
    async with connect(here, "acme") as ada, connect(there, "acme") as bob:
        await events.insert_one({"app_id": "acme", **document})

        async def is_heard() -> bool:
            await ada.call("create", "notes", {"text": "hello"}, {})
            return bool(heard(bob, "notes"))

        await until(is_heard, 15)


async def test_a_bus_that_cannot_work_is_told_at_the_start(roosts: StartRoost) -> None:
    with pytest.raises(StartError, match="ROOST_BUS"):
        await roosts(APPS, bus=SecretStr("amqp://127.0.0.1"))


async def test_logins_and_limits_hold_over_nodes(roosts: StartRoost) -> None:
    """Revocations are shared: a log-out everywhere on one node reaches the other."""
    here, there = await two(roosts)
    async with connect(here, "acme") as ada, connect(there, "acme") as ada_too:
        await ada.sign_up("ada")
        await ada_too.login("ada")
        await ada.call("remove", "sessions", None, {})

        async def out() -> bool:
            return getattr(await outcome(ada_too, "find", "sessions", {}), "code", 0) == 401

        await until(out)
