"""What people may have many of is bounded, also when they ask for it all at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from hooks.errors import BadRequest
from services.authentication.api_keys import MOST_KEYS
from services.authentication.ledger import MOST_LISTED
from tests.conftest import StartRoost
from tests.integration.authentication.people import OPEN, bearer, is_out, log_in, refused, sign_up, tenant_of
from tests.support.client import connect, fresh, outcome, rest
from tests.support.placed import database_of


async def test_keys_that_are_made_at_once_are_no_more_than_allowed(roosts: StartRoost) -> None:
    roost = await roosts(OPEN)
    tenant, wanted = tenant_of(roost, "acme"), {"name": "x", "scopes": ["*"]}
    for _ in range(MOST_KEYS - 10):
        await roost.people.api_keys.create(tenant, wanted, "test")
    made = await asyncio.gather(
        *(roost.people.api_keys.create(tenant, wanted, "test") for _ in range(30)), return_exceptions=True
    )
    assert {type(one) for one in made} <= {dict, BadRequest}
    assert sum(isinstance(one, BadRequest) for one in made) >= 20
    keys = database_of(roost)["api_keys"]
    kept = await keys.count_documents({"app_id": "acme"})
    assert kept == MOST_KEYS - 10 + sum(isinstance(one, dict) for one in made)
    assert kept <= MOST_KEYS


@pytest.mark.parametrize("size", [1, 7, 8, 128, 129, 1_000, 100_000, 990_000, 1_000_000])
async def test_a6_a_password_has_up_to_128_characters_and_longer_ones_are_simply_wrong(
    roosts: StartRoost, size: int
) -> None:
    """A6: password 1 B ... 1 MB, cap 128 characters: by either transport, for sign-up and login."""
    roost = await roosts(OPEN)
    password = "pq" * (size // 2) + "r" * (size % 2)
    async with connect(roost, "acme") as socket, rest(roost, "acme") as http:
        name, _ = await sign_up(http)
        for caller in (socket, http):
            if size == 1_000_000:
                # With its quotes and its name it is more than a message may have.
                if caller is http:
                    reply = await http.request("POST", "/users", {"username": fresh(), "password": password})
                    assert reply.status == 413
                continue
            made = await outcome(caller, "create", "users", {"username": fresh("x"), "password": password}, {})
            if 8 <= size <= 128:
                assert await log_in(caller, made["username"], password)
            else:
                assert (made.code, made.message) == (400, "The password must have 8 to 128 characters")
            error = await refused(caller, "create", "authentication", login(name, password), {})
            assert (error.code, error.message) == (401, "Invalid login")


def login(name: str, password: str) -> dict[str, str]:
    return {"strategy": "local", "username": name, "password": password}


async def test_a9_however_many_sessions_there_are_all_of_them_end(roosts: StartRoost) -> None:
    """A9: the answer tells of the last hundred; of the others nothing is left either, nor of what is remembered of them."""
    roost = await roosts(OPEN)
    async with connect(roost, "acme") as old, connect(roost, "acme") as desk, rest(roost, "acme") as http:
        name, user = await sign_up(http)
        first = await log_in(old, name)
        sessions = database_of(roost)["sessions"]
        one = await sessions.find_one({"app_id": "acme"})
        assert one is not None
        await sessions.insert_many(
            [
                {**one, "_id": {"a": "acme", "i": f"{n:032x}"}, "last_use": one["last_use"] + timedelta(seconds=1 + n)}
                for n in range(2 * MOST_LISTED)
            ]
        )
        await log_in(desk, name)
        ended = await desk.call("remove", "sessions", None, {})
        assert len(ended) == MOST_LISTED
        assert first["authentication"]["payload"]["sid"] not in {session["_id"] for session in ended}
        assert await sessions.count_documents({"app_id": "acme", "user_id": user["_id"]}) == 0
        assert await is_out(old)
        assert await is_out(desk)
        assert (await http.request("GET", "/users", headers=bearer(first))).status == 401
        assert roost.people.ledger.has_ended(first["authentication"]["payload"])
