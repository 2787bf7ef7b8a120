"""Scopes: what an API key may call, by the words of its scopes alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.scopes import is_within

WORDS = st.sampled_from(["notes", "note", "api/notes", "users", "a:b"])
METHODS = st.sampled_from(["find", "get", "create", "f", "find2"])


@pytest.mark.parametrize(
    ("scope", "path", "method", "allowed"),
    [
        ("*", "notes", "find", True),
        ("*:*", "notes", "find", True),
        ("notes:*", "notes", "find", True),
        ("*:find", "notes", "find", True),
        ("notes:find", "notes", "find", True),
        ("rooms/:room/notes:find", "rooms/:room/notes", "find", True),
        ("notes:find", "notes", "get", False),
        ("notes:find", "api/notes", "find", False),
        ("note:find", "notes", "find", False),
        ("notes", "notes", "find", False),
        ("find", "notes", "find", False),
        (":find", "notes", "find", False),
        ("notes:", "notes", "find", False),
        ("", "notes", "find", False),
        ("Notes:find", "notes", "find", False),
    ],
)
def test_a_scope(scope: str, path: str, method: str, allowed: bool) -> None:
    assert is_within([scope], path, method) is allowed
    assert is_within(["x:y", scope], path, method) is allowed


@given(scope=st.tuples(WORDS, METHODS), path=WORDS, method=METHODS)
def test_a_scope_without_stars_allows_its_own_call_alone(scope: tuple[str, str], path: str, method: str) -> None:
    assert is_within([":".join(scope)], path, method) is (scope == (path, method))


def test_no_scopes_allow_nothing() -> None:
    assert not is_within([], "notes", "find")
