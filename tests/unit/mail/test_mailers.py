from __future__ import annotations

import stat
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.mail.folder import LogMailer
from services.mail.mailers import choose_mailer
from services.mail.message import Mail, MailFailed
from services.mail.smtp import SmtpMailer, SmtpServer

MAIL = Mail("ada@a.example", "A new password", "use: TOKEN-1234\n")


async def test_in_development_a_mail_is_a_file_and_its_secret_is_not_in_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mail"
    with capture_logs() as logs:
        await LogMailer(folder).send(MAIL)
    (file,) = folder.iterdir()
    read = message_from_bytes(file.read_bytes(), policy=default)
    assert (read["To"], read.get_content().strip()) == ("ada@a.example", "use: TOKEN-1234")
    assert [entry["file"] for entry in logs] == [str(file)]
    assert "TOKEN" not in str(logs)
    assert "ada" not in str(logs)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def subjects(folder: Path) -> list[str]:
    return [message_from_bytes(file.read_bytes(), policy=default)["Subject"] for file in sorted(folder.iterdir())]


async def test_old_files_go(tmp_path: Path) -> None:
    mailer = LogMailer(tmp_path, most_files=3)
    for number in range(5):
        await mailer.send(Mail("ada@a.example", f"number {number}", "t"))
    assert subjects(tmp_path) == ["number 2", "number 3", "number 4"]


async def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("a file")
    with pytest.raises(MailFailed):
        await LogMailer(tmp_path / "mail").send(MAIL)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtps://me:p%40ss@mail.example", SmtpServer("mail.example", 465, "implicit", "me", "p@ss")),
        ("smtp://mail.example", SmtpServer("mail.example", 587, "starttls")),
        ("smtp://me:x@mail.example:25/", SmtpServer("mail.example", 25, "starttls", "me", "x")),
        ("smtp://127.0.0.1:2525?tls=none", SmtpServer("127.0.0.1", 2525, "none")),
        ("smtp://me:x@[::1]:25?tls=none", SmtpServer("::1", 25, "none", "me", "x")),
    ],
)
def test_a_url_says_where_and_how(url: str, server: SmtpServer) -> None:
    assert SmtpServer.parse(url) == server
    assert "pass" not in repr(server)


@pytest.mark.parametrize(
    "url",
    [
        "mail.example",
        "http://mail.example",
        "smtp://",
        "smtp://mail.example:x",
        "smtp://mail.example:99999",
        "smtp://mail.example/path",
        "smtp://mail.example?tls=maybe",
        "smtps://mail.example?tls=none",
        "smtp://mail.example?other=1",
        "smtp://me:hunter2@mail.example?tls=none",
    ],
)
def test_other_urls_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        SmtpServer.parse(url)
    assert "hunter2" not in str(caught.value)


def test_the_settings_choose(tmp_path: Path) -> None:
    assert isinstance(choose_mailer(None, None, tmp_path), LogMailer)
    assert isinstance(choose_mailer("smtp://mail.example", "a@b.example", tmp_path), SmtpMailer)
    with pytest.raises(ValueError, match="ROOST_MAIL_FROM must be set"):
        choose_mailer("smtp://mail.example", None, tmp_path)
    with pytest.raises(ValueError, match="ROOST_MAIL_FROM must be an e-mail address"):
        choose_mailer(None, "a\r\nb", tmp_path)
    with pytest.raises(ValueError, match="ROOST_SMTP_URL must be"):
        choose_mailer("nonsense", "a@b.example", tmp_path)
