"""Mails as jobs (TENANCY JB-5): kept sealed, sent in the background, tried again, and survivors of their process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from hooks.tenant import Tenant
from services.authentication.master import BrokenSeal, MasterKey
from services.jobs import queue
from services.jobs.model import State
from services.jobs.queue import Jobs
from services.mail.message import Mail, Mailer, MailFailed, MailRefused
from services.mail.outbox import Mailers, Outbox
from tests.integration.jobs.conftest import CONTROL_PLANE, House

MASTER = MasterKey(bytes(range(32)))


class Postman:
    """A mailer that does what it is told, and keeps what it took."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes: Iterator[Exception | None] = iter(outcomes)
        self.attempts = 0
        self.sent: list[Mail] = []
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, mail: Mail) -> None:
        self.attempts += 1
        await self.open.wait()
        outcome = next(self.outcomes, None)
        if outcome is not None:
            raise outcome
        self.sent.append(mail)


def by(postman: Postman) -> Mailers:
    """The one mailer of all apps."""

    @asynccontextmanager
    async def mailer_of(tenant: Tenant) -> AsyncIterator[Mailer]:
        yield postman

    return mailer_of


def mail(number: int = 1) -> Mail:
    return Mail(f"ada{number}@secret.example", "secret subject", "secret token", html="<b>secret</b>", from_name="Acme")


async def only_job(house: House) -> dict[str, object]:
    """The one mail that was posted, as it is kept."""
    (found,), _ = await house.store.find("acme", {}, 0, 10)
    return found


async def test_posting_returns_at_once_and_the_mail_leaves(house: House) -> None:
    postman = Postman()
    postman.open.clear()
    outbox = Outbox(house.jobs, by(postman), MASTER)
    await house.node().start()
    assert await outbox.post(house.tenants["acme"], mail())
    assert postman.sent == []
    postman.open.set()
    assert (await house.ended("acme", str((await only_job(house))["_id"])))["state"] == State.DONE
    assert postman.sent == [mail()]


@pytest.mark.parametrize("failure", [MailFailed("451"), OSError("no route"), RuntimeError("secret token")])
async def test_what_fails_is_tried_again(house: House, failure: Exception) -> None:
    postman = Postman(failure, failure)
    outbox = Outbox(house.jobs, by(postman), MASTER)
    with capture_logs() as logs:
        await outbox.post(house.tenants["acme"], mail())
        await house.node().start()
        ended = await house.ended("acme", str((await only_job(house))["_id"]))
    assert (postman.attempts, postman.sent) == (3, [mail()])
    assert "secret" not in f"{logs}{ended}", "neither address nor text is for the log"


async def test_what_is_refused_is_given_up_at_once(house: House) -> None:
    postman = Postman(MailRefused("550 no such user"))
    outbox = Outbox(house.jobs, by(postman), MASTER)
    await outbox.post(house.tenants["acme"], mail())
    await house.node().start()
    ended = await house.ended("acme", str((await only_job(house))["_id"]))
    assert (ended["state"], ended["attempt"], postman.attempts) == (State.FAILED, 1, 1)


async def test_a_mail_survives_the_process_that_wrote_it(house: House) -> None:
    await Outbox(house.jobs, by(Postman()), MASTER).post(house.tenants["acme"], mail())
    postman, later = Postman(), Jobs(house.store, control_plane=CONTROL_PLANE)
    Outbox(later, by(postman), MASTER)
    await house.node(later).start()
    await house.ended("acme", str((await only_job(house))["_id"]))
    assert postman.sent == [mail()]


async def test_a_mail_is_kept_sealed_for_its_tenant(house: House) -> None:
    await Outbox(house.jobs, by(Postman()), MASTER).post(house.tenants["acme"], mail())
    kept = await only_job(house)
    assert "secret" not in json.dumps(kept, default=str)
    foreign = MasterKey(bytes(32))
    with pytest.raises(BrokenSeal):
        foreign.open(MASTER.seal(b"x", "mail", "acme"), "mail", "acme")
    with pytest.raises(BrokenSeal):
        MASTER.open(MASTER.seal(b"x", "mail", "acme"), "mail", "globex")


async def test_a_mail_that_cannot_be_kept_is_told_to_the_log(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST", 1)
    outbox = Outbox(house.jobs, by(Postman()), MASTER)
    with capture_logs() as logs:
        assert await outbox.post(house.tenants["acme"], mail(1))
        assert not await outbox.post(house.tenants["acme"], mail(2))
    (line,) = logs
    assert (line["event"], line["error"]) == ("a mail was not taken", "TooManyRequests")
