"""The page and the examples: nothing from elsewhere, nothing that breaks out, examples that are accepted."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.schema import Schema
from server.documents.examples import examples, sample
from server.documents.markup import Html, join, tag
from server.documents.page import POLICY, page, welcome_page
from tests.unit.server.documents import HOSTILE, service, tenant


class Reader(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.depth = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.opened.append((name, dict(attributes)))
        self.depth += name not in {"meta", "br", "input", "link"}

    def handle_endtag(self, name: str) -> None:
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def count(self, name: str) -> int:
        return sum(1 for opened, _ in self.opened if opened == name)


PAGE = page(tenant(name=HOSTILE), "http://localhost:3030")


@pytest.mark.parametrize("text", [PAGE, welcome_page(), welcome_page(HOSTILE)], ids=["page", "welcome", "fault"])
def test_a_page_is_whole_and_has_one_script(text: str) -> None:
    read = Reader(text)
    assert read.depth == 0
    assert read.count("script") == 1
    assert read.count("style") == 1
    assert not [name for name, attributes in read.opened for key in attributes if key.startswith("on")]


def test_a_page_fetches_nothing() -> None:
    read = Reader(PAGE)
    assert {name for name, attributes in read.opened if "src" in attributes} == set()
    assert {name for name, _ in read.opened} & {"link", "iframe", "object", "embed", "img", "base"} == set()
    links = [attributes["href"] or "" for name, attributes in read.opened if name == "a"]
    assert links
    assert all(link.startswith(("#", "/")) for link in links)
    style = PAGE[PAGE.index("<style>") : PAGE.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_admits_just_the_pages_own_style_and_script() -> None:
    for name in ("style", "script"):
        inner = re.search(rf"<{name}>(.*?)</{name}>", PAGE, re.DOTALL)
        assert inner is not None
        digest = base64.b64encode(hashlib.sha256(inner[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in POLICY
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY


def test_a_page_tells_all_there_is() -> None:
    text = "".join(Reader(PAGE).text)
    for part in (
        "notes",
        "find(params)",
        "GET /notes/{id}",
        "two words",
        "notes created",
        "honk(data, params)",
        HOSTILE,
    ):
        assert part in text


def test_the_fault_is_shown() -> None:
    assert HOSTILE in Reader(welcome_page(HOSTILE)).text


@given(st.text(), st.text())
def test_markup_escapes_what_is_not_markup(text: str, value: str) -> None:
    made = tag("p", text, title=value)
    read = Reader(made.replace("\r", ""))
    assert [name for name, _ in read.opened] == ["p"]
    assert "".join(read.text) == text.replace("\r", "")
    assert join(Html("<b>"), "<b>", None) == "<b>&lt;b&gt;"


SCHEMAS: list[dict[str, Any]] = [
    {"type": "string", "minLength": 8, "maxLength": 9},
    {"type": "string", "maxLength": 2},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "email"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"enum": [3, 4]},
    {"const": {"a": 1}},
    {"type": "integer", "minimum": 5},
    {"type": "number", "exclusiveMinimum": 5, "maximum": 9},
    {"type": "number", "maximum": -3},
    {"type": "integer", "multipleOf": 7},
    {"type": "boolean"},
    {"type": ["null", "string"]},
    {"type": "null"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2},
    {"type": "object", "required": ["a"], "properties": {"a": {"type": "boolean"}}},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_samples_are_accepted(schema: dict[str, Any]) -> None:
    assert Schema({"value": {**schema}}).check({"value": sample(schema)}, whole=True) == []


def test_examples_are_whole_commands() -> None:
    found = {example.method: example for example in examples(tenant(), service(), "http://localhost:3030")}
    assert found.keys() == {"find", "get", "create", "update", "patch", "remove"}
    words = shlex.split((found["create"].curl or "").replace("\\\n", ""))
    assert words[:3] == ["curl", "-g", "http://localhost:3030/notes"]
    assert "x-app-id: acme" in words
    assert json.loads(words[-1]) == {"text": "Hello"}
    assert found["create"].feathers == "await app.service('notes').create({ text: 'Hello' })"
    assert "$TOKEN" in (found["find"].curl or "")
