"""What people may have many of is bounded, also when they ask for it all at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hooks.errors import BadRequest
from services.authentication.api_keys import MOST_KEYS
from services.authentication.ledger import MOST_LISTED
from tests.conftest import StartRoost
from tests.integration.authentication.people import OPEN, bearer, is_out, log_in, sign_up, tenant_of
from tests.support.client import connect, rest


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
    keys = roost.backend.deployment.client[roost.settings.database]["api_keys"]
    kept = await keys.count_documents({"app_id": "acme"})
    assert kept == MOST_KEYS - 10 + sum(isinstance(one, dict) for one in made)
    assert kept <= MOST_KEYS


async def test_a9_however_many_sessions_there_are_all_of_them_end(roosts: StartRoost) -> None:
    """A9: the answer tells of the last hundred; of the others nothing is left either, nor of what is remembered of them."""
    roost = await roosts(OPEN)
    async with connect(roost, "acme") as old, connect(roost, "acme") as desk, rest(roost, "acme") as http:
        name, user = await sign_up(http)
        first = await log_in(old, name)
        sessions = roost.backend.deployment.client[roost.settings.database]["sessions"]
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
        assert roost.people.ledger.has_ended(tenant_of(roost, "acme"), first["authentication"]["payload"])
