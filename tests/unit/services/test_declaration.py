"""The declarative file: every mistake is named by its place, and what is right is understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.declaration import DeclarationError, check, parse, read, searched_fields, service_declarations

ROOT = Path(__file__).parents[3]


def mistakes(text: str) -> list[str]:
    with pytest.raises(DeclarationError) as raised:
        parse(text)
    return raised.value.mistakes


def a_tenant(text: str) -> str:
    return "tenants:\n  - id: acme\n" + "".join(f"    {line}\n" for line in text.splitlines())


def a_service(text: str) -> str:
    return a_tenant("services:\n  messages:\n" + "".join(f"    {line}\n" for line in text.splitlines()))


def test_the_whole_language() -> None:
    (tenant,) = parse(
        """
tenants:
  - id: acme
    name: Acme
    allowed_origins: ["http://localhost:3030", "https://app.example.com"]
    auth: {username_field: email}
    services:
      messages:
        collection: chats
        id: key
        schema: {text: {type: string, required: true}, n: {type: number}, additionalProperties: false}
        paginate: {default: 5, max: 20}
        multi: [create, patch, remove]
        rules: {default: authenticated, find: public, remove: nobody}
      notes: {paginate: false, multi: true}
      plain:
      api/v1/things: {collection: things}
"""
    ).tenants
    assert (tenant.id, tenant.name, tenant.auth.username_field) == ("acme", "Acme", "email")
    assert tenant.allowed_origins == ("http://localhost:3030", "https://app.example.com")
    messages, notes, plain, things = tenant.services.values()
    assert (messages.collection, messages.id, messages.multi) == ("chats", "key", ("create", "patch", "remove"))
    assert messages.paginate is not None
    assert (messages.paginate.default, messages.paginate.max) == (5, 20)
    assert (notes.paginate, set(notes.multi)) == (None, {"create", "patch", "remove"})
    assert plain.paginate is not None
    assert (plain.id, plain.multi, dict(plain.rules), plain.paginate.max) == ("_id", (), {}, 50)
    assert things.collection == "things"


def test_what_is_stored_is_read_back_as_the_same() -> None:
    for file in (ROOT / "demo.yaml",):
        for tenant in read(file).tenants:
            assert service_declarations(tenant.stored()["services"]) == tenant.services


def test_a_name_is_the_id_if_there_is_none() -> None:
    assert parse("tenants: [{id: acme}]").tenants[0].stored()["name"] == "acme"


WRONG: list[tuple[str, str]] = [
    ("", "tenants: is missing"),
    ("[]", "the file: "),
    ("just text", "the file: "),
    ("tenants:", "tenants: "),
    ("tenants: []", "tenants: names no tenant"),
    ("tenants: {a: 1}", "tenants: "),
    ("tenants: [5]", "tenants[0]: "),
    ("tenants: [{}]", "tenants[0].id: is missing"),
    ("tenants: [{id: acme}]\ncolour: red", "colour: is not a known key"),
    ("tenants: [{id: acme}, {id: acme}]", "the tenant 'acme' is declared twice"),
    ("tenants: [{id: acme}]\ntenants: []", "'tenants' is written twice"),
    ("tenants: [{id: acme, id: globex}]", "'id' is written twice"),
    ("tenants: [{id: acme, 5: x}]", "the key 5 must be text"),
    ("tenants: [", "not valid YAML"),
    ("tenants: !!python/object:os.system {}", "not valid YAML"),
    *[(f"tenants: [{{id: {id}}}]", "tenants[0].id: ") for id in ("ab", "Acme", "-ab", "ab-", "a_b", "''", "5", "a.b")],
    (f"tenants: [{{id: {'a' * 64}}}]", "tenants[0].id: "),
    (a_tenant("name: ''"), "tenants[0].name: "),
    (a_tenant("name: 5"), "tenants[0].name: "),
    (a_tenant("status: ready"), "tenants[0].status: is not a known key"),
    (a_tenant("auth: {username_field: phone}"), "tenants[0].auth.username_field: "),
    *[
        (a_tenant(f"allowed_origins: ['{origin}']"), "tenants[0].allowed_origins[0]: ")
        for origin in (
            "*",
            "https://*.com",
            "http://a.com",
            "localhost:3030",
            "http://",
            "http://a.com/",
            "http://a.com/path",
            "http://A.com",
            "http://u@a.com",
            "ftp://a.com",
            "null",
            "http://a.com?x",
            "http://a.com#x",
            "",
        )
    ],
    (a_tenant("allowed_origins: http://a.com"), "tenants[0].allowed_origins: "),
    *[
        (a_tenant(f"services: {{'{path}': {{collection: x}}}}"), f"tenants[0].services: '{path}'")
        for path in (
            "users",
            "authentication",
            "users/x",
            "health",
            "socket.io",
            "__proto__",
            "a b",
            "",
            "/a",
            "a/",
            "a//b",
            "$x",
            "a.b",
            "1a",
            ":id",
            "a/:id",
        )
    ],
    (a_tenant("services: {a/b: {}}"), "'a/b' has a '/': name its collection"),
    (a_tenant("services: []"), "tenants[0].services: "),
    (a_service("colour: red"), "tenants[0].services.messages.colour: is not a known key"),
    (a_service("collection: users"), "tenants[0].services.messages.collection: 'users' is a collection of Roost"),
    (a_service("collection: system.views"), "tenants[0].services.messages.collection: "),
    (a_service("collection: $x"), "tenants[0].services.messages.collection: "),
    (a_service("collection: 5"), "tenants[0].services.messages.collection: "),
    (a_service("id: app_id"), "tenants[0].services.messages.id: "),
    (a_service("id: a.b"), "tenants[0].services.messages.id: "),
    (a_service("id: $id"), "tenants[0].services.messages.id: "),
    (a_service("paginate: 5"), "tenants[0].services.messages.paginate: "),
    (a_service("paginate: true"), "tenants[0].services.messages.paginate: "),
    (a_service("paginate: {default: 0}"), "tenants[0].services.messages.paginate.default: "),
    (a_service("paginate: {max: many}"), "tenants[0].services.messages.paginate.max: "),
    (a_service("paginate: {max: 20000}"), "tenants[0].services.messages.paginate.max: "),
    (a_service("paginate: {default: 20, max: 10}"), "tenants[0].services.messages.paginate: default may not"),
    (a_service("multi: [update]"), "tenants[0].services.messages.multi[0]: "),
    (a_service("multi: yes please"), "tenants[0].services.messages.multi: "),
    (a_service("rules: {fly: public}"), "tenants[0].services.messages.rules.fly: is not a known key"),
    (a_service("rules: {find: everybody}"), "tenants[0].services.messages.rules.find"),
    (a_service("rules: {find: 5}"), "tenants[0].services.messages.rules.find"),
    (a_service("schema: {text: string}"), "tenants[0].services.messages.schema: text: "),
    (a_service("schema: {text: {type: word}}"), "tenants[0].services.messages.schema: text"),
    (
        a_service("schema: {app_id: {type: string}}"),
        "tenants[0].services.messages.schema: app_id: is set by the server",
    ),
    (a_service("schema: {additionalProperties: maybe}"), "tenants[0].services.messages.schema: additionalProperties"),
    (a_service("schema: 5"), "tenants[0].services.messages.schema: "),
]


@pytest.mark.parametrize(("text", "place"), WRONG, ids=[place + text[-20:] for text, place in WRONG])
def test_mistakes_are_named_by_their_place(text: str, place: str) -> None:
    found = mistakes(text)
    assert any(place in mistake for mistake in found), found
    assert all(len(mistake) > len("tenants: ") for mistake in found)


def test_all_mistakes_are_told() -> None:
    found = mistakes(
        "tenants:\n"
        "  - {id: A, name: 5, services: {messages: {multi: [fly], paginate: {max: x}}}}\n"
        "  - {id: other, services: {notes: {rules: {find: all}}}}\n"
    )
    places = ("tenants[0].id", "tenants[0].name", "messages.multi[0]", "messages.paginate.max", "tenants[1]")
    for place in places:
        assert any(place in mistake for mistake in found), place


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"none\.yaml: No such file"):
        read(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeclarationError, match=r"binary\.yaml"):
        read(tmp_path / "binary.yaml")


def test_aliases_that_grow_without_bound_are_no_trap() -> None:
    """A few lines of YAML that would be a billion values if they were written out."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    assert len(mistakes("\n".join(lines))) < 20


