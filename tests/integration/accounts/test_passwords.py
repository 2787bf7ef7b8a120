"""New passwords: forgotten, changed, and what a password has to be."""

from __future__ import annotations

import asyncio

import pytest

from hooks.context import Params, Record
from hooks.errors import BadRequest, FeathersError, NotAuthenticated
from server.main import Roost
from services.accounts.tokens import LIFETIMES
from tests.integration.accounts.people import ADA, BOB, INVALID, NEW, Mailbox, Person, can_log_in
from tests.integration.authentication.clients import PASSWORD, stored, tenant_of
from tests.support.placed import database_of

NOW = {"action": "reset", "status": "done"}


@pytest.fixture
async def ada(roost: Roost) -> Person:
    """A user of `mailed`, logged in."""
    person = Person(roost, "mailed")
    await person.sign_up(ADA)
    await person.log_in(ADA)
    return person


async def test_who_forgot_the_password_gets_a_link_and_chooses_a_new_one(
    roost: Roost, mailbox: Mailbox, ada: Person
) -> None:
    stranger = Person(roost, "mailed")
    accepted = {"action": "reset-request", "status": "accepted"}
    assert await stranger.ask("reset-request", email=ADA.upper().replace("EXAMPLE", "Example")) == accepted
    letter = await mailbox.one()
    assert letter.to == ADA
    assert f"https://app.example/#/confirm?action=reset&token={letter.token}" in letter.text
    assert "Mailed" in letter.subject
    assert await stranger.ask("reset", token=letter.token, password=NEW) == NOW
    assert await can_log_in(roost, "mailed", ADA, NEW)
    assert not await can_log_in(roost, "mailed", ADA)
    assert (await stored(roost, "mailed", ADA))["verified"] is True, "the link has come from the mailbox"


async def test_a_new_password_ends_all_sessions(roost: Roost, mailbox: Mailbox, ada: Person) -> None:
    await ada.call("users", "find")
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    await Person(roost, "mailed").ask("reset", token=(await mailbox.one()).token, password=NEW)
    with pytest.raises(NotAuthenticated):
        await ada.call("users", "find")


async def test_nobody_is_mailed_who_does_not_exist(roost: Roost, mailbox: Mailbox, ada: Person) -> None:
    stranger = Person(roost, "mailed")
    known = await stranger.ask("reset-request", email=ADA)
    for name in (BOB, "nonsense", "x" * 10_000, "\ud800@a.example", "ada@a.example\0"):
        assert await stranger.ask("reset-request", email=name) == known
        assert await stranger.ask("verify-request", email=name) == {**known, "action": "verify-request"}
    assert [letter.to for letter in await mailbox.news()] == [ADA]


async def test_of_fifty_uses_at_once_one_succeeds(roost: Roost, mailbox: Mailbox, ada: Person) -> None:
    """LIMITS A8: single-use under concurrency."""
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    token = (await mailbox.one()).token
    passwords = [f"{NEW} {number}" for number in range(50)]
    attempts = [Person(roost, "mailed").ask("reset", token=token, password=password) for password in passwords]
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    (winner,) = [index for index, answer in enumerate(answers) if answer == NOW]
    assert {str(answer) for answer in answers if answer != NOW} == {INVALID}
    assert await can_log_in(roost, "mailed", ADA, passwords[winner])


async def test_a_refused_password_leaves_the_link_good(roost: Roost, mailbox: Mailbox, ada: Person) -> None:
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    token = (await mailbox.one()).token
    for password in ("short", "x" * 129, "password1", None, 5, ["another horse"]):
        error = await Person(roost, "mailed").refused("reset", token=token, password=password)
        assert (error.code, "password" in error.message) == (400, True)
    assert await Person(roost, "mailed").ask("reset", token=token, password=NEW) == NOW


async def test_every_change_of_the_password_makes_links_void(roost: Roost, mailbox: Mailbox, ada: Person) -> None:
    """LIMITS A8: void after password change, however it is changed."""
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    await ada.ask("verify-request")
    await ada.ask("change-email-request", email=BOB, currentPassword=PASSWORD)
    letters = await mailbox.news()
    assert sorted(letter.to for letter in letters) == [ADA, ADA, BOB]
    kept = database_of(roost, "mailed")["account_tokens"]
    live = {"app_id": "mailed", "kind": {"$in": [*LIFETIMES]}}
    assert await kept.count_documents(live) == 3
    await ada.call("users", "patch", ada.id, {"password": NEW})
    assert await kept.count_documents(live) == 0
    for letter in letters:
        for action in ("reset", "verify", "change-email"):
            assert (await ada.refused(action, token=letter.token, password=NEW)).message == INVALID


@pytest.mark.parametrize("change", [{"password": NEW}, {"email": BOB}], ids=str)
async def test_a_link_that_was_put_away_before_the_change_is_void_too(
    roost: Roost, mailbox: Mailbox, ada: Person, change: Record
) -> None:
    """A token is bound to password and address of its owner: a copy of its record that comes back does not count."""
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    token = (await mailbox.one()).token
    records = database_of(roost, "mailed")["account_tokens"]
    copy = await records.find_one({"app_id": "mailed", "kind": "reset"})
    assert copy is not None
    await ada.call("users", "patch", ada.id, change)
    await records.insert_one(copy)
    assert (await ada.refused("reset", token=token, password=PASSWORD)).message == INVALID


