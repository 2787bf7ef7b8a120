"""LIMITS T3, ARCHITECTURE rule 1: a call without a tenant ends before anything is asked of the database, whoever makes it."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Any

import pytest
from pymongo.monitoring import CommandStartedEvent

from hooks.context import Params
from services.base import STANDARD_METHODS
from tests.security.probes import shelves
from tests.security.probes.world import APPS, NORTH
from tests.support.client import handshake, rest
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

_is_watched: ContextVar[bool] = ContextVar("is_watched", default=False)
ID = "65a0000000000000000000aa"


class Spy(Tripwire):
    """Keeps the commands of calls that are watched, to whichever database; those of the server's own tasks are not."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if _is_watched.get():
            self.commands.append(event.command_name)


async def test_no_service_is_called_for_nobody(mongod: str) -> None:
    """T3: each service and method, from inside and outside, without a tenant: an error, and no command."""
    spy = Spy()
    roost = await start_roost(mongod, APPS, tripwire=spy, modules=(shelves.__name__,))
    try:
        _is_watched.set(True)
        north = await roost.backend.tenants.get(NORTH)
        assert north is not None
        assert spy.commands, "the spy sees what is asked"
        spy.commands.clear()
        count = 0
        for path, registration in {**roost.app.services, **roost.app.declared(north)}.items():
            for method in {*registration.methods, *STANDARD_METHODS}:
                for provider in (None, "rest", "socketio"):
                    nobody: Any = None
                    params = Params(tenant=nobody, provider=provider)
                    with pytest.raises(Exception):  # noqa: B017, PT011
                        await roost.app.call(re.sub(":[a-z]+", ID, path), method, params, id=ID, data={"text": "x"})
                    count += 1
        assert count > 400
        assert spy.commands == []
    finally:
        _is_watched.set(False)
        await roost.drop()


async def test_nobody_comes_in_without_naming_a_tenant(mongod: str) -> None:
    """T3: at the doors it is 400 or a refused handshake, with a sentence."""
    roost = await start_roost(mongod, APPS)
    try:
        async with rest(roost, None) as http:
            for path in ("/notes", "/users", f"/roles/{ID}", "/tenants", "/settings/current"):
                reply = await http.request("GET", path)
                assert reply.status == 400, path
                assert reply.json["message"]
        assert (await handshake(roost, ""))[0] != "connect"
    finally:
        await roost.drop()
