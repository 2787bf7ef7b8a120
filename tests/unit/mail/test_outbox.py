from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from services.mail.message import Mail, MailFailed, MailRefused
from services.mail.outbox import Outbox


class Postman:
    """A mailer that does what it is told, and keeps what it took."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes: Iterator[Exception | None] = iter(outcomes)
        self.attempts = 0
        self.sent: list[Mail] = []
        self.at_once = 0
        self.most_at_once = 0
        self.crowded, self.took, self.open = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.open.set()

    async def send(self, mail: Mail) -> None:
        self.attempts += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        if self.at_once == 3:
            self.crowded.set()
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        outcome = next(self.outcomes, None)
        if outcome is not None:
            raise outcome
        self.sent.append(mail)
        self.took.set()


def mail(number: int = 1) -> Mail:
    return Mail(f"ada{number}@secret.example", "secret subject", "secret token")


async def test_posting_returns_at_once_and_the_mail_leaves() -> None:
    postman = Postman()
    postman.open.clear()
    outbox = Outbox(postman)
    assert outbox.post(mail())
    assert postman.sent == []
    postman.open.set()
    await outbox.settled()
    assert postman.sent == [mail()]


@pytest.mark.parametrize("failure", [MailFailed("451"), OSError("no route"), RuntimeError("secret token")])
async def test_what_fails_is_tried_again(failure: Exception) -> None:
    postman = Postman(failure, failure)
    outbox = Outbox(postman, delays=(0.001, 0.001))
    with capture_logs() as logs:
        outbox.post(mail())
        await outbox.settled()
    assert postman.sent == [mail()]
    assert postman.attempts == 3
    assert "secret" not in str(logs)


async def test_after_the_last_attempt_it_is_given_up_and_said() -> None:
    postman = Postman(*[MailFailed("451")] * 3)
    outbox = Outbox(postman, delays=(0.001, 0.001))
    with capture_logs() as logs:
        outbox.post(mail())
        await outbox.settled()
    assert (postman.sent, postman.attempts) == ([], 3)
    assert [entry["given_up"] for entry in logs] == [False, False, True]


async def test_what_is_refused_is_not_tried_again() -> None:
    postman = Postman(MailRefused("the server answered 550"))
    outbox = Outbox(postman, delays=(0.001,))
    outbox.post(mail())
    await outbox.settled()
    assert postman.attempts == 1


async def test_a_mailer_that_hangs_is_left() -> None:
    postman = Postman()
    postman.open.clear()
    outbox = Outbox(postman, delays=(), timeout=0.01)
    outbox.post(mail())
    await outbox.settled()
    assert postman.attempts == 1
    assert postman.at_once == 0


async def test_mails_that_wait_and_leave_at_once_are_bounded() -> None:
    postman = Postman()
    postman.open.clear()
    outbox = Outbox(postman, most=10, at_once=3)
    with capture_logs() as logs:
        taken = [outbox.post(mail(number)) for number in range(12)]
    assert taken == [True] * 10 + [False] * 2
    assert len(logs) == 2
    assert "secret" not in str(logs)
    async with asyncio.timeout(2):
        await postman.crowded.wait()
    postman.open.set()
    await outbox.settled()
    assert len(postman.sent) == 10
    assert postman.most_at_once == 3
    assert outbox.post(mail())
    await outbox.settled()


async def test_one_mail_that_waits_for_its_next_attempt_holds_up_no_other() -> None:
    postman = Postman(MailFailed("451"))
    outbox = Outbox(postman, at_once=1, delays=(60.0,))
    outbox.post(mail(1))
    outbox.post(mail(2))
    async with asyncio.timeout(2):
        await postman.took.wait()
    assert postman.sent == [mail(2)]
    await outbox.stop(0)


async def test_the_end_waits_a_little_and_forgets_the_rest() -> None:
    postman = Postman()
    outbox = Outbox(postman)
    outbox.post(mail())
    await outbox.stop(1)
    assert postman.sent == [mail()]
    postman.open.clear()
    outbox.post(mail())
    with capture_logs() as logs:
        await outbox.stop(0)
    assert logs[0]["count"] == 1
    assert postman.at_once == 0
