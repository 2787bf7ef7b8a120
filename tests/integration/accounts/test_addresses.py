"""Addresses: confirmed, required and changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hooks.errors import BadRequest, Conflict, NotAuthenticated
from server.main import Roost
from services.authentication.local import UNVERIFIED
from tests.integration.accounts.people import ADA, BOB, EVE, INVALID, Mailbox, Person, can_log_in
from tests.integration.authentication.clients import PASSWORD, stored


async def user_of(roost: Roost, app: str, name: str) -> Person:
    person = Person(roost, app)
    await person.sign_up(name)
    await person.log_in(name)
    return person


async def test_an_address_is_confirmed_by_the_link_alone(roost: Roost, mailbox: Mailbox) -> None:
    ada = await user_of(roost, "mailed", ADA)
    assert await mailbox.news() == [], "nobody asked for a confirmation"
    assert await ada.ask("verify-request") == {"action": "verify-request", "status": "accepted"}
    letter = await mailbox.one()
    assert (letter.to, letter.sender) == (ADA, "Mailed <roost+mailed@localhost>")
    for data in ({"verified": True}, {"verified": False}):
        with pytest.raises(BadRequest, match="'verified'"):
            await ada.call("users", "patch", ada.id, data)
    assert "verified" not in await stored(roost, "mailed", ADA)
    assert await Person(roost, "mailed").ask("verify", token=letter.token) == {"action": "verify", "status": "done"}
    assert (await stored(roost, "mailed", ADA))["verified"] is True
    assert (await ada.refused("verify", token=letter.token)).message == INVALID
    await ada.ask("verify-request")
    assert await mailbox.news() == [], "what is confirmed needs no link"


async def test_of_fifty_confirmations_at_once_one_succeeds(roost: Roost, mailbox: Mailbox) -> None:
    ada = await user_of(roost, "mailed", ADA)
    await ada.ask("verify-request")
    token = (await mailbox.one()).token
    tries = (Person(roost, "mailed").ask("verify", token=token) for _ in range(50))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in answers) == 1


async def test_where_it_is_required_nobody_logs_in_before(roost: Roost, mailbox: Mailbox) -> None:
    await Person(roost, "strict").sign_up(ADA)
    letter = await mailbox.one()
    assert (letter.to, letter.subject, letter.text.strip()) == (ADA, "Hi of The Strict", f"code {letter.token}")
    link = f"https://strict.example/confirm?action=verify&amp;token={letter.token}"
    assert letter.html is not None
    assert link in letter.html
    with pytest.raises(NotAuthenticated, match=f"^{UNVERIFIED}$"):
        await Person(roost, "strict").log_in(ADA)
    with pytest.raises(NotAuthenticated, match=r"^Invalid login$"):
        await Person(roost, "strict").log_in(ADA, "wrong horse")
    await Person(roost, "strict").ask("verify", token=letter.token)
    await Person(roost, "strict").log_in(ADA)


async def test_a_changed_address_is_not_confirmed_any_more(roost: Roost, mailbox: Mailbox) -> None:
    await Person(roost, "strict").sign_up(ADA)
    ada = Person(roost, "strict")
    await ada.ask("verify", token=(await mailbox.one()).token)
    await ada.log_in(ADA)
    await ada.call("users", "patch", ada.id, {"email": ADA, "color": "red"})
    assert await mailbox.news() == []
    assert (await stored(roost, "strict", ADA))["verified"] is True, "the same address stays confirmed"
    changed = await ada.call("users", "patch", ada.id, {"email": BOB})
    assert changed["verified"] is False
    assert not await can_log_in(roost, "strict", BOB)
    await ada.ask("verify", token=(await mailbox.one()).token)
    assert await can_log_in(roost, "strict", BOB)
    await ada.call("users", "update", ada.id, {"email": EVE})
    assert not await can_log_in(roost, "strict", EVE)


async def test_a_link_to_the_old_address_does_not_confirm_the_new_one(roost: Roost, mailbox: Mailbox) -> None:
    ada = await user_of(roost, "mailed", ADA)
    await ada.ask("verify-request")
    token = (await mailbox.one()).token
    await ada.call("users", "patch", ada.id, {"email": BOB})
    assert (await ada.refused("verify", token=token)).message == INVALID
    assert (await stored(roost, "mailed", BOB))["verified"] is False


NO_ADDRESSES: list[Any] = ["bob", 5, ["a@b.example"], "a@b.example\r\nBcc: c@d.example", "", " a@b.example"]


async def test_an_address_is_one(roost: Roost) -> None:
    ada = await user_of(roost, "named", "ada")
    for email in NO_ADDRESSES:
        for app, name in (("mailed", {}), ("named", {"username": "bob"})):
            data = {**name, "email": email, "password": PASSWORD}
            with pytest.raises(BadRequest, match="email"):
                await Person(roost, app).call("users", "create", data=data)
        for method in ("patch", "update"):
            with pytest.raises(BadRequest, match="email"):
                await ada.call("users", method, ada.id, {"username": "ada", "email": email})
        assert (await ada.refused("change-email-request", email=email, currentPassword=PASSWORD)).code == 400


async def test_who_has_a_name_may_have_no_address(roost: Roost) -> None:
    ada = await user_of(roost, "named", "ada")
    await ada.call("users", "patch", ada.id, {"email": ADA})
    assert (await ada.call("users", "patch", ada.id, {"email": None}))["email"] is None


async def test_a_new_address_is_used_after_its_link(roost: Roost, mailbox: Mailbox) -> None:
    ada = await user_of(roost, "mailed", ADA)
    assert (await ada.refused("change-email-request", email=BOB, currentPassword="wrong horse")).code == 400
    assert (
        await Person(roost, "mailed").refused("change-email-request", email=BOB, currentPassword=PASSWORD)
    ).code == 401
    await ada.ask("change-email-request", email=BOB, currentPassword=PASSWORD)
    letter = await mailbox.one()
    assert letter.to == BOB
    assert await can_log_in(roost, "mailed", ADA)
    await Person(roost, "mailed").ask("change-email", token=letter.token)
    assert not await can_log_in(roost, "mailed", ADA)
    await ada.log_in(BOB)
    assert (await stored(roost, "mailed", BOB))["verified"] is True
    notice = await mailbox.one()
    assert notice.to == ADA
    assert "another e-mail address" in notice.text


async def test_a_taken_address_is_refused_before_and_after(roost: Roost, mailbox: Mailbox) -> None:
    ada = await user_of(roost, "mailed", ADA)
    await user_of(roost, "mailed", BOB)
    with pytest.raises(Conflict):
        await ada.ask("change-email-request", email=BOB, currentPassword=PASSWORD)
    await ada.ask("change-email-request", email=EVE, currentPassword=PASSWORD)
    token = (await mailbox.one()).token
    await user_of(roost, "mailed", EVE)
    with pytest.raises(Conflict):
        await ada.ask("change-email", token=token)
    assert await can_log_in(roost, "mailed", ADA)


async def test_an_address_gets_few_mails(roost: Roost, mailbox: Mailbox) -> None:
    await user_of(roost, "mailed", ADA)
    for _ in range(8):
        await Person(roost, "mailed").ask("reset-request", email=ADA)
    assert len(await mailbox.news()) in (1, 2), "one in each minute of the clock"


async def test_a_name_brings_no_header_and_no_letter_into_a_mail(roost: Roost, mailbox: Mailbox) -> None:
    name = "Ada {code} <b>" + "visit evil " * 5
    await Person(roost, "named").sign_up(name, email=ADA)
    await Person(roost, "named").ask("reset-request", username=name)
    letter = await mailbox.one()
    assert letter.token
    assert "{code} <b>" in letter.text
    assert len(letter.text.splitlines()[0]) < 200


async def test_actions_are_what_they_are(roost: Roost) -> None:
    ada = await user_of(roost, "mailed", ADA)
    wrong: list[Any] = [None, [], "verify", {}, {"action": "nonsense"}, {"action": ["verify"]}, {"action": "__init__"}]
    for data in wrong:
        with pytest.raises(BadRequest, match="The action must be one of"):
            await ada.call("accounts", "create", data=data)
    assert (await ada.refused("reset-request")).message == "The email is missing"
    assert (await ada.refused("reset-request", email={"$ne": ""})).message == "The email must be a text"
    assert (await ada.refused("change-password", currentPassword=PASSWORD)).code == 400
