"""A tenant's configuration: public keys, and changes by operators (TENANCY.md 8.1)."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from pymongo.errors import DuplicateKeyError

from hooks.errors import BadRequest, Conflict, FeathersError, Forbidden, NotFound
from hooks.tenant import Tenant
from server.main import Roost
from services.control.public_keys import PUBLIC_KEY
from services.declaration import parse
from tests.support.roost import TWO_APPS


def documents(roost: Roost) -> Any:
    """The catalogue's own collection."""
    return roost.backend.deployment.client[f"{roost.settings.database}_control"]["tenants"]


async def stored(roost: Roost, id: str = "acme") -> Tenant:
    tenant = await roost.backend.tenants.get(id)
    assert tenant is not None
    return tenant


async def test_public_keys_are_random_unique_and_two_are_valid_at_once(roost: Roost) -> None:
    """TC-1."""
    acme, globex = await stored(roost), await stored(roost, "globex")
    (first,), (other,) = acme.public_keys, globex.public_keys
    assert PUBLIC_KEY.fullmatch(first)
    assert first != other

    assert (await roost.backend.configuration.rotate_public_key("acme"))[1:] == (first,)
    second, _ = (await stored(roost)).public_keys
    newest = await roost.backend.configuration.rotate_public_key("acme")

    assert newest[1:] == (second,)
    assert first not in newest
    assert (await stored(roost)).epoch == acme.epoch + 2
    with pytest.raises(DuplicateKeyError):
        await documents(roost).update_one({"_id": "globex"}, {"$set": {"public_keys": [second]}})
    with pytest.raises(NotFound):
        await roost.backend.configuration.rotate_public_key("nope")


async def test_rotations_at_once_leave_two_keys(roost: Roost) -> None:
    """TC-1."""
    await asyncio.gather(*(roost.backend.configuration.rotate_public_key("acme") for _ in range(8)))

    assert len(set((await stored(roost)).public_keys)) == 2


async def test_tenants_of_an_earlier_version_get_a_key_and_defaults(roost: Roost) -> None:
    """TC-1, TC-13: an entry that knows none of the fields is as good as any."""
    await documents(roost).update_one({"_id": "acme"}, {"$unset": {"public_keys": ""}})
    await documents(roost).update_one({"_id": "globex"}, {"$set": {"public_keys": []}})
    await roost.backend.tenants.prepare_catalogue()
    await roost.backend.tenants.prepare_catalogue()

    acme = await stored(roost)
    assert len(acme.public_keys) == len((await stored(roost, "globex")).public_keys) == 1
    assert (acme.is_active, acme.require_origin, acme.plan, acme.limits.max_concurrent_connections) == (
        True,
        False,
        "default",
        None,
    )


async def test_a_change_is_counted_and_told_in_full(roost: Roost) -> None:
    """TC-12: `epoch` and `settings_rev` go up, and the keys that are different are named."""
    before = await stored(roost)
    changed = await roost.backend.configuration.change(
        "acme", {"require_origin": True, "plan": "default", "limits": {"max_concurrent_connections": 5}}
    )

    assert changed.before == before
    assert changed.keys == ("limits", "require_origin")
    after = await stored(roost)
    assert changed.after == after
    assert (after.epoch, after.settings_rev) == (before.epoch + 1, before.settings_rev + 1)
    assert (after.require_origin, after.limits.max_concurrent_connections) == (True, 5)
    assert (await roost.backend.configuration.change("acme", {"require_origin": True})).keys == ()
    assert (await stored(roost)).epoch == after.epoch


async def test_a_dry_run_writes_nothing(roost: Roost) -> None:
    """TC-12."""
    before = await stored(roost)
    changed = await roost.backend.configuration.change("acme", {"is_active": False}, dry_run=True)

    assert (changed.keys, changed.after.is_active) == (("is_active",), False)
    assert await stored(roost) == before


async def test_the_slower_of_two_changes_is_told_so(roost: Roost) -> None:
    """TC-12: optimistic concurrency, 409."""
    epoch = (await stored(roost)).epoch

    async def attempt(number: int) -> bool:
        try:
            await roost.backend.configuration.change("acme", {"plan": f"plan-{number}"}, epoch=epoch)
        except Conflict:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(number) for number in range(8)))) == 1
    with pytest.raises(Conflict):
        await roost.backend.configuration.change("acme", {"plan": "late"}, epoch=epoch)


WRONG: list[dict[str, Any]] = [
    {"status": "suspended"},
    {"epoch": 7},
    {"public_keys": []},
    {"is_active": "no"},
    {"require_origin": 1},
    {"plan": ""},
    {"plan": "Über"},
    {"region": 5},
    {"sync_exclude": "roles"},
    {"allowed_origins": ["*"]},
    {"allowed_origins": ["https://a.com/path"]},
    {"allowed_origins": "https://a.com"},
    {"limits": {"max_concurrent_connections": -1}},
    {"limits": {"max_concurrent_connections": 1.5}},
    {"limits": {"max_concurrent_connections": True}},
    {"limits": {"enforce": "kick"}},
    {"limits": {"colour": 1}},
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("changes", WRONG, ids=str)
async def test_what_is_no_configuration_is_refused_by_its_place(shared: Roost, changes: dict[str, Any]) -> None:
    """TC-6, TC-12: the whole change or none of it."""
    before = await stored(shared)
    with pytest.raises(BadRequest) as raised:
        await shared.backend.configuration.change("acme", {"sync_exclude": ["roles"], **changes})

    assert raised.value.errors[0]["path"].split(".")[0] in changes
    assert await stored(shared) == before


@pytest.mark.parametrize(("id", "error"), [("nope", NotFound), ("control_plane", Forbidden)])
async def test_whose_configuration_is_not_changed(roost: Roost, id: str, error: type[FeathersError]) -> None:
    """TC-8, CP-2: the control plane cannot be switched off, whether or not it is there."""
    with pytest.raises(error):
        await roost.backend.configuration.change(id, {"is_active": False})


async def test_a_declaration_leaves_alone_what_it_does_not_say(roost: Roost) -> None:
    """TC-12: applying a file takes back nothing that an operator has set, unless it says so."""
    await roost.backend.configuration.change("acme", {"require_origin": True, "plan": "large", "is_active": False})
    await roost.backend.apply(parse(TWO_APPS))
    kept = await stored(roost)
    assert (kept.require_origin, kept.plan, kept.is_active) == (True, "large", False)

    declared = TWO_APPS.replace(
        "name: Acme", "name: Acme\n    plan: small\n    limits: {max_concurrent_connections: 3}"
    )
    await roost.backend.apply(parse(declared))
    kept = await stored(roost)
    assert (kept.require_origin, kept.plan, kept.limits.max_concurrent_connections) == (True, "small", 3)


async def test_a_snapshot_cannot_be_changed(roost: Roost) -> None:
    """ID-2: whoever holds a tenant holds what it was."""
    acme = await stored(roost)
    with pytest.raises(dataclasses.FrozenInstanceError):
        acme.is_active = False  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        acme.limits.max_concurrent_connections = 9  # type: ignore[misc]
