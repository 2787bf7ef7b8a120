"""LIMITS T1: whatever the north does in between, the south's results, counts, events and errors are those of being alone."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.main import Roost
from tests.security.apps import COLLECTIONS, NORTH, SOUTH, Side, id_of
from tests.support.client import CallError, Client, outcome
from tests.support.placed import raw

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDS = ["one", "two", "65a000000000000000000001"]
SERVICES = ["notes", "codes", "drafts"]
TEXTS = ["red", "blue"]


@dataclass(frozen=True)
class Step:
    """A call of one side."""

    side: str
    method: str
    service: str
    arguments: tuple[Any, ...]

    async def take(self, client: Client) -> Any:
        answer = await outcome(client, self.method, self.service, *self.arguments)
        return answer.wire if isinstance(answer, CallError) else answer


ids = st.sampled_from(IDS)
texts = st.sampled_from(TEXTS)
records = st.fixed_dictionaries({"text": texts, "n": st.integers(0, 3)})
conditions = st.one_of(
    st.just({}),
    st.builds(lambda text: {"text": text}, texts),
    st.builds(lambda n: {"n": {"$gte": n}}, st.integers(0, 3)),
    st.builds(lambda id: {"_id": {"$in": [id, "one"]}}, ids),
    st.builds(lambda id, text: {"$or": [{"_id": id}, {"code": id}, {"text": text}]}, ids, texts),
    st.builds(lambda text: {"text": {"$ne": text}, "$sort": {"n": -1}}, texts),
    st.builds(lambda limit: {"$limit": limit, "$sort": {"text": 1}}, st.integers(0, 2)),
    st.just({"app_id": NORTH}),
    st.just({"$or": [{"app_id": NORTH}]}),
)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    side = draw(st.sampled_from([NORTH, SOUTH]))
    service = draw(st.sampled_from(SERVICES))
    method = draw(st.sampled_from(["find", "get", "create", "create", "update", "patch", "remove"]))
    # A record of `codes` has an `_id` of its own besides, which is another in each run.
    select = {"$select": ["code", "text", "n"]} if service == "codes" else {}
    query = {**draw(conditions), **select}
    match method:
        case "find":
            arguments: tuple[Any, ...] = (query,)
        case "get":
            arguments = (draw(ids), query)
        case "create":
            key = "code" if service == "codes" else "_id"
            arguments = ({key: draw(ids), **draw(records)}, select)
        case "remove":
            arguments = (draw(st.one_of(st.none(), ids)), query)
        case _:
            id = draw(st.one_of(st.none(), ids)) if method == "patch" else draw(ids)
            arguments = (id, draw(records), query)
    return Step(side, method, service, arguments)


async def clear(roost: Roost) -> None:
    for app_id in (NORTH, SOUTH):
        async with raw(roost, app_id) as database:
            for name in COLLECTIONS:
                if name != "users":
                    await database[name].delete_many({"app_id": app_id})


def told(value: Any) -> Any:
    """What was told, without the ids that are made anew in each run."""
    if isinstance(value, dict):
        fresh = "code" in value
        return {key: told(child) for key, child in value.items() if not (fresh and key == "_id")}
    return [told(item) for item in value] if isinstance(value, list | tuple) else value


async def play(roost: Roost, played: list[Step], clients: dict[str, Client]) -> tuple[list[Any], list[Any]]:
    """Takes the steps from nothing; the south's answers and events."""
    await clear(roost)
    for client in clients.values():
        await client.take_events()
    answers = [told(await step.take(clients[step.side])) for step in played]
    south = [answer for step, answer in zip(played, answers, strict=True) if step.side == SOUTH]
    return south, [told(event) for event in await clients[SOUTH].take_events()]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(played=st.lists(steps(), min_size=2, max_size=14))
async def test_the_south_is_as_if_alone(alike: Roost, north: Side, south: Side, played: list[Step]) -> None:
    clients = {NORTH: north.socket, SOUTH: south.socket}
    together = await play(alike, played, clients)
    alone = await play(alike, [step for step in played if step.side == SOUTH], clients)
    assert together == alone


async def test_the_comparison_sees_a_difference(alike: Roost, north: Side, south: Side) -> None:
    """The proof of the test above: a record more or less in the own app is seen."""
    clients = {NORTH: north.socket, SOUTH: south.socket}
    more = Step(SOUTH, "create", "notes", ({"_id": "one", "text": "red"}, {}))
    look = Step(SOUTH, "find", "notes", ({},))
    assert await play(alike, [more, look], clients) != await play(alike, [look], clients)


async def test_calls_side_by_side_keep_their_sides(alike: Roost, north: Side, south: Side) -> None:
    """PT-6: context of one call never shows up in another."""
    await clear(alike)
    chance = random.Random(7)

    async def one(side: Side, number: int) -> None:
        caller = side.caller(chance.choice(["socket", "http"]))
        text = f"{side.app_id}-{number}"
        service = chance.choice(SERVICES)
        record = await caller.call("create", service, {"text": text}, {})
        assert record["text"] == text
        found = await caller.call("find", service, {"text": {"$ne": "none"}, "$limit": 50})
        rows = found["data"] if isinstance(found, dict) else found
        assert {row["text"].split("-")[0] for row in rows} <= {side.app_id}
        assert await caller.call("get", service, id_of(service, record), {}) == record
        assert (await caller.call("get", "users", side.user["_id"], {}))["username"] == side.user["username"]

    await asyncio.gather(*(one(side, number) for number in range(40) for side in (north, south)))
    for side in (north, south):
        assert {event.record["text"].split("-")[0] for event in await side.socket.take_events()} == {side.app_id}
