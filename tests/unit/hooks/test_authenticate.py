"""Who is calling: the connection's login counts, a request's token is verified, and strangers are let in where all may come."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.authenticate import authenticate, identify
from hooks.context import HookContext, Params
from hooks.errors import NotAuthenticated, Unavailable
from hooks.tenant import Tenant


class Door:
    """The application as these hooks see it."""

    def __init__(self, *good: str) -> None:
        self.good = good
        self.asked = 0

    async def authenticate(self, params: Params) -> None:
        self.asked += 1
        if params.token == "down":
            raise Unavailable()
        if params.token not in self.good:
            raise NotAuthenticated("jwt malformed")
        params.authenticated, params.user = True, {"_id": 1}

    async def call(self, *arguments: Any, **more: Any) -> HookContext:
        raise AssertionError("not called")


def context(door: Door, **params: Any) -> HookContext:
    own = Params(tenant=Tenant("acme", "Acme"), **{"provider": "rest", **params})
    return HookContext(app=door, service=None, path="s", method="find", params=own)


async def test_a_login_or_the_server_itself_needs_no_look() -> None:
    door = Door()
    await authenticate(context(door, authenticated=True))
    await authenticate(context(door, provider=None))
    await identify(context(door, authenticated=True, token="x"))
    assert door.asked == 0


async def test_without_a_token_there_is_no_way_in() -> None:
    door = Door("x")
    for provider in ("rest", "socketio", ""):
        with pytest.raises(NotAuthenticated, match="Not authenticated"):
            await authenticate(context(door, provider=provider))
    assert door.asked == 0


async def test_a_token_is_verified() -> None:
    door = Door("good")
    found = context(door, token="good")
    await authenticate(found)
    assert found.params.user == {"_id": 1}
    with pytest.raises(NotAuthenticated, match="jwt malformed"):
        await authenticate(context(door, token="bad"))


async def test_a_user_is_no_login() -> None:
    with pytest.raises(NotAuthenticated):
        await authenticate(context(Door(), user={"_id": 1}))


async def test_where_all_may_come_a_bad_token_makes_a_stranger() -> None:
    door = Door("good")
    known, stranger, nobody = context(door, token="good"), context(door, token="bad"), context(door)
    for one in (known, stranger, nobody):
        await identify(one)
    assert known.params.user == {"_id": 1}
    assert (stranger.params.user, stranger.params.token, stranger.params.authenticated) == (None, None, False)
    assert nobody.params.user is None


async def test_an_outage_does_not_make_strangers() -> None:
    with pytest.raises(Unavailable):
        await identify(context(Door(), token="down"))
