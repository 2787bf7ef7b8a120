"""Who x record x rule: find, get, patch, events and the predicate in this process give one and the same answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from hooks.conditions import Conditions
from hooks.context import Params, Record
from hooks.fields import read_fields
from hooks.rules import Rule
from server.main import Roost
from services.audience import may_read
from tests.integration.rules.people import make_user, sockets, tenant_of
from tests.support.client import CallError, Client, connect, outcome
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADA_ID = "65a0000000000000000000aa"
SCHEMA = {
    "ref": {"type": "string", "objectid": True},
    "members": {"type": "array", "items": {"type": "string"}},
    "at": {"type": "string", "format": "date-time"},
    "n": {"type": "number"},
}
RULES: tuple[Rule, ...] = (
    "public",
    "authenticated",
    "nobody",
    {"permission": "read"},
    {"owner": "$user._id"},
    {"ref": "$user._id"},
    {"members": "$user._id"},
    {"team": {"$in": "$user.teams"}},
    {"team": {"$nin": "$user.teams"}},
    {"place.city": "$user.place.city"},
    {"open": True},
    {"$or": [{"open": True}, {"owner": "$user._id"}]},
    {"$or": [{"owner": "$user._id"}, {"members": "$user._id"}, {"team": {"$in": "$user.teams"}}]},
    {"$and": [{"open": {"$ne": True}}, {"team": {"$in": "$user.teams"}}]},
    {"any": [{"permission": "read"}, {"owner": "$user._id"}]},
    {"all": ["authenticated", {"open": True}]},
    {"any": ["authenticated", {"open": True}]},
    {"all": [{"permission": "read"}, {"team": {"$in": "$user.teams"}}]},
    {"owner": {"$ne": "$user._id"}, "n": {"$gte": 2}},
    {"at": {"$lte": "$now"}},
    {"_id": {"$in": "$user.favourites"}},
    {"level": {"$lte": "$user.level"}},
)
RECORDS: tuple[Record, ...] = (
    {"n": 1},
    {"owner": ADA_ID, "ref": ADA_ID, "n": 2, "open": True, "at": "2020-01-01T00:00:00Z"},
    {"owner": "bob", "ref": "65a0000000000000000000bb", "n": 3, "team": "red", "level": 1, "place": {"city": "Rome"}},
    {"_id": "65a0000000000000000000f1", "owner": [ADA_ID, "bob"], "members": ["bob"], "team": None, "level": 9},
    {
        "_id": "note",
        "owner": None,
        "members": [ADA_ID, "carol"],
        "team": "blue",
        "open": True,
        "at": "2999-01-01T00:00:00Z",
    },
    {"_id": "65A0000000000000000000F2", "team": ["red", "green"], "open": "true", "level": [0, 99], "n": 2},
    {"owner": {"id": ADA_ID}, "members": [], "team": ["blue"], "place": [{"city": "Oslo"}, {"city": "Rome"}]},
)
PEOPLE: Mapping[str, Record | None] = {
    "stranger": None,
    "ada": {"_id": ADA_ID, "teams": ["red"], "permissions": ["read"], "place": {"city": "Oslo"}, "level": 1},
    "bob": {"_id": "bob", "teams": [], "favourites": ["note", "65a0000000000000000000f2"], "level": 5},
    "carol": {"_id": "carol", "teams": ["blue", None], "permissions": ["write"], "favourites": [None, 5], "level": "x"},
    "dan": {"_id": "dan", "teams": {"$ne": None}, "permissions": "read", "place": {"city": None}},
}
CONDITIONS = Conditions(read_fields(SCHEMA))


def declared() -> str:
    services = {
        f"s{number}": {
            "schema": SCHEMA, "multi": True, "paginate": {"default": 50, "max": 50}, "rules": {"default": rule}
        }
        for number, rule in enumerate(RULES)
    }  # fmt: skip
    apps = [{"id": id, "services": services} for id in ("acme", "globex")]
    return json.dumps({"tenants": apps})


@dataclass(frozen=True)
class House:
    """A server with a service for each rule, the people of acme, and one of globex who bears Ada's id."""

    roost: Roost
    clients: Mapping[str, Client]
    double: Client

    @property
    def everybody(self) -> list[Client]:
        return [*self.clients.values(), self.double]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(mongod: str) -> AsyncIterator[House]:
    tripwire = Tripwire()
    roost = await start_roost(mongod, declared(), tripwire=tripwire)
    for name, user in PEOPLE.items():
        if user is not None:
            await make_user(roost, "acme", name, **user)
    await make_user(roost, "globex", "double", **(PEOPLE["ada"] or {}))
    async with (
        sockets(roost, "acme", {name: None if user is None else name for name, user in PEOPLE.items()}) as clients,
        connect(roost, "globex") as double,
    ):
        await double.login("double")
        await double.take_events()
        yield House(roost, clients, double)
    await roost.drop()
    assert tripwire.violations == []


async def reached(client: Client, service: str, method: str, *arguments: Any) -> Any:
    """The answer; None when the rule has refused or hidden what was asked for."""
    answer = await outcome(client, method, service, *arguments)
    if isinstance(answer, CallError):
        assert answer.code in (401, 403, 404, 405), answer
        return None
    return answer


async def test_the_matrix_has_cases_enough() -> None:
    assert len(RULES) * len(RECORDS) * len(PEOPLE) >= 500


@pytest.mark.parametrize("number", range(len(RULES)))
async def test_every_way_to_a_record_gives_the_same_answer(house: House, number: int) -> None:
    rule, service = RULES[number], f"s{number}"
    params = Params(tenant=await tenant_of(house.roost, "acme"))
    for given in RECORDS:
        for client in house.everybody:
            await client.take_events()
        record = (await house.roost.app.call(service, "create", params, data={**given})).result
        id = str(record["_id"])
        expected = {who for who, user in PEOPLE.items() if may_read(rule, user, record, CONDITIONS)}
        heard = {who for who, client in house.clients.items() if await client.take_events()}
        assert heard == expected, (rule, given)

        found = {
            who
            for who, client in house.clients.items()
            if any(one["_id"] == id for one in (await reached(client, service, "find", {}) or {"data": []})["data"])
        }
        got = {who for who, client in house.clients.items() if await reached(client, service, "get", id)}
        narrowed = {
            who
            for who, client in house.clients.items()
            if (await reached(client, service, "find", {"_id": id, "$limit": 0}) or {"total": 0})["total"]
        }
        paged = {
            who
            for who, client in house.clients.items()
            if (await reached(client, service, "find", {"_id": id, "$after": None}) or {"data": []})["data"]
        }
        patched = {
            who for who, client in house.clients.items() if await reached(client, service, "patch", id, {"seen": who})
        }
        many = {
            who
            for who, client in house.clients.items()
            if await reached(client, service, "patch", None, {"seen": who}, {"_id": id})
        }
        assert found == got == narrowed == paged == patched == many == expected, (rule, given)

        assert await reached(house.double, service, "get", id) is None
        for client in house.clients.values():
            changes = [event for event in await client.take_events() if event.record["_id"] == id]
            who = next(name for name, one in house.clients.items() if one is client)
            assert len(changes) == (2 * len(expected) if who in expected else 0), (rule, given, who)
        await house.double.quiet()

        removed = {who for who, client in house.clients.items() if await reached(client, service, "remove", id)}
        assert removed == {who for who in [*PEOPLE] if who in expected and who == min(expected, key=[*PEOPLE].index)}
