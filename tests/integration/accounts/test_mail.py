"""Mails of a whole server: by SMTP when that is set, and never in the way of a call."""

from __future__ import annotations

import asyncio
from email import message_from_bytes
from email.policy import default

import pytest
from pydantic import SecretStr

from server.backend import StartError
from tests.conftest import StartRoost
from tests.integration.accounts.people import ADA, APPS, NEW, Person, can_log_in
from tests.integration.mail.smtp_server import smtp_server
from tests.support.jobs import mailed


async def test_a_link_arrives_by_smtp_and_works(roosts: StartRoost) -> None:
    async with smtp_server() as smtp:
        url = SecretStr(f"smtp://127.0.0.1:{smtp.port}?tls=none")
        roost = await roosts(APPS, smtp_url=url, mail_from="no-reply@roost.example")
        person = Person(roost, "mailed")
        await person.sign_up(ADA)
        await person.ask("reset-request", email=ADA)
        await mailed(roost)
        (envelope,) = smtp.envelopes
        assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply+mailed@roost.example", [ADA])
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default)
        assert str(message["From"]) == "Mailed <no-reply+mailed@roost.example>"
        text = message.get_content()
        token = text.partition("token=")[2].split()[0]
        await person.ask("reset", token=token, password=NEW)
        assert await can_log_in(roost, "mailed", ADA, NEW)
        assert not await asyncio.to_thread((roost.settings.data / "mail").exists)


async def test_a_server_that_never_answers_holds_up_no_call_and_no_end(roosts: StartRoost) -> None:
    accepted = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with silent:
        url = SecretStr(f"smtp://127.0.0.1:{silent.sockets[0].getsockname()[1]}?tls=none")
        roost = await roosts(APPS, smtp_url=url, mail_from="no-reply@roost.example")
        async with asyncio.timeout(5):
            await Person(roost, "mailed").sign_up(ADA)
            assert (await Person(roost, "mailed").ask("reset-request", email=ADA))["status"] == "accepted"
            await accepted.wait()
        await roost.background.worker.stop(0)


async def test_settings_that_cannot_work_are_told_at_the_start(roosts: StartRoost) -> None:
    with pytest.raises(StartError, match="ROOST_MAIL_FROM must be set with ROOST_SMTP_URL"):
        await roosts(APPS, smtp_url=SecretStr("smtp://mail.example"))
    with pytest.raises(StartError, match="ROOST_SMTP_URL must be") as caught:
        await roosts(APPS, smtp_url=SecretStr("hunter2"), mail_from="a@b.example")
    assert "hunter2" not in str(caught.value)
