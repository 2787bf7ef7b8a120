"""Events for many (TENANCY RL-6, LIMITS C3): in turns with other work, in order, and to nobody who has become another."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from server import publish
from server.main import Roost
from tests.support.client import PASSWORD, connect, until


@pytest.fixture(autouse=True)
def _small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "AT_ONCE", 2)


async def test_events_for_many_arrive_in_order(roost: Roost) -> None:
    """RL-6: a large fan-out yields, and later events of the tenant wait for it."""
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(connect(roost, "acme")) for _ in range(9)]
        for number, member in enumerate(members):
            await member.sign_up(f"member-{number}")
        for member in members:
            await member.take_events()
        for n in range(30):
            await members[n % 9].call("create", "notes", {"n": n}, {})
        burst = [members[0].call("create", "notes", {"n": 100 + n}, {}) for n in range(20)]
        await asyncio.gather(*burst)
        await until(lambda: all(len(member.events) >= 50 for member in members))
        heard = [
            [event.record["_id"] for event in member.events if event.name == "notes created"] for member in members
        ]
        assert len(heard[0]) == 50
        assert all(other == heard[0] for other in heard)


async def test_other_tenants_are_answered_while_a_large_event_goes_out(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RL-6: between two turns everybody else has theirs."""
    order: list[str] = []
    let_others = publish.let_others

    async def note() -> None:
        order.append("turn")
        await let_others()

    monkeypatch.setattr(publish, "let_others", note)
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(connect(roost, "acme")) for _ in range(7)]
        await members[0].call("create", "notes", {"n": 1}, {})
        await until(lambda: all(member.events for member in members))
    assert len(order) == 4, "seven sockets, two at a time"


async def test_who_logs_out_in_the_middle_hears_no_more(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """TK-8 in spirit: an event is for who one was when it was chosen, and is not sent to who one has become."""
    gone = asyncio.Event()
    let_others = publish.let_others

    async def log_out_meanwhile() -> None:
        if not gone.is_set():
            gone.set()
            await roost.connections.logout(connection)
        await let_others()

    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(connect(roost, "acme")) for _ in range(6)]
        for number, member in enumerate(members):
            await member.call("create", "users", {"username": f"m{number}", "password": PASSWORD}, {})
            await member.login(f"m{number}")
        for member in members:
            await member.take_events()
        (connection,) = [
            one for one in roost.connections.of("acme") if one.user is not None and one.user["username"] == "m5"
        ]
        monkeypatch.setattr(publish, "let_others", log_out_meanwhile)
        await members[0].call("create", "messages", {"text": "secret"}, {})
        await until(lambda: all(member.events for member in members[:5]))
        await members[5].fence()
        assert [event.name for event in members[5].events if event.name.startswith("messages")] == []
