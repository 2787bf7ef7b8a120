from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mail.templates import (
    CODED,
    DEFAULTS,
    KINDS,
    Kind,
    Template,
    check_page,
    check_template,
    compose,
    link_to,
)

VALUES = {"link": "https://a.example/?token=x", "code": "x", "app": "Acme", "name": "Ada", "hours": "1"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_built_in_texts_are_good_templates(kind: Kind) -> None:
    check_template(kind, DEFAULTS[kind])
    mail = compose(DEFAULTS[kind], "ada@a.example", VALUES)
    assert "{" not in mail.subject + mail.text
    assert "Acme" in mail.subject
    assert (VALUES["link"] in mail.text) == (kind in CODED)


@given(st.dictionaries(st.sampled_from(["link", "code", "app", "name", "hours"]), st.text()), st.text())
def test_whatever_the_values_are_headers_stay_lines(values: dict[str, str], from_name: str) -> None:
    template = Template("{app} {name} {link} {code} {hours}", "{name}", "<p>{name}</p>")
    mail = compose(template, "ada@a.example", values, from_name=from_name)
    assert mail.subject.isprintable() or all(ord(char) > 127 for char in mail.subject if not char.isprintable())
    assert len(mail.subject) <= 200
    assert "\n" not in mail.text
    assert mail.html is not None
    assert mail.html.count("<") == 2


def test_in_html_values_are_text() -> None:
    template = Template("{name}", "{name}", "<a href='{link}'>{name}</a>")
    mail = compose(template, "ada@a.example", {"name": "<b>&'", "link": "https://a.example/?a=1&b='>"})
    assert mail.html == "<a href='https://a.example/?a=1&amp;b=&#x27;&gt;'>&lt;b&gt;&amp;&#x27;</a>"
    assert mail.subject == mail.text == "<b>&'"


def test_values_are_no_templates_and_reach_nothing() -> None:
    template = Template("s", "{name}|{app}|{other}")
    mail = compose(template, "ada@a.example", {"name": "{app}{link.__class__}{0}", "app": "Acme", "other": "o"})
    assert mail.text == "{app}{link.__class__}{0}|Acme|o"


def test_a_strangers_name_has_no_room_for_a_letter() -> None:
    mail = compose(Template("s", "{name}"), "ada@a.example", {"name": "buy now\r\n\r\n" * 50})
    assert mail.text == ("buy now " * 8).strip()[:64].rstrip()


@pytest.mark.parametrize(
    ("kind", "template", "mistake"),
    [
        ("verify", Template("s", "no link"), "text: must contain"),
        ("reset", Template("s", "{link}", "<p>no link</p>"), "html: must contain"),
        ("verify", Template("s", "{link} {token}"), r"'\{token\}' is none of"),
        ("verify", Template("{user.password}{}", "{link}"), r"'\{\}' is none of"),
        ("taken", Template("a\r\nBcc: b", "t"), "subject: must be one line"),
        ("taken", Template(" ", "t"), "subject: must be one line"),
    ],
)
def test_a_template_that_is_of_no_use_is_refused(kind: Kind, template: Template, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        check_template(kind, template)


@pytest.mark.parametrize(
    ("url", "link"),
    [
        (None, "t-1_x"),
        ("https://a.example/#/confirm", "https://a.example/#/confirm?action=reset&token=t-1_x"),
        ("https://a.example/?b=1#/confirm?c=2", "https://a.example/?b=1#/confirm?c=2&action=reset&token=t-1_x"),
        ("https://a.example/confirm", "https://a.example/confirm?action=reset&token=t-1_x"),
        ("https://a.example/confirm?b=1", "https://a.example/confirm?b=1&action=reset&token=t-1_x"),
    ],
)
def test_a_link_carries_action_and_token(url: str | None, link: str) -> None:
    assert link_to(url, "reset", "t-1_x") == link


@pytest.mark.parametrize(
    "url", ["https://a.example", "http://localhost:3000/#/x", "http://127.0.0.1/", "http://[::1]:8/"]
)
def test_a_page_is_https_or_here(url: str) -> None:
    assert check_page(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example",
        "javascript:alert(1)",
        "https://",
        "//a.example",
        "https://a.example@evil.example/",
        "https://a.example/ x",
        "https://a.example/\r\n",
        "https://[::1",
        "https://a.example/" + "x" * 1024,
        "http://localhost.evil.example/",
    ],
)
def test_other_pages_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be an"):
        check_page(url)
