"""TENANCY CP-3, CP-21, CP-23 to CP-25: what an app gets when it is made, and loses when it goes."""

from __future__ import annotations

import asyncio

import pytest

from hooks.errors import Conflict, NotFound
from server.main import Roost
from services.control.lifecycle import Actor
from services.declaration import TenantDeclaration
from services.entities.provisioning import ADMIN_ROLE, Provisioning
from services.entities.registry import CLIENTS, MEMBERS, ORGANIZATIONS, ROLE_PERMISSIONS, ROLES
from tests.integration.entities.managers import switch
from tests.integration.entities.people import HUB, NORTH, make_person, person, tenant_of
from tests.support.client import fresh

pytestmark = pytest.mark.asyncio(loop_scope="module")


def provisioning(served: Roost) -> Provisioning:
    return served.backend.control.provisioning


async def test_an_app_that_is_made_has_an_organization_and_its_maker_administers_it(served: Roost) -> None:
    """CP-3, CP-21, CP-23, CP-24: linked by `tenant_id`; the creator's role is really granted, and works in the app."""
    name, user_id = await make_person(served, HUB)
    id = fresh("made")
    operation = await served.backend.control.lifecycle.create(TenantDeclaration(id=id), Actor(user_id, "rest"))
    steps = [step["name"] for step in operation.steps]
    for step in ("organization", "admin-role", "default-permissions", "creator-membership", "default-client"):
        assert step in steps
    assert steps.index("creator-membership") < steps.index("ready")
    entities, hub = served.people.entities, tenant_of(served, HUB)
    found = await entities.find(hub, ORGANIZATIONS, {"tenant_id": id})
    assert [one["name"] for one in found] == [id]
    assert await served.people.memberships.tenants_of(user_id) == [id]
    assert await served.people.memberships.is_member(user_id, id)
    assert not await served.people.memberships.is_member(user_id, NORTH)
    held = await served.people.memberships.permissions(user_id, id)
    assert held is not None
    assert "tenant:admin" in held
    async with person(served, HUB, "http", name) as max_:
        await switch(max_, id)
        assert (await max_.call("create", "roles", {"name": "editor"}))["rev"] == 1
        assert [one["name"] for one in (await max_.call("find", "clients"))["data"]] == ["default"]


async def test_every_step_may_run_again_and_twice_at_once(served: Roost) -> None:
    """CP-21, pitfall 8: repeated after a crash, and at two servers at once, there is one of each."""
    _, user_id = await make_person(served, HUB)
    entities, hub, north = served.people.entities, tenant_of(served, HUB), tenant_of(served, NORTH)
    work = provisioning(served)

    async def all_steps() -> None:
        await work.ensure_organization(north)
        await work.ensure_admin_role()
        await work.ensure_permissions()
        await work.ensure_creator(north, user_id)
        await work.ensure_client(north)

    for _ in range(2):
        await asyncio.gather(*(all_steps() for _ in range(5)))
    assert len(await entities.find(hub, ORGANIZATIONS, {"tenant_id": NORTH})) == 1
    (role,) = await entities.find(hub, ROLES, {"name": ADMIN_ROLE})
    assert len(await entities.find(hub, ROLE_PERMISSIONS, {"role_id": str(role["_id"])})) == 1
    assert len(await entities.find(hub, MEMBERS, {"user_id": user_id})) == 1
    assert len(await entities.find(north, CLIENTS, {"name": "default"})) == 1


async def test_without_its_creator_an_app_is_not_ready(served: Roost) -> None:
    """CP-23: the membership of the creator is a required step."""
    north = tenant_of(served, NORTH)
    with pytest.raises(NotFound):
        await provisioning(served).ensure_creator(north, "0123456789abcdef01234567")
    await provisioning(served).ensure_creator(north, None)


async def test_a_name_that_is_taken_is_told(served: Roost) -> None:
    """CP-3: an organization of that name that stands for nothing is not made the app's by its name (CP-4)."""
    hub, name = tenant_of(served, HUB), fresh("squat")
    await served.people.entities.add(hub, ORGANIZATIONS, {"name": name})
    from hooks.tenant import Tenant

    with pytest.raises(Conflict):
        await provisioning(served).ensure_organization(Tenant(id=name, name=name))


async def test_with_an_app_goes_its_organization(served: Roost) -> None:
    """CP-25: memberships first, the organization last; nobody else's are touched."""
    _, user_id = await make_person(served, HUB)
    id = fresh("gone")
    await served.backend.control.lifecycle.create(TenantDeclaration(id=id), Actor(user_id, "rest"))
    tenant = await served.backend.tenants.get(id)
    assert tenant is not None
    await provisioning(served).remove_organization(tenant)
    await provisioning(served).remove_organization(tenant)
    entities, hub = served.people.entities, tenant_of(served, HUB)
    assert await entities.find(hub, ORGANIZATIONS, {"tenant_id": id}) == []
    assert await entities.find(hub, MEMBERS, {"user_id": user_id}) == []
    assert len(await entities.find(hub, ORGANIZATIONS, {"tenant_id": NORTH})) == 1


async def test_what_the_role_holds_is_configurable_and_stays_as_it_is_made(served: Roost) -> None:
    """CP-24: the default set is `creator_permissions`; what an operator has changed is not given again."""
    entities, hub, north = served.people.entities, tenant_of(served, HUB), tenant_of(served, NORTH)
    _, user_id = await make_person(served, HUB)
    (role,) = await entities.find(hub, ROLES, {"name": ADMIN_ROLE})
    place = {"role_id": str(role["_id"])}
    held = await entities.find(hub, ROLE_PERMISSIONS, place)
    assert [triple["permission"] for triple in held] == ["tenant:admin"]
    await entities.of(hub, ROLE_PERMISSIONS).delete_many(place)
    modest = Provisioning(entities, lambda: served.catalogue.get(HUB), permissions=("read:users", "read:roles"))
    try:
        for work in (modest, modest, provisioning(served)):
            await asyncio.gather(*(work.ensure_permissions() for _ in range(3)))
        await modest.ensure_creator(north, user_id)
        served.people.grants.forget_all()
        granted = await served.people.memberships.permissions(user_id, NORTH)
        assert granted == frozenset({"read:users", "read:roles"})
    finally:
        await entities.of(hub, ROLE_PERMISSIONS).delete_many(place)
        await provisioning(served).ensure_permissions()