async def test_a_link_goes_with_the_address_that_it_was_sent_to(roost: Roost, mailbox: Mailbox, ada: Person) -> None:
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    token = (await mailbox.one()).token
    await ada.call("users", "patch", ada.id, {"email": BOB})
    assert (await ada.refused("reset", token=token, password=NEW)).message == INVALID


async def test_the_own_password_is_changed_by_who_knows_it(roost: Roost, ada: Person) -> None:
    other = Person(roost, "mailed")
    await other.log_in(ADA)
    assert (
        await Person(roost, "mailed").refused("change-password", currentPassword=PASSWORD, password=NEW)
    ).code == 401
    for wrong in ("wrong horse", "", None, 5, {"$ne": ""}, "p" * 1_000_000, "\ud800"):
        assert (await ada.refused("change-password", currentPassword=wrong, password=NEW)).code == 400
    assert (await ada.refused("change-password", currentPassword=PASSWORD, password="password1")).code == 400
    changed = await ada.ask("change-password", currentPassword=PASSWORD, password=NEW)
    assert changed == {"action": "change-password", "status": "done"}
    assert await can_log_in(roost, "mailed", ADA, NEW)
    await ada.call("users", "find")
    with pytest.raises(NotAuthenticated):
        await other.call("users", "find")


async def test_a_new_password_keeps_the_policy_wherever_it_is_set(roost: Roost, ada: Person) -> None:
    for password in ("password1", "PASSWORD1", "short"):
        with pytest.raises(BadRequest, match="password"):
            await ada.call("users", "patch", ada.id, {"password": password})
        with pytest.raises(BadRequest, match="password"):
            await ada.call("users", "update", ada.id, {"email": ADA, "password": password})
        with pytest.raises(BadRequest, match="password"):
            await Person(roost, "mailed").call("users", "create", data={"email": BOB, "password": password})
    with pytest.raises(BadRequest, match="12 to 128"):
        await Person(roost, "strict").call("users", "create", data={"email": BOB, "password": "correct hor"})


async def test_where_people_have_names_mails_go_to_their_address(roost: Roost, mailbox: Mailbox) -> None:
    for name, email in (("Ada", ADA), ("Bob", None)):
        await Person(roost, "named").sign_up(name, **({"email": email} if email else {}))
        await Person(roost, "named").ask("reset-request", username=name.lower())
    letter = await mailbox.one()
    assert letter.to == ADA
    assert "the account Ada" in letter.text
    await Person(roost, "named").ask("reset", token=letter.token, password=NEW)
    assert await can_log_in(roost, "named", "ada", NEW)
    assert (await Person(roost, "named").refused("reset-request", email=ADA)).message == "The username is missing"


async def test_nothing_secret_is_kept_or_told(roost: Roost, mailbox: Mailbox, ada: Person) -> None:
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    token = (await mailbox.one()).token
    records = database_of(roost, "mailed")["account_tokens"]
    kept = [record async for record in records.find({"app_id": "mailed"})]
    assert len(kept) == 2
    assert token not in str(kept)
    assert "argon2" not in str(kept)
    assert all("expires_at" in record for record in kept)


async def test_a_token_is_a_text(roost: Roost, mailbox: Mailbox, ada: Person) -> None:
    """parse-server GHSA-vgjh-hmwf-c588: what is no text never meets a query."""
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    await mailbox.one()
    tokens: list[object] = [None, 5, True, ["x"], {"$ne": ""}, {"$gt": ""}, {"_id": {"$exists": True}}]
    for token in tokens:
        for action in ("reset", "verify", "change-email", "accept-invitation"):
            error = await Person(roost, "mailed").refused(action, token=token, password=NEW)
            assert (error.code, error.message) == (400, "The token must be a text")


async def test_tokens_are_of_their_app_and_their_purpose(roost: Roost, mailbox: Mailbox, ada: Person) -> None:
    twin = Person(roost, "strict")
    await twin.sign_up(ADA)
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    letters = {letter.sender.split("<")[0].strip(' "'): letter for letter in await mailbox.news()}
    reset, verify = letters["Mailed"].token, letters["The Strict"].token
    wrong: list[tuple[str, str, str]] = [
        ("strict", "reset", reset),
        ("named", "reset", reset),
        ("mailed", "verify", reset),
        ("mailed", "change-email", reset),
        ("mailed", "accept-invitation", reset),
        ("strict", "reset", verify),
        ("mailed", "verify", verify),
        ("mailed", "reset", reset + "x"),
        ("mailed", "reset", "x" * 129),
        ("mailed", "reset", "\ud800"),
    ]
    messages = set()
    for app, action, token in wrong:
        data = {"token": token, "password": "another horse 2", "username": "ada"}
        error: FeathersError = await Person(roost, app).refused(action, **data)
        messages.add((error.code, error.name, error.message))
    assert messages == {(400, "BadRequest", INVALID)}
    await Person(roost, "mailed").ask("reset", token=reset, password=NEW)
    await twin.ask("verify", token=verify)


async def test_a_failed_write_gives_the_token_back_only_if_nothing_can_have_happened(
    roost: Roost, mailbox: Mailbox, ada: Person
) -> None:
    tenant = await tenant_of(roost, "mailed")
    await Person(roost, "mailed").ask("reset-request", email=ADA)
    token = (await mailbox.one()).token
    await roost.app.call("users", "remove", Params(tenant=tenant), id=ada.id)
    assert (await ada.refused("reset", token=token, password=NEW)).message == INVALID
