"""SmtpMailer against a real SMTP server."""

from __future__ import annotations

import socket
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from urllib.parse import quote

import pytest
from aiosmtpd.smtp import Envelope

from services.mail.message import Mail, MailFailed, MailRefused
from services.mail.smtp import SmtpMailer, SmtpServer
from tests.integration.mail.smtp_server import PASSWORD, USER, certificate, smtp_server

SENDER = "no-reply@roost.example"
MAIL = Mail("ada@a.example", "Grüße", "line\n.\n..dots\nüber\n", "<p>über</p>", from_name="Acme, Inc.")


def content_of(envelope: Envelope) -> bytes:
    content = envelope.content
    assert isinstance(content, bytes)
    return content


def plain(port: int) -> SmtpMailer:
    return SmtpMailer(SmtpServer.parse(f"smtp://127.0.0.1:{port}?tls=none"), SENDER)


async def test_a_mail_arrives_as_it_was_written() -> None:
    async with smtp_server() as server:
        await plain(server.port).send(MAIL)
    (envelope,) = server.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, ["ada@a.example"])
    read = message_from_bytes(content_of(envelope), policy=default)
    assert (read["Subject"], read["To"]) == ("Grüße", "ada@a.example")
    assert read["From"].addresses[0].display_name == "Acme, Inc."
    text = read.get_body(("plain",))
    assert text is not None
    assert text.get_content().replace("\r\n", "\n") == MAIL.text


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_by_default_it_is_encrypted_and_the_certificate_is_checked(tmp_path: Path, scheme: str) -> None:
    server_context, client_context = certificate(tmp_path)
    how = {"tls": server_context} if scheme == "smtps" else {"starttls": server_context}
    async with smtp_server(**how, login=True) as server:
        url = f"{scheme}://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}"
        await SmtpMailer(SmtpServer.parse(url), SENDER, context=client_context).send(MAIL)
        assert server.encrypted == [True]
        with pytest.raises(MailFailed):
            await SmtpMailer(SmtpServer.parse(url), SENDER).send(MAIL)
        wrong = f"{scheme}://{USER}:wrong@127.0.0.1:{server.port}"
        with pytest.raises(MailFailed):
            await SmtpMailer(SmtpServer.parse(wrong), SENDER, context=client_context).send(MAIL)
    assert len(server.envelopes) == 1


async def test_without_encryption_nothing_is_sent() -> None:
    async with smtp_server() as server:
        with pytest.raises(MailFailed):
            await SmtpMailer(SmtpServer.parse(f"smtp://127.0.0.1:{server.port}"), SENDER).send(MAIL)
    assert server.envelopes == []


async def test_not_now_and_never_are_told_apart() -> None:
    async with smtp_server() as server:
        server.answers += ["451 later", "554 spam"]
        with pytest.raises(MailFailed, match="451"):
            await plain(server.port).send(MAIL)
        with pytest.raises(MailRefused, match="554"):
            await plain(server.port).send(MAIL)
        server.recipient_answer = "550 no such ada@a.example"
        with pytest.raises(MailRefused, match=r"^the server answered 550$"):
            await plain(server.port).send(MAIL)
        server.recipient_answer = "450 greylisted"
        with pytest.raises(MailFailed, match="450"):
            await plain(server.port).send(MAIL)


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(MailFailed):
            await plain(free.getsockname()[1]).send(MAIL)
