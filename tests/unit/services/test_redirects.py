"""Where a login may lead (feathers CVE-2026-27191, #3653, #3669): to what is declared, exactly, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.redirects import choose_target, parse_target

DECLARED = ("https://app.example.com/login", "https://app.example.com", "http://localhost:5173/cb?tab=1")

BYPASSES = {
    "concatenation": "https://app.example.com.attacker.com/login",
    "concatenation without a dot": "https://app.example.comattacker.com/login",
    "a name to be appended": ".attacker.com",
    "a user to be appended": "@attacker.com",
    "a port to be appended": ":8443@attacker.com",
    "attacker before": "https://attackerapp.example.com/login",
    "a subdomain": "https://evil.app.example.com/login",
    "the parent": "https://example.com/login",
    "user": "https://app.example.com@attacker.com/login",
    "user and password": "https://app.example.com:443@attacker.com/login",
    "our host with a user": "https://user@app.example.com/login",
    "an empty user": "https://@app.example.com/login",
    "no scheme": "//attacker.com/login",
    "no scheme, our host": "//app.example.com/login",
    "three slashes": "///attacker.com",
    "one slash of the scheme": "https:/app.example.com/login",
    "no slash of the scheme": "https:attacker.com",
    "four slashes": "https:////app.example.com/login",
    "backslashes": "https:\\\\attacker.com",
    "a backslash before the host": "/\\attacker.com",
    "backslash and user": "https://attacker.com\\@app.example.com/login",
    "a backslash in the path": "https://app.example.com\\login",
    "an escaped backslash": "https://app.example.com/%5Clogin",
    "an escaped slash": "https://app.example.com/..%2Flogin",
    "an escaped slash before the host": "/%2Fattacker.com",
    "escaped dots": "https://app.example.com/a/%2e%2e/login",
    "an escaped dot in the host": "https://app%2eexample%2ecom/login",
    "dots": "https://app.example.com/a/../login",
    "one dot": "https://app.example.com/./login",
    "an empty part": "https://app.example.com//login",
    "another port": "https://app.example.com:444/login",
    "no port": "https://app.example.com:/login",
    "a port of zeros": "https://app.example.com:0443/login",
    "a port that is none": "https://app.example.com:99999/login",
    "another port of localhost": "http://localhost:5174/cb?tab=1",
    "http": "http://app.example.com/login",
    "https for http": "https://localhost:5173/cb?tab=1",
    "upper case of the scheme": "HTTPS://app.example.com/login",
    "upper case of the host": "https://APP.example.com/login",
    "upper case of the path": "https://app.example.com/Login",
    "a dot behind the host": "https://app.example.com./login",
    "a slash behind": "https://app.example.com/login/",
    "more path": "https://app.example.com/login/more",
    "less path": "https://app.example.com/logi",
    "a query": "https://app.example.com/login?next=//attacker.com",
    "an empty query of ours": "https://app.example.com/login?x",
    "another query": "http://localhost:5173/cb?tab=2",
    "a query twice": "http://localhost:5173/cb?tab=1&tab=1",
    "a fragment": "https://app.example.com/login#x",
    "an empty fragment": "https://app.example.com/login#",
    "javascript": "javascript:alert(1)//app.example.com/login",
    "data": "data:text/html,https://app.example.com/login",
    "another scheme": "ftp://app.example.com/login",
    "a space before": " https://app.example.com/login",
    "a space behind": "https://app.example.com/login ",
    "a tab inside": "https://app.exa\tmple.com/login",
    "a line break": "https://app.example.com/login\r\nSet-Cookie: a=b",
    "an escaped line break": "https://app.example.com/login%0d%0a",
    "NUL": "https://app.example.com\0.attacker.com/login",
    "another alphabet": "https://\N{CYRILLIC SMALL LETTER A}pp.example.com/login",
    "a wide dot": "https://app\N{FULLWIDTH FULL STOP}example.com/login",
    "a wide slash": "https://app.example.com\N{FULLWIDTH SOLIDUS}login",
    "half a pair": "https://app.example.com/\ud800",
    "a list in the query": "https://app.example.com/login,https://attacker.com",
    "brackets": "https://[app.example.com]/login",
    "an open bracket": "https://[::1/login",
    "empty": "",
    "a word": "login",
    "a path that is not declared": "/other",
    "a path that leaves": "/../login",
    "too long": "https://app.example.com/login" + "x" * 2000,
}


@pytest.mark.parametrize("attack", BYPASSES)
def test_whatever_is_not_declared_is_refused(attack: str) -> None:
    assert choose_target(DECLARED, BYPASSES[attack]) is None


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, DECLARED[0]),
        *zip(DECLARED, DECLARED, strict=True),
        ("https://app.example.com/", DECLARED[1]),
        ("https://app.example.com:443/login", DECLARED[0]),
        ("/login", DECLARED[0]),
        ("/", DECLARED[1]),
    ],
)
def test_what_is_declared_is_chosen_as_it_is_declared(wanted: str | None, chosen: str) -> None:
    assert choose_target(DECLARED, wanted) == chosen


@given(st.text(alphabet="htps:/@.\\%2eEfF#?[]applocalhostexample.com-\t\n0435173", max_size=60))
def test_whatever_is_wanted_leads_to_a_declared_address_or_nowhere(wanted: str) -> None:
    assert choose_target(DECLARED, wanted) in {*DECLARED, None}


@given(st.text(max_size=80))
def test_an_address_is_one_or_none_and_never_a_fault(url: str) -> None:
    try:
        target = parse_target(url)
    except ValueError:
        return
    assert url.startswith(f"{target.scheme}://")


def test_an_origin_is_written_as_browsers_send_it() -> None:
    assert parse_target("http://[::1]:8080/x").origin == "http://[::1]:8080"
    assert parse_target("https://app.example.com:443/x").origin == "https://app.example.com"
