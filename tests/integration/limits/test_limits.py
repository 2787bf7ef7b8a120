"""Limits through a whole server: both transports, live changes, clear answers, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server import connections
from server.main import Roost
from services.declaration import DeclarationError, parse
from tests.conftest import StartRoost
from tests.support.client import CallError, connect, handshake, outcome, rest, until

APPS = """
tenants:
  - id: acme
    limits:
      rates:
        event: {tenant: {limit: 20, seconds: 1000}}
        http: {address: {limit: 5, seconds: 1000}}
        connect: {tenant: {limit: 4, seconds: 1000}}
    services: {notes: {rules: {default: public}}}
  - id: mixed
    limits: {rates: {event: {tenant: {limit: 12, seconds: 1000}}, write: {tenant: {limit: 3, seconds: 1000}}}}
    services: {notes: {rules: {default: public}}}
  - id: billed
    limits: {quotas: {calls: 8, writes: 3}}
    services: {notes: {rules: {default: public}}}
  - id: chatty
    limits: {rates: {broadcast: {tenant: {limit: 6, seconds: 1000}}}}
    services: {notes: {rules: {default: public}}}
  - id: globex
    services: {notes: {rules: {default: public}}}
"""


@pytest.fixture
async def served(roosts: StartRoost) -> Roost:
    return await roosts(APPS)


async def calls(client: Any, times: int, *call: Any) -> list[Any]:
    return [await outcome(client, *call) for _ in range(times)]


async def test_calls_above_the_rate_are_refused_over_both_transports(served: Roost) -> None:
    """RL-1: 429 with `retry_after`, and the header over REST; another tenant is not disturbed."""
    async with connect(served, "acme") as ada, connect(served, "globex") as eve:
        answers = await calls(ada, 25, "find", "notes", {})
        refused = [answer for answer in answers if isinstance(answer, CallError)]
        assert [answer.code for answer in refused] == [429] * 5
        assert refused[0].data["reason"] == "RateLimited"
        assert refused[0].data["retry_after"] > 0
        assert not any(isinstance(answer, CallError) for answer in await calls(eve, 25, "find", "notes", {}))
    async with rest(served, "acme") as client:
        replies = [await client.request("GET", "/notes") for _ in range(7)]
        assert [reply.status for reply in replies] == [200] * 5 + [429] * 2
        assert int(replies[-1].headers["Retry-After"]) > 0


async def test_handshakes_above_the_rate_are_refused(served: Roost) -> None:
    """RL-1, class connect: the socket is refused before it is accepted, with the same error."""
    answers = [await handshake(served, "appId=acme") for _ in range(6)]
    assert ["RateLimited" in str(answer) for answer in answers] == [False] * 4 + [True] * 2


async def test_a_limit_that_changes_counts_at_once(served: Roost) -> None:
    """RL-5."""
    async with connect(served, "acme") as ada:
        assert (await calls(ada, 21, "find", "notes", {}))[-1].code == 429
        await served.backend.configuration.change("acme", {"limits": {}})

        async def free() -> bool:
            return not isinstance(await outcome(ada, "find", "notes", {}), CallError)

        await until(free)


async def test_a_client_that_goes_on_and_on_is_closed(served: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """RL-1: disconnected only after sustained abuse, and only when all its calls are answered."""
    monkeypatch.setattr(connections, "MOST_REFUSALS", 10)
    async with connect(served, "acme") as ada, connect(served, "acme") as bob:
        answers = await asyncio.gather(*(outcome(ada, "find", "notes", {}) for _ in range(30)))
        assert [answer.code for answer in answers[20:]] == [429] * 10
        await ada.gone()
        assert bob.connected


async def test_quotas_are_told_and_shown(served: Roost) -> None:
    """RL-4: 403 with name, limit and use; usage as a service for those who may read settings."""
    async with connect(served, "billed") as ada:
        made = await calls(ada, 5, "create", "notes", {"n": 1}, {})
        assert [answer.code for answer in made if isinstance(answer, CallError)] == [403, 403]
        assert made[-1].data == {"reason": "QuotaExceeded", "name": "writes", "limit": 3, "used": 3}
        assert (await calls(ada, 6, "find", "notes", {}))[-1].data["name"] == "calls"
    tenant = await served.catalogue.get("billed")
    assert tenant is not None
    assert [(quota["name"], quota["used"]) for quota in await served.quotas.show(tenant)] == [
        ("calls", 8),
        ("writes", 3),
    ]
    async with connect(served, "globex") as eve:
        assert (await outcome(eve, "find", "quotas", {})).code in (401, 403)


async def test_calls_that_are_refused_use_up_nothing_else(served: Roost) -> None:
    """Who writes too much can still read; nor is a month's quota of calls spent on writes that another one refuses."""
    for id, reads in (("mixed", 12 - 3), ("billed", 8 - 3)):
        async with connect(served, id) as ada:
            written = await calls(ada, 10, "create", "notes", {"text": "x"}, {})
            assert sum(not isinstance(answer, CallError) for answer in written) == 3
            read = await calls(ada, 15, "find", "notes", {})
            assert sum(not isinstance(answer, CallError) for answer in read) == reads


async def test_who_sends_to_many_pays_for_many(served: Roost) -> None:
    """RL-1, class broadcast: two events to three sockets use up six deliveries."""
    async with connect(served, "chatty") as ada, connect(served, "chatty") as bob, connect(served, "chatty"):
        for _ in range(2):
            await ada.call("create", "notes", {"n": 1}, {})
        refused = await outcome(ada, "create", "notes", {"n": 2}, {})
        assert (refused.code, refused.data["limit"]) == (429, "broadcast")
        assert not isinstance(await outcome(ada, "find", "notes", {}), CallError)
        await until(lambda: len(bob.events) == 2)


async def test_a_file_with_odd_limits_is_refused() -> None:
    for limits in (
        "{rates: {event: {tenant: {limit: 0}}}}",
        "{rates: {meals: {}}}",
        "{quotas: {writes: -1}}",
        "{rate: 1}",
    ):
        with pytest.raises(DeclarationError, match="limits"):
            parse(f"tenants: [{{id: acme, limits: {limits}}}]")
