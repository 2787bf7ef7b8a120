"""FEATHERS.md 3.2: query strings as `qs` reads them, without its limits on lists."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.errors import BadRequest
from server import querystring
from tests.support.client import query_string

ROWS: list[tuple[str, Any]] = [
    ("", {}),
    ("a=1", {"a": "1"}),
    ("a", {"a": ""}),
    ("a=", {"a": ""}),
    ("a=1&b=2", {"a": "1", "b": "2"}),
    ("&&a=1&", {"a": "1"}),
    ("a=b=c", {"a": "b=c"}),
    ("a=b+c%2B", {"a": "b c+"}),
    ("%61=%C3%A4", {"a": "ä"}),
    ("a=1&a=2", {"a": ["1", "2"]}),
    ("a=1&a=2&a=3", {"a": ["1", "2", "3"]}),
    ("a[]=1", {"a": ["1"]}),
    ("a[]=1&a[]=2", {"a": ["1", "2"]}),
    ("a[0]=1&a[1]=2", {"a": ["1", "2"]}),
    ("a[1]=2&a[0]=1", {"a": ["1", "2"]}),
    ("a[5]=x&a[100]=y", {"a": ["x", "y"]}),
    ("n[$gt]=1", {"n": {"$gt": "1"}}),
    ("n%5B%24in%5D%5B0%5D=1&n%5B%24in%5D%5B1%5D=2", {"n": {"$in": ["1", "2"]}}),
    ("$or[0][x]=1&$or[1][y]=2", {"$or": [{"x": "1"}, {"y": "2"}]}),
    ("$sort[a]=-1&$sort[b]=1", {"$sort": {"a": "-1", "b": "1"}}),
    ("$select[]=a&$select[]=b", {"$select": ["a", "b"]}),
    ("$select=a", {"$select": "a"}),
    ("a[b][c][d]=1", {"a": {"b": {"c": {"d": "1"}}}}),
    ("a[b=1", {"a[b": "1"}),
    ("a]b=1", {"a]b": "1"}),
    ("__proto__=1&constructor[x]=1&a[prototype]=1&b=2", {"b": "2"}),
    ("a.b=1", {"a.b": "1"}),
]


@pytest.mark.parametrize(("text", "expected"), ROWS, ids=[text for text, _ in ROWS])
def test_parsing(text: str, expected: Any) -> None:
    assert querystring.parse(text) == expected


def test_long_lists_stay_lists() -> None:
    text = "&".join(f"n[$in][{n}]={n}" for n in range(100))
    assert querystring.parse(text) == {"n": {"$in": [str(n) for n in range(100)]}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a=" + "x" * 20_000, "too long"),
        ("&".join(f"a{n}=1" for n in range(1001)), "Too many"),
        ("a" + "[b]" * 40 + "=1", "too deeply"),
        ("a=%ff", "UTF-8"),
        ("%ff=1", "UTF-8"),
    ],
    ids=["long", "many", "deep", "value", "name"],
)
def test_bounds(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        querystring.parse(text)


names = st.text("abcdeä $é", min_size=1, max_size=5)
leaves = st.text(max_size=5).filter(lambda text: text.isprintable())
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(names, inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names, values, max_size=4))
def test_what_the_official_client_writes_is_read_back(query: dict[str, Any]) -> None:
    assert querystring.parse(query_string(query)) == query


@given(st.text("ab[]=&%0.$", max_size=60))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        found = querystring.parse(text)
    except BadRequest:
        return
    assert isinstance(found, dict)
