"""Account tokens: their end, their bounds and their trace in the database."""

from __future__ import annotations

import asyncio
import time

import pytest

from hooks.errors import BadRequest, Conflict, Timeout, Unavailable
from server.main import Roost
from services.accounts.tokens import COLLECTION, LIFETIMES, PER_HOUR, AccountTokens, InvalidToken, Purpose
from tests.integration.authentication.clients import tenant_of
from tests.support.placed import database_of


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(roost: Roost, clock: Clock) -> AccountTokens:
    return AccountTokens(roost.backend.isolation, clock=clock)


@pytest.mark.parametrize("purpose", LIFETIMES)
async def test_a_token_works_until_its_time_is_over(
    roost: Roost, tokens: AccountTokens, clock: Clock, purpose: Purpose
) -> None:
    tenant = await tenant_of(roost, "named")
    lifetime = LIFETIMES[purpose].total_seconds()
    good, late = [await tokens.issue(tenant, purpose, "user:1", "a@b.example", user_id="1") for _ in range(2)]
    assert len(good) >= 43, "256 bits"
    clock.now += lifetime - 1
    async with tokens.use(tenant, purpose, good) as used:
        assert (used["email"], used["user_id"]) == ("a@b.example", "1")
    clock.now += 1
    with pytest.raises(InvalidToken):
        async with tokens.use(tenant, purpose, late):
            pytest.fail("it has expired")


async def test_what_is_refused_gives_the_token_back_and_what_fails_does_not(
    roost: Roost, tokens: AccountTokens
) -> None:
    tenant = await tenant_of(roost, "named")
    for error, comes_back in ((Conflict(), True), (BadRequest(), True), (Timeout(), False), (Unavailable(), False)):
        token = await tokens.issue(tenant, "invite", "mail:x", "a@b.example")
        with pytest.raises(type(error)):
            async with tokens.use(tenant, "invite", token):
                raise error
        if comes_back:
            async with tokens.use(tenant, "invite", token) as again:
                assert again["subject"] == "mail:x"
        with pytest.raises(InvalidToken):
            async with tokens.use(tenant, "invite", token):
                pytest.fail("it is gone")


@pytest.mark.parametrize("purpose", LIFETIMES)
async def test_a8_of_fifty_uses_at_once_one_gets_the_token(
    roost: Roost, tokens: AccountTokens, purpose: Purpose
) -> None:
    """A8: one use under 50 parallel, for whatever the token is."""
    tenant = await tenant_of(roost, "named")
    token = await tokens.issue(tenant, purpose, "user:1", "a@b.example")

    async def use() -> None:
        async with tokens.use(tenant, purpose, token):
            pass

    outcomes = await asyncio.gather(*(use() for _ in range(50)), return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 1
    assert {type(outcome) for outcome in outcomes if outcome is not None} == {InvalidToken}


async def test_void_takes_all_of_one_subject_and_nothing_else(roost: Roost, tokens: AccountTokens) -> None:
    tenant, other = await tenant_of(roost, "named"), await tenant_of(roost, "mailed")
    mine = [await tokens.issue(tenant, purpose, "user:1", "a@b.example") for purpose in LIFETIMES]
    theirs = await tokens.issue(tenant, "reset", "user:2", "a@b.example")
    elsewhere = await tokens.issue(other, "reset", "user:1", "a@b.example")
    await tokens.void(tenant, "user:1")
    for purpose, token in zip(LIFETIMES, mine, strict=True):
        with pytest.raises(InvalidToken):
            async with tokens.use(tenant, purpose, token):
                pytest.fail("it is void")
    async with tokens.use(tenant, "reset", theirs), tokens.use(other, "reset", elsewhere):
        pass


async def test_mails_are_counted_by_kind_and_subject(roost: Roost, tokens: AccountTokens, clock: Clock) -> None:
    tenant = await tenant_of(roost, "named")
    clock.now = 1_000_000 * 60.0
    assert sorted(await asyncio.gather(*(tokens.may_mail(tenant, "reset", "mail:a") for _ in range(20)))) == [
        False
    ] * 19 + [True]
    assert await tokens.may_mail(tenant, "verify", "mail:a")
    assert await tokens.may_mail(tenant, "reset", "mail:b")
    assert await tokens.may_mail(await tenant_of(roost, "mailed"), "reset", "mail:a")
    sent = 1
    for _ in range(30):
        clock.now += 60
        sent += await tokens.may_mail(tenant, "reset", "mail:a")
    assert sent == PER_HOUR
    clock.now += 3600
    assert await tokens.may_mail(tenant, "reset", "mail:a")


async def test_the_note_of_a_mail_is_no_token(roost: Roost, tokens: AccountTokens) -> None:
    tenant = await tenant_of(roost, "named")
    await tokens.may_mail(tenant, "reset", "mail:a")
    records = database_of(roost, "named")[COLLECTION]
    note = await records.find_one({"app_id": "named"})
    assert note is not None
    for purpose in LIFETIMES:
        with pytest.raises(InvalidToken):
            async with tokens.use(tenant, purpose, note["_id"]["i"]):
                pytest.fail("it is none")


async def test_the_database_forgets_what_has_expired(roost: Roost) -> None:
    indexes = await database_of(roost, "named")[COLLECTION].index_information()
    (expiring,) = [index for index in indexes.values() if "expireAfterSeconds" in index]
    assert (expiring["key"], expiring["expireAfterSeconds"]) == ([("expires_at", 1)], 0)
