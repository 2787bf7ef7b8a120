"""Who has an account: what an open tenant tells, and a protected one does not (LIMITS A4)."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from hooks.context import Params, Record
from hooks.errors import BadRequest, Conflict, FeathersError, NotFound
from server.main import Roost
from tests.conftest import StartRoost
from tests.integration.accounts.people import ADA, APPS, BOB, EVE, NEW, Mailbox, Person, can_log_in
from tests.integration.authentication.clients import PASSWORD, stored, tenant_of
from tests.support.client import connect, rest
from tests.support.jobs import mailed
from tests.support.placed import database_of
from tests.support.samples import alike, measure

UNSEEN = 0.00005
"""Seconds of a difference that nobody sees over a network, though statistics do."""


async def member(roost: Roost, mailbox: Mailbox, email: str) -> Person:
    """A user of `shy` who has confirmed the address and is logged in."""
    person = Person(roost, "shy")
    await person.sign_up(email)
    await person.ask("verify", token=(await mailbox.one()).token)
    await person.log_in(email)
    return person


async def test_an_open_tenant_says_that_a_name_is_taken(roost: Roost) -> None:
    await Person(roost, "mailed").sign_up(ADA)
    with pytest.raises(Conflict, match="This email is already taken"):
        await Person(roost, "mailed").sign_up(ADA)


async def test_a_sign_up_with_a_taken_name_answers_as_any_other(roost: Roost, mailbox: Mailbox) -> None:
    await member(roost, mailbox, ADA)
    before = await stored(roost, "shy", ADA)
    async with rest(roost, "shy") as http:
        replies = [
            await http.request("POST", "/users", {"color": "red", "email": email, "password": NEW, "list": [1]})
            for email in (ADA, BOB)
        ]
    taken, fresh = replies
    assert taken.status == fresh.status == 201
    assert {*taken.headers} == {*fresh.headers}
    assert len(taken.body) == len(fresh.body)
    assert list(taken.json) == list(fresh.json)
    for reply, email in ((taken, ADA), (fresh, BOB)):
        assert reply.json == {"_id": reply.json["_id"], "color": "red", "email": email, "list": [1]}
        assert int(reply.json["_id"][:8], 16) == pytest.approx(time.time(), abs=10)
    assert await stored(roost, "shy", ADA) == before
    letters = {letter.to: letter for letter in await mailbox.news()}
    assert "which has one already" in letters[ADA].text
    assert "confirm" in letters[BOB].text
    await Person(roost, "shy").ask("verify", token=letters[BOB].token)
    assert await can_log_in(roost, "shy", BOB, NEW)
    assert await can_log_in(roost, "shy", ADA)


async def test_it_answers_alike_by_socket_and_under_another_spelling(roost: Roost, mailbox: Mailbox) -> None:
    await member(roost, mailbox, ADA)
    told: list[Any] = []
    roost.app.services["users"].on("created", lambda record, context: told.append(record))
    async with connect(roost, "shy") as socket:
        data = {"email": ADA.upper(), "password": NEW}
        answer = await socket.call("create", "users", data, {})
        assert answer == {"_id": answer["_id"], "email": ADA.upper()}
        selected = await socket.call("create", "users", data, {"query": {}, "$select": ["email"]})
        assert set(selected) == {"_id", "email"}
    assert told == [], "nobody was created, and the server's own code knows"


async def test_of_ten_sign_ups_at_once_all_answer_alike_and_one_is(roost: Roost) -> None:
    answers = await asyncio.gather(*(Person(roost, "shy").sign_up(ADA) for _ in range(10)))
    assert len({str(answer["_id"]) for answer in answers}) == 10
    assert {tuple(answer) for answer in answers} == {("_id", "email")}
    database = database_of(roost, "shy")
    assert await database["users"].count_documents({"app_id": "shy"}) == 1


BAD: list[Record] = [
    {"email": ADA},
    {"email": ADA, "password": "short"},
    {"email": ADA, "password": "password1"},
    {"email": ADA, "password": NEW, "roles": ["admin"]},
    {"email": ADA, "password": NEW, "_id": "x"},
]


async def test_what_is_wrong_is_wrong_for_all_alike(roost: Roost, mailbox: Mailbox) -> None:
    await member(roost, mailbox, ADA)
    for data in BAD:
        errors = []
        for email in (ADA, BOB):
            with pytest.raises(BadRequest) as caught:
                await Person(roost, "shy").call("users", "create", data={**data, "email": email})
            errors.append(caught.value.to_json())
        assert errors[0] == errors[1]


async def login_error(roost: Roost, name: str, password: str) -> Record:
    with pytest.raises(FeathersError) as caught:
        await Person(roost, "shy").log_in(name, password)
    return caught.value.to_json()


async def test_a_login_after_the_sign_up_tells_nothing(roost: Roost, mailbox: Mailbox) -> None:
    """Who signs up with any name cannot find out by his own password whether it was free."""
    await member(roost, mailbox, ADA)
    for email in (ADA, BOB):
        await Person(roost, "shy").call("users", "create", data={"email": email, "password": NEW})
    errors = [await login_error(roost, email, NEW) for email in (ADA, BOB, EVE)]
    assert errors[0] == errors[1] == errors[2]
    assert errors[0]["message"] == "Invalid login"


async def test_requests_answer_alike(roost: Roost, mailbox: Mailbox) -> None:
    await member(roost, mailbox, ADA)
    await Person(roost, "shy").sign_up(BOB)
    await mailbox.news()
    async with rest(roost, "shy") as http:
        for action in ("reset-request", "verify-request"):
            replies = [
                await http.request("POST", "/accounts", {"action": action, "email": email}) for email in (ADA, BOB, EVE)
            ]
            assert {(reply.status, reply.body) for reply in replies} == {(201, replies[0].body)}
    assert json.loads(replies[0].body) == {"action": "verify-request", "status": "accepted"}


async def test_nobody_sees_or_hears_others(roost: Roost, mailbox: Mailbox) -> None:
    ada, bob = await member(roost, mailbox, ADA), await member(roost, mailbox, BOB)
    assert [user["email"] for user in (await ada.call("users", "find"))["data"]] == [ADA]
    assert (await ada.call("users", "find", query={"email": BOB}))["total"] == 0
    assert (await ada.call("users", "find", query={"$or": [{"email": BOB}, {"email": ADA}]}))["total"] == 1
    with pytest.raises(NotFound):
        await ada.call("users", "get", bob.id)
    async with connect(roost, "shy") as socket:
        await socket.login_by(ada.token)
        await Person(roost, "shy").sign_up(EVE)
        await bob.call("users", "patch", bob.id, {"color": "red"})
        await socket.quiet()
    tenant = await tenant_of(roost, "shy")
    await roost.app.call("users", "patch", Params(tenant=tenant), id=ada.id, data={"permissions": ["admin"]})
    assert (await ada.call("users", "find"))["total"] == 3


async def test_names_are_not_tried_out_by_renaming(roost: Roost, mailbox: Mailbox) -> None:
    ada = await member(roost, mailbox, ADA)
    await member(roost, mailbox, BOB)
    for method in ("patch", "update"):
        errors = []
        for email in (BOB, EVE):
            with pytest.raises(BadRequest) as caught:
                await ada.call("users", method, ada.id, {"email": email})
            errors.append(caught.value.to_json())
        assert errors[0] == errors[1]
        assert (await ada.call("users", method, ada.id, {"email": ADA, "color": "red"}))["color"] == "red"
    answers = [await ada.ask("change-email-request", email=email, currentPassword=PASSWORD) for email in (BOB, EVE)]
    assert answers[0] == answers[1]
    letters = {letter.to: letter for letter in await mailbox.news()}
    assert "has one already" in letters[BOB].text
    await ada.ask("change-email", token=letters[EVE].token)
    assert await can_log_in(roost, "shy", EVE)


async def test_with_names_for_users_it_is_the_same(roost: Roost, mailbox: Mailbox) -> None:
    with pytest.raises(BadRequest, match="The email is missing"):
        await Person(roost, "shynamed").sign_up("ada")
    answers = [await Person(roost, "shynamed").sign_up(name, email=BOB) for name in ("ada", "Ada", "ben")]
    assert [[*answer] for answer in answers] == [["_id", "username", "email"]] * 3
    letters = await mailbox.news()
    assert {letter.to for letter in letters} == {BOB}
    assert sum("confirm" in letter.text for letter in letters) in (1, 2)


async def test_an_account_before_its_owner_is_taken_back_by_the_owner(roost: Roost, mailbox: Mailbox) -> None:
    """Who signs up with another's address, and waits, has nothing once the owner has come."""
    await Person(roost, "shy").sign_up(ADA)
    await Person(roost, "shy").call("users", "create", data={"email": ADA, "password": NEW})
    assert {letter.to for letter in await mailbox.news()} == {ADA}
    await Person(roost, "shy").ask("reset-request", email=ADA)
    await Person(roost, "shy").ask("reset", token=(await mailbox.one()).token, password=NEW)
    assert await can_log_in(roost, "shy", ADA, NEW)
    assert not await can_log_in(roost, "shy", ADA)


@pytest.mark.timing
@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ["sign-up", "reset-request", "verify-request"])
async def test_a4_answers_take_as_long_whoever_exists(roosts: StartRoost, tmp_path: Path, action: str) -> None:
    """A4: sign-up, reset, verify: same timing for known and unknown. Medians differ by less than 5 ms, by no pattern."""
    roost = await roosts(APPS, data=tmp_path, name_failures=1_000, address_failures=10_000)
    await member(roost, Mailbox(roost), ADA)
    person, numbers = Person(roost, "shy"), itertools.count()

    async def ask(email: str) -> None:
        if action == "sign-up":
            await person.call("users", "create", data={"email": email, "password": NEW})
        else:
            await person.ask(action, email=email)

    async def settle() -> None:
        await mailed(roost)

    ways = {"known": lambda: ask(ADA), "unknown": lambda: ask(f"{next(numbers)}@x.example")}
    for _ in range(3):
        seconds = await measure(ways, 150, settle=settle)
        is_alike, told = alike(seconds["known"], seconds["unknown"], unseen=UNSEEN)
        print(f"A4, {action}: {told}")  # noqa: T201
        if is_alike:
            return
    pytest.fail(told)
