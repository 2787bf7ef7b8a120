"""LIMITS A10: nothing that a client sends makes its call one of the server's own, or another's, by either transport."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import quote

import pytest

from hooks.context import Params
from server.main import Roost
from services.base import Service
from tests.security.apps import NORTH
from tests.support.client import connect, outcome, query_string, rest

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS = 500
METHODS = ("find", "get", "create", "update", "patch", "remove", "echo")
NAMES = (
    "provider params connection authenticated authentication user token tenant app_id appId headers route query guard verify "
    "address internal strategy payload permissions scopes is_system _internal mongodb adapter"
).split()
VALUES: tuple[Any, ...] = (
    None,
    "",
    "null",
    "None",
    "undefined",
    "internal",
    "server",
    False,
    True,
    0,
    [],
    {},
    [None],
    {"provider": None},
    {"params": {"provider": None, "authenticated": True, "user": {"_id": "x", "permissions": ["admin"]}}},
)


class Spy(Service):
    """Keeps the params of each call as they reach a service."""

    multi = True

    def __init__(self) -> None:
        self.seen: list[Params] = []

    async def find(self, params: Params) -> Any:
        return self._keep(params)

    async def get(self, id: Any, params: Params) -> Any:
        return self._keep(params)

    async def create(self, data: Any, params: Params) -> Any:
        return self._keep(params)

    async def update(self, id: Any, data: Any, params: Params) -> Any:
        return self._keep(params)

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        return self._keep(params)

    async def remove(self, id: Any, params: Params) -> Any:
        return self._keep(params)

    async def echo(self, data: Any, params: Params) -> Any:
        return self._keep(params)

    def _keep(self, params: Params) -> dict[str, str]:
        self.seen.append(params)
        return {"heard": "yes"}


@pytest.fixture(scope="module")
def spy(alike: Roost) -> Spy:
    """The one service of the kind that the server has."""
    spy = Spy()
    alike.app.use("spy", spy, methods=METHODS, rules="public")
    return spy


def attack(chance: random.Random) -> dict[str, Any]:
    """A few of the names by which the server itself knows callers, with values that could open a door."""
    return {name: chance.choice(VALUES) for name in chance.sample(NAMES, chance.randint(1, 6))}


def is_strangers(params: Params, transport: str) -> bool:
    """Whether a call is what it should be: of somebody on that transport whom nobody knows."""
    return (
        params.provider == transport
        and params.tenant.id == NORTH
        and (params.user, params.authentication, params.authenticated) == (None, None, False)
        and params.guard is None
        and params.verify is None
    )


async def test_a10_no_packet_is_a_call_of_the_servers_own(alike: Roost, spy: Spy) -> None:
    """A10: fuzzed arguments of the socket's calls: data, query, further arguments, and all of them at once."""
    chance = random.Random(4711)
    spy.seen.clear()
    async with connect(alike, NORTH) as client:
        for _ in range(ROUNDS):
            method, odd = chance.choice(METHODS), [attack(chance) for _ in range(4)]
            id = chance.choice(["x", "provider", json.dumps(odd[3])[:200]])
            shapes: list[list[Any]] = [
                [id, odd[0], odd[1]] if method in ("update", "patch") else [odd[0], odd[1]],
                [id, odd[0]],
                [{"query": odd[0], **odd[1]}, odd[2]],
                [id, {"data": 1}, odd[0], odd[1], odd[2]],
            ]
            await outcome(client, method, "spy", *chance.choice(shapes))
    assert len(spy.seen) > ROUNDS // 4, "enough of them reach the service"
    assert [params for params in spy.seen if not is_strangers(params, "socketio")] == []


async def test_a10_no_request_is_a_call_of_the_servers_own(alike: Roost, spy: Spy) -> None:
    """A10: fuzzed headers, query strings, paths and bodies of requests."""
    chance = random.Random(4712)
    spy.seen.clear()
    async with rest(alike, NORTH) as client:
        for _ in range(ROUNDS):
            odd = attack(chance)
            verb = chance.choice(["GET", "POST", "PUT", "PATCH", "DELETE"])
            # The app itself must stay: a request that names another is another's.
            headers = {
                f"{chance.choice(['', 'X-', 'X-Feathers-', 'Feathers-'])}{name.replace('_', '-')}": str(value)
                for name, value in odd.items()
                if name not in ("appId", "app_id", "connection", "token")
            }
            if verb == "POST" and chance.random() < 0.4:
                headers["X-Service-Method"] = chance.choice(["echo", "provider", "setup", "_keep", "__init__"])
            path = chance.choice(["/spy", "/spy/x", f"/spy/{quote(json.dumps(odd)[:100], safe='')}", "/spy/provider"])
            query = chance.choice(["", query_string(odd), query_string({"params": odd}), "provider=", "provider"])
            body = chance.choice([None, odd, [odd], {"params": odd}, {"query": odd}])
            await client.request(verb, f"{path}?{query}" if query else path, body, headers=headers)
    assert len(spy.seen) > ROUNDS // 4, "enough of them reach the service"
    assert [params for params in spy.seen if not is_strangers(params, "rest")] == []


async def test_a10_a_call_of_the_servers_own_would_be_seen(alike: Roost, spy: Spy) -> None:
    """A10's control: what the server calls itself has no provider, and the comparison tells."""
    tenant = alike.catalogue.peek(NORTH)
    assert tenant is not None
    await alike.app.call("spy", "find", Params(tenant=tenant))
    assert spy.seen[-1].provider is None
    assert not is_strangers(spy.seen[-1], "rest")
