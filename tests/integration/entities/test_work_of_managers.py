"""TENANCY JB-1: a job that needs a permission asks whether who wanted it holds that now, whoever he is."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.context import HookContext
from hooks.tenant import tenant_scope
from server.main import Roost
from services.jobs.model import ENDED, Job
from tests.integration.entities.managers import at_home, make_manager, switch
from tests.integration.entities.people import (
    HUB,
    NORTH,
    SOUTH,
    TRANSPORTS,
    administrator,
    make_person,
    make_role,
    tenant_of,
)
from tests.integration.entities.people import person as someone
from tests.support.client import Caller, fresh, rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Work:
    """Jobs for which those ask who look at clients, when they are told to."""

    def __init__(self, served: Roost) -> None:
        self.served = served
        self.name = fresh("work")
        self.done: list[str | None] = []
        self.asked: list[str] = []
        self.wanted = False
        served.jobs.handle(self.name, self._do, permission="read:roles")
        served.app.service("clients").add_hooks({"after": {"find": [self._ask]}})

    async def _do(self, job: Job) -> None:
        self.done.append(job.actor)

    async def _ask(self, context: HookContext) -> None:
        if self.wanted:
            self.wanted = False
            with tenant_scope(context.params.tenant):
                self.asked.append(await self.served.jobs.enqueue(self.name, params=context.params))

    async def ask(self, caller: Caller, app: str) -> str:
        """Somebody's call wants a job; how it ended."""
        self.wanted = True
        await caller.call("find", "clients")
        job = self.asked.pop()
        found: dict[str, Any] = {}

        async def ended() -> bool:
            found.update(await self.served.jobs.store.get(app, job) or {})
            return found.get("state") in ENDED

        await until(ended, 10)
        return str(found["state"].value if hasattr(found["state"], "value") else found["state"])


@pytest.fixture(scope="module")
def work(served: Roost) -> Work:
    """The jobs of all rows."""
    return Work(served)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_manager_s_work_is_done(served: Roost, work: Work, transport: str) -> None:
    """By what his membership allows in that app, and as long as it does."""
    manager = await make_manager(served, "read:roles", "read:clients")
    async with at_home(served, transport, manager) as max_:
        await switch(max_, NORTH)
        assert await work.ask(max_, NORTH) == "done"
    assert work.done.pop() == f"cp:{manager.user_id}"
    assert await served.people.holds(tenant_of(served, NORTH), f"cp:{manager.user_id}", "read:roles", manager.org_id)
    assert not await served.people.holds(
        tenant_of(served, SOUTH), f"cp:{manager.user_id}", "read:roles", manager.org_id
    )
    assert not await served.people.holds(tenant_of(served, NORTH), f"cp:{manager.user_id}", "read:roles")
    async with administrator(served, HUB) as ada:
        await ada.call("remove", "members", manager.member_id)
    assert not await served.people.holds(
        tenant_of(served, NORTH), f"cp:{manager.user_id}", "read:roles", manager.org_id
    )


async def test_a_manager_without_the_permission_is_dropped(served: Roost, work: Work) -> None:
    """He may ask for it, and it is not done."""
    manager = await make_manager(served, "read:clients")
    async with at_home(served, "socket", manager) as max_:
        await switch(max_, NORTH)
        assert await work.ask(max_, NORTH) == "dropped"
    assert work.done == []


async def test_whoever_may_act_on_every_app(served: Roost) -> None:
    """An administrator of all organizations, without being a member anywhere."""
    _, olga = await make_person(served, HUB, "admin:organizations")
    _, otto = await make_person(served, HUB)
    for user_id, holds in ((olga, True), (otto, False), ("0" * 24, False)):
        assert await served.people.holds(tenant_of(served, NORTH), f"cp:{user_id}", "read:roles") is holds


async def test_a_member_s_work_counts_in_his_organization(served: Roost) -> None:
    """Of an app's own organization: what his roles allow there, and nowhere else."""
    address, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada:
        org = await ada.call("create", "organizations", {"name": fresh("org")})
        role = await make_role(ada, "read:roles")
        await ada.call("create", "members", {"org_id": org["_id"], "user_id": user_id, "roles": [role]})
    here = tenant_of(served, NORTH)
    assert await served.people.holds(here, user_id, "read:roles", org["_id"])
    assert not await served.people.holds(here, user_id, "read:roles")
    assert not await served.people.holds(here, user_id, "read:clients", org["_id"])
    async with someone(served, NORTH, "http", address) as own:
        await own.call("get", "users", user_id)


async def test_a_key_s_work_counts_as_long_as_the_key(served: Roost, work: Work) -> None:
    """By its scopes, until it is revoked."""
    address, _ = await make_person(served, NORTH, "admin", "tenant:admin")
    async with someone(served, NORTH, "http", address) as ada, rest(served, NORTH) as program:
        key = await ada.call(
            "create", "api-keys", {"name": fresh("key"), "scopes": ["clients:find", "read:clients", "read:roles"]}
        )
        program.headers["Authorization"] = f"Bearer {key['key']}"
        assert await work.ask(program, NORTH) == "done"
        actor = work.done.pop()
        assert actor is not None
        assert await served.people.holds(tenant_of(served, NORTH), actor, "read:roles")
        assert not await served.people.holds(tenant_of(served, NORTH), actor, "read:users")
        assert not await served.people.holds(tenant_of(served, SOUTH), actor, "read:roles")
        await ada.call("remove", "api-keys", key["_id"])
    assert not await served.people.holds(tenant_of(served, NORTH), actor, "read:roles")
