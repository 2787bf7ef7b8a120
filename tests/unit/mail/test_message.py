from __future__ import annotations

from email import message_from_bytes
from email.policy import default

import pytest

from services.mail.message import Mail, to_message

SENDER = "no-reply@roost.example"


def test_a_mail_reads_as_it_was_written() -> None:
    text = "Hello\n\n    https://a.example/#/x?y=1\n" + "ü" * 2000 + "\n"
    mail = Mail("ada@bücher.example", "Grüße ✓", text, "<b>Hello</b>")
    read = message_from_bytes(to_message(mail, SENDER).as_bytes(), policy=default)
    assert (read["To"], read["Subject"]) == ("ada@xn--bcher-kva.example", "Grüße ✓")
    assert read["From"].addresses[0].addr_spec == SENDER
    assert read["Auto-Submitted"] == "auto-generated"
    assert read["Date"]
    assert read["Message-ID"].endswith("@roost.example>")
    plain, html = read.get_body(("plain",)), read.get_body(("html",))
    assert plain is not None
    assert plain.get_content().replace("\r\n", "\n") == text
    assert html is not None
    assert html.get_content().strip() == "<b>Hello</b>"


def test_the_name_of_the_sender_is_quoted() -> None:
    message = to_message(Mail("ada@a.example", "s", "t", from_name='Ac"me, <x@y.example>'), SENDER)
    (sender,) = message_from_bytes(message.as_bytes(), policy=default)["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ('Ac"me, <x@y.example>', SENDER)


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\0", "\x85", "\u2028", "\u2029", "\x0b", "\ud800"], ids=ascii)
def test_no_header_has_a_line_break(break_: str) -> None:
    evil = f"Hi{break_}Bcc: eve@example.com"
    with pytest.raises(ValueError, match="one line"):
        Mail("ada@a.example", evil, "t")
    with pytest.raises(ValueError, match="one line"):
        Mail("ada@a.example", "s", "t", from_name=evil)
    with pytest.raises(ValueError, match="one address"):
        Mail(f"ada@a.example{break_}", "s", "t")


def test_a_header_has_an_end() -> None:
    with pytest.raises(ValueError, match="200"):
        Mail("ada@a.example", "s" * 201, "t")
