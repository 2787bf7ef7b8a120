"""Refresh tokens (LIMITS A7): each works once; one that is used again ends its session and logs out its sockets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from server.main import Roost
from tests.integration.authentication.people import (
    by_refresh,
    is_in,
    is_out,
    log_in,
    refresh,
    refused,
    sign_up,
    status,
)
from tests.support.client import CallError, connect, outcome, rest, until
from tests.support.placed import database_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = {
    "name": "NotAuthenticated",
    "message": "Invalid refresh token",
    "code": 401,
    "className": "not-authenticated",
}


async def test_a_refresh_answers_like_a_login_of_the_same_session(served: Roost) -> None:
    async with connect(served, "acme") as ada, rest(served, "acme") as http:
        name, user = await sign_up(http)
        first = await log_in(http, name, refresh=True)
        assert re.fullmatch(r"rr_[0-9a-f]{32}_[0-9a-f]{32}_[0-9a-f]{64}", first["refreshToken"])
        second = await refresh(ada, first["refreshToken"])
        assert set(second) == {"accessToken", "authentication", "user", "refreshToken"}
        assert second["authentication"]["strategy"] == "refresh"
        assert second["user"] == user
        claims = [answer["authentication"]["payload"] for answer in (first, second)]
        assert claims[0]["sid"] == claims[1]["sid"]
        assert claims[0]["jti"] != claims[1]["jti"]
        assert await is_in(ada), "the socket is logged in by it"
        assert first["refreshToken"].split("_")[:3] == second["refreshToken"].split("_")[:3]
        assert first["refreshToken"] != second["refreshToken"]
        third = await refresh(http, second["refreshToken"])
        assert await status(http, third) == 200
        assert len(await ada.call("find", "sessions", {})) == 1


async def test_a_token_that_was_used_ends_the_session_for_the_thief_and_its_owner(served: Roost) -> None:
    async with connect(served, "acme") as owner, connect(served, "acme") as thief, rest(served, "acme") as http:
        name, _ = await sign_up(http)
        first = await log_in(owner, name, refresh=True)
        stolen = first["refreshToken"]
        theirs = await refresh(thief, stolen)
        await log_in(http, name)
        assert await is_in(thief)
        began = time.monotonic()
        assert (await refused(owner, "create", "authentication", by_refresh(first))).wire == REFUSED
        assert await is_out(thief)
        assert await is_out(owner)
        assert time.monotonic() - began < 1.0, "A7"
        for answer in (first, theirs):
            assert await status(http, answer) == 401
            assert (await refused(http, "create", "authentication", by_refresh(answer))).wire == REFUSED
        again = await log_in(owner, name)
        assert await status(http, again) == 200


async def test_however_old_the_used_token_is(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        first = answer = await log_in(http, name, refresh=True)
        for _ in range(20):
            answer = await refresh(http, answer["refreshToken"])
        assert (await refused(http, "create", "authentication", by_refresh(first))).wire == REFUSED
        assert await status(http, answer) == 401


@pytest.mark.parametrize("transport", ["sockets", "rest"])
async def test_of_fifty_at_once_one_succeeds(served: Roost, transport: str) -> None:
    """A7. The second use is a reuse, however soon it comes: so the session has ended when all are answered."""
    async with rest(served, "acme") as http, connect(served, "acme") as ada:
        name, _ = await sign_up(http)
        token = (await log_in(http, name, refresh=True))["refreshToken"]
        caller = ada if transport == "sockets" else http
        data = {"strategy": "refresh", "refreshToken": token}
        answers = await asyncio.gather(*(outcome(caller, "create", "authentication", data) for _ in range(50)))
        won = [answer for answer in answers if not isinstance(answer, CallError)]
        assert len(won) == 1
        assert [answer.wire for answer in answers if isinstance(answer, CallError) and answer.wire != REFUSED] == []
        assert await status(http, won[0]) == 401
        assert await is_out(ada)
        assert (await refused(http, "create", "authentication", by_refresh(won[0]))).wire == REFUSED


def changed(token: str, part: int, text: str) -> str:
    """The token with one of its parts replaced."""
    parts = token.split("_")
    parts[part] = text
    return "_".join(parts)


FORGERIES: dict[str, Callable[[str], Any]] = {
    "nothing": lambda token: None,
    "empty": lambda token: "",
    "number": lambda token: 7,
    "list": lambda token: [token],
    "object": lambda token: {"token": token},
    "prefix alone": lambda token: "rr_",
    "another prefix": lambda token: changed(token, 0, "rk"),
    "unknown session": lambda token: changed(token, 1, "0" * 32),
    "operator for a session": lambda token: changed(token, 1, "$" * 32),
    "empty session": lambda token: f"rr__{'0' * 64}_{'0' * 64}",
    "not ascii": lambda token: changed(token, 1, "é" * 32),
    "another family": lambda token: changed(token, 2, "0" * 32),
    "family and secret of one's own": lambda token: changed(changed(token, 2, "0" * 32), 3, "0" * 64),
    "longer": lambda token: token + "0",
    "shorter": lambda token: token[:-1],
    "upper case": lambda token: token.upper(),
    "1 MB": lambda token: token + "0" * 500_000,
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_what_was_never_a_refresh_token_is_refused_and_harms_nobody(served: Roost, forgery: str) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        answer = await log_in(http, name, refresh=True)
        token = FORGERIES[forgery](answer["refreshToken"])
        error = await refused(http, "create", "authentication", {"strategy": "refresh", "refreshToken": token})
        assert error.wire == REFUSED
        assert await status(http, answer) == 200, "who only knows the id of a session cannot end it"
        assert await refresh(http, answer["refreshToken"])


async def test_a_token_of_another_app_is_unknown(served: Roost) -> None:
    async with rest(served, "acme") as http, rest(served, "globex") as elsewhere:
        name, _ = await sign_up(http)
        await sign_up(elsewhere, name)
        answer = await log_in(http, name, refresh=True)
        error = await refused(elsewhere, "create", "authentication", by_refresh(answer))
        assert error.wire == REFUSED
        assert await refresh(http, answer["refreshToken"]), "and was not used up there"


async def test_a_session_that_was_copied_to_another_app_does_not_refresh_there(served: Roost) -> None:
    """The hashes are bound to the tenant: a record of the one is worth nothing in the other."""
    async with rest(served, "acme") as http, rest(served, "globex") as elsewhere:
        name, _ = await sign_up(http)
        _, user = await sign_up(elsewhere, name)
        answer = await log_in(http, name, refresh=True)
        sessions = database_of(served)["sessions"]
        id = answer["authentication"]["payload"]["sid"]
        stored = await sessions.find_one({"_id": {"a": "acme", "i": id}}) or {}
        copy = {**stored, "_id": {"a": "globex", "i": id}, "app_id": "globex", "user_id": user["_id"]}
        await sessions.insert_one(copy)
        error = await refused(elsewhere, "create", "authentication", by_refresh(answer))
        assert error.wire == REFUSED


async def test_a_refresh_token_is_no_access_token_and_the_other_way_round(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        answer = await log_in(http, name, refresh=True)
        assert await status(http, {"accessToken": answer["refreshToken"]}) == 401
        error = await refused(
            http, "create", "authentication", {"strategy": "refresh", "refreshToken": answer["accessToken"]}
        )
        assert error.wire == REFUSED


async def test_one_that_was_not_used_for_too_long_has_expired(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        answer = await log_in(http, name, refresh=True)
        sessions = database_of(served)["sessions"]
        key = {"_id": {"a": "acme", "i": answer["authentication"]["payload"]["sid"]}}
        stored = await sessions.find_one(key) or {}
        assert abs((stored["expires_at"] - stored["created_at"]).total_seconds() - 30 * 86_400) < 1
        await sessions.update_one(key, {"$set": {"expires_at": datetime.now(UTC)}})
        error = await refused(http, "create", "authentication", by_refresh(answer))
        assert error.wire == REFUSED


async def test_use_lengthens_a_session_and_counts_its_generations(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        answer = await log_in(http, name, refresh=True)
        sessions = database_of(served)["sessions"]
        key = {"_id": {"a": "acme", "i": answer["authentication"]["payload"]["sid"]}}
        before = await sessions.find_one(key) or {}
        await refresh(http, answer["refreshToken"])
        after = await sessions.find_one(key) or {}
        assert (before["generation"], after["generation"]) == (1, 2)
        assert after["expires_at"] > before["expires_at"]
        assert after["created_at"] == before["created_at"]


async def test_the_database_forgets_what_has_expired(served: Roost) -> None:
    indexes = await database_of(served)["sessions"].index_information()
    [expiry] = [index for index in indexes.values() if "expireAfterSeconds" in index]
    assert (expiry["key"], expiry["expireAfterSeconds"]) == ([("expires_at", 1)], 0)


async def test_a_refreshed_login_ends_in_place_with_its_new_token(served: Roost) -> None:
    async with connect(served, "acme") as ada:
        name, _ = await sign_up(ada)
        answer = await log_in(ada, name, refresh=True)
        [connection] = served.connections.of_session("acme", answer["authentication"]["payload"]["sid"])
        await refresh(ada, answer["refreshToken"])
        assert connection.expiry is not None
        served.connections._expire(connection, time.time() - 1)
        await until(lambda: is_out(ada))
        assert ada.connected