@pytest.mark.parametrize("content", [None, 5, [], "x", {"tenants": None}])
def test_plain_values_are_checked_too(content: Any) -> None:
    with pytest.raises(DeclarationError):
        check(content)


def test_what_a_service_offers_besides() -> None:
    (tenant,) = parse(
        a_service("operators: [$exists, $startsWith]\nsearch: [title, body]\nupdates: [$inc, $push]\nreadonly: [role]")
    ).tenants
    service = tenant.services["messages"]
    assert (service.operators, service.search) == (("$exists", "$startsWith"), ("title", "body"))
    assert (service.updates, service.readonly) == (("$inc", "$push"), ("role",))
    again = service_declarations(tenant.stored()["services"])["messages"]
    assert again == service


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("operators: [$regex]", "operators[0]"), ("operators: [$search]", "messages"), ("operators: $exists", "operators"),
        ("search: [a, a]", "messages"), ("search: [app_id]", "search[0]"), ("search: ['a.b']", "search[0]"),
        ("search: [a, b, c, d, e, f, g, h, i]", "search"), ("updates: [$rename]", "updates[0]"), ("updates: true", "updates"),
        ("readonly: [_id]", "readonly[0]"), ("readonly: ['a b']", "readonly[0]"), ("id: key\nreadonly: [key]", "messages"),
    ],
)  # fmt: skip
def test_what_no_service_offers(text: str, place: str) -> None:
    (mistake, *_) = mistakes(a_service(text))
    assert mistake.startswith("tenants[0].services.messages")
    assert place in mistake


def test_services_of_one_collection_search_in_the_same_fields() -> None:
    def two(first: str, second: str) -> str:
        return a_tenant(f"services:\n  a: {{collection: x, {first}}}\n  b: {{collection: x, {second}}}")

    (tenant,) = parse(two("search: [t]", "multi: true")).tenants
    assert searched_fields(tenant.services) == {"x": ("t",)}
    assert mistakes(two("search: [t]", "search: [t, u]")) == [
        "tenants[0].services: 'b' searches 'x' in other fields than another service of that collection"
    ]


@pytest.mark.parametrize(
    "rate",
    [
        "{limit: 10000000, seconds: 1.0e-310}",
        "{limit: 1, seconds: .nan}",
        "{limit: 1, seconds: .inf}",
        "{limit: 0}",
        "{limit: 1, seconds: -1}",
    ],
)
def test_rates_that_nobody_can_count_are_refused(rate: str) -> None:
    """So many in a second that it is infinite would fail each call of the app."""
    (mistake,) = mistakes(a_tenant(f"limits: {{rates: {{event: {{tenant: {rate}}}}}}}"))
    assert "event.tenant" in mistake
