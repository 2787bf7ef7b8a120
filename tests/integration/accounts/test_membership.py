"""Coming and going: invitations, and the end of an account."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hooks.context import Params
from hooks.errors import BadRequest, Conflict, NotAuthenticated
from server.main import Roost
from tests.integration.accounts.people import ADA, BOB, INVALID, NEW, Mailbox, Person, can_log_in
from tests.integration.authentication.clients import PASSWORD, stored, tenant_of
from tests.support.placed import database_of


async def admin_of(roost: Roost, app: str, name: str) -> Person:
    person = Person(roost, app)
    created = await person.sign_up(name)
    tenant = await tenant_of(roost, app)
    change = {"permissions": ["admin"], "verified": True}
    await roost.app.call("users", "patch", Params(tenant=tenant), id=created["_id"], data=change)
    await person.log_in(name)
    return person


async def test_an_admin_invites_and_the_invited_sign_up_confirmed(roost: Roost, mailbox: Mailbox) -> None:
    admin = await admin_of(roost, "mailed", ADA)
    answer = await admin.ask("invite", email=BOB, roles=["editor"])
    assert answer == {"action": "invite", "status": "accepted"}
    letter = await mailbox.one()
    assert letter.to == BOB
    assert f"#/confirm?action=accept-invitation&token={letter.token}" in letter.text
    bob = Person(roost, "mailed")
    made = await bob.ask("accept-invitation", token=letter.token, password=NEW, profile={"color": "red"})
    assert made["user"] == {
        "_id": made["user"]["_id"],
        "color": "red",
        "email": BOB,
        "verified": True,
        "roles": ["editor"],
    }
    await bob.log_in(BOB, NEW)
    assert (await bob.refused("accept-invitation", token=letter.token, password=NEW)).message == INVALID
    with pytest.raises(Conflict):
        await admin.ask("invite", email=BOB)


async def test_only_admins_invite(roost: Roost, mailbox: Mailbox) -> None:
    ada = Person(roost, "mailed")
    assert (await ada.refused("invite", email=BOB)).code == 401
    await ada.sign_up(ADA)
    await ada.log_in(ADA)
    assert (await ada.refused("invite", email=BOB)).code == 403
    admin = await admin_of(roost, "named", "ada")
    for roles in ("admin", [5], [""], ["x" * 65], ["x"] * 21, {"a": 1}):
        assert (await admin.refused("invite", email=BOB, roles=roles)).code == 400
    assert (await admin.refused("invite", email="nobody")).code == 400
    assert await mailbox.news() == []


async def test_a_taken_name_leaves_the_invitation_good(roost: Roost, mailbox: Mailbox) -> None:
    admin = await admin_of(roost, "named", "ada")
    await admin.ask("invite", email=BOB)
    token = (await mailbox.one()).token
    bob = Person(roost, "named")
    with pytest.raises(Conflict, match="This username is already taken"):
        await bob.ask("accept-invitation", token=token, username="ADA", password=NEW)
    made = await bob.ask("accept-invitation", token=token, username="bob", password=NEW)
    assert made["user"]["email"] == BOB
    assert await can_log_in(roost, "named", "bob", NEW)


async def test_of_fifty_acceptances_at_once_one_succeeds(roost: Roost, mailbox: Mailbox) -> None:
    admin = await admin_of(roost, "named", "ada")
    await admin.ask("invite", email=BOB)
    token = (await mailbox.one()).token
    tries = [
        Person(roost, "named").ask("accept-invitation", token=token, username=f"bob{number}", password=NEW)
        for number in range(50)
    ]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    database = database_of(roost, "named")
    assert await database["users"].count_documents({"app_id": "named"}) == 2


async def test_the_invited_decide_nothing_that_the_server_decides(roost: Roost, mailbox: Mailbox) -> None:
    admin = await admin_of(roost, "named", "ada")
    await admin.ask("invite", email=BOB)
    token = (await mailbox.one()).token
    data: dict[str, Any] = {"token": token, "username": "bob", "password": NEW}
    for field in ("roles", "permissions", "verified", "_id", "username_key", "is_system", "$set", "app_id"):
        error = await Person(roost, "named").refused("accept-invitation", **data, profile={field: ["admin"]})
        assert (error.code, field in error.message) == (400, True)
    profile = {"password": "password1", "email": "eve@e.example", "username": "eve"}
    made = await Person(roost, "named").ask("accept-invitation", **data, profile=profile)
    assert (made["user"]["username"], made["user"]["email"]) == ("bob", BOB)
    assert await can_log_in(roost, "named", "bob", NEW)


async def test_an_account_goes_with_all_that_belongs_to_it(roost: Roost, mailbox: Mailbox) -> None:
    ada = Person(roost, "mailed")
    await ada.sign_up(ADA)
    await ada.log_in(ADA)
    await ada.ask("verify-request")
    token = (await mailbox.one()).token
    told: list[Any] = []
    roost.app.services["users"].on("removed", lambda record, context: told.append(record["email"]))
    for wrong in ("wrong horse", None, ""):
        assert (await ada.refused("remove-account", currentPassword=wrong)).code == 400
    assert (await Person(roost, "mailed").refused("remove-account", currentPassword=PASSWORD)).code == 401
    assert told == []
    assert await ada.ask("remove-account", currentPassword=PASSWORD) == {"action": "remove-account", "status": "done"}
    assert told == [ADA]
    with pytest.raises(NotAuthenticated):
        await ada.call("users", "find")
    assert not await can_log_in(roost, "mailed", ADA)
    database = database_of(roost, "named")
    assert await database["users"].count_documents({"app_id": "mailed"}) == 0
    assert await database["sessions"].count_documents({"app_id": "mailed"}) == 0
    assert await database["account_tokens"].count_documents({"app_id": "mailed", "kind": "verify"}) == 0
    assert (await ada.refused("verify", token=token)).message == INVALID


async def test_removal_by_the_users_service_takes_the_links_along(roost: Roost, mailbox: Mailbox) -> None:
    ada = Person(roost, "mailed")
    await ada.sign_up(ADA)
    await ada.log_in(ADA)
    await ada.ask("verify-request")
    token = (await mailbox.one()).token
    await ada.call("users", "remove", ada.id)
    assert (await Person(roost, "mailed").refused("verify", token=token)).message == INVALID


async def test_a_profile_is_an_object(roost: Roost) -> None:
    with pytest.raises(BadRequest, match="The profile must be an object"):
        await Person(roost, "mailed").ask("accept-invitation", token="x", password=NEW, profile=["x"])


async def test_who_was_invited_is_stored_under_the_address(roost: Roost, mailbox: Mailbox) -> None:
    admin = await admin_of(roost, "strict", ADA)
    await mailbox.news()
    await admin.ask("invite", email=BOB)
    token = (await mailbox.one()).token
    await Person(roost, "strict").ask("accept-invitation", token=token, password="another horse 2")
    assert (await stored(roost, "strict", BOB))["verified"] is True
    assert await can_log_in(roost, "strict", BOB, "another horse 2")
