"""The model behind all documents: what a tenant's clients see, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hooks.context import Params
from hooks.errors import BadRequest
from hooks.tenant import AuthSettings, Tenant
from services.application import Application
from services.authentication.names import check_name
from services.base import Service
from services.declaration import service_declarations
from services.declared import DeclaredServices
from services.description import TenantDescription, describe
from services.isolation import Isolation
from services.memory import MemoryService, MemoryStore
from services.mongo import ServiceOptions
from services.rooms import RoomsService
from services.shape import Shape
from services.users import USERS_RULES, UsersService


def application() -> Application:
    """One with users and rooms, over memory."""
    isolation = Isolation(MemoryStore())
    app = Application()
    app.declared = DeclaredServices(app, isolation)
    app.use("users", UsersService(isolation), rules=USERS_RULES)
    app.use("rooms", RoomsService(app), rules="public")
    return app


def tenant_of(services: dict[str, Any], **settings: Any) -> Tenant:
    return Tenant(id="acme", name="Acme", services=service_declarations(services), **settings)


def described(services: dict[str, Any], app: Application | None = None, **settings: Any) -> TenantDescription:
    return describe(tenant_of(services, **settings), app or application())


def test_a_service_that_nobody_may_call_is_missing() -> None:
    model = described({"closed": {}, "shut": {"rules": {"default": "nobody"}}, "open": {"rules": {"find": "public"}}})
    assert [service.path for service in model.services] == ["users", "open"]


def test_methods_are_those_that_somebody_may_call() -> None:
    rules = {"find": "public", "create": "authenticated", "default": "nobody"}
    service = described({"notes": {"rules": rules, "multi": True}}).service("notes")
    assert service is not None
    assert [(method.name, method.access) for method in service.methods] == [
        ("find", "public"),
        ("create", "authenticated"),
    ]
    assert service.method("create") is not None
    assert service.method("patch") is None


def test_users_show_no_password_and_no_key() -> None:
    users = described({}, auth=AuthSettings("email")).service("users")
    assert users is not None
    assert {*users.record.properties} == {"_id", "email"}
    assert {*users.data.properties} == {"email", "password"}
    assert users.data.required == ("email", "password")
    assert "roles" in users.data.refused
    patch = users.method("patch")
    assert patch is not None
    assert (patch.access, patch.needs_login) == ("own", True)


@example(" ")
@example("\u200b\u00ad")
@example("\u00a0")
@example("a\u2028")
@example("x" * 129)
@example("\u0915")
@given(st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF), max_size=140))
def test_the_names_that_the_schema_takes_are_those_that_sign_up_takes(name: str) -> None:
    users = described({}).service("users")
    assert users is not None
    schema = dict(users.data.properties["username"])
    try:
        check_name(name, "username")
    except BadRequest:
        assert not jsonschema_rs.is_valid(schema, name)
    else:
        assert jsonschema_rs.is_valid(schema, name)


def test_the_declared_schema_comes_without_its_shorthand() -> None:
    schema = {"text": {"type": "string", "required": True}, "n": {"type": "number"}, "additionalProperties": False}
    service = described({"notes": {"schema": schema, "rules": {"default": "public"}}}).service("notes")
    assert service is not None
    assert service.record.properties["text"] == {"type": "string"}
    assert service.data.required == ("text",)
    assert not service.data.is_open


def test_ids_of_other_records_are_texts() -> None:
    schema = {"owner": {"objectid": True, "required": True}}
    service = described({"notes": {"schema": schema, "rules": {"default": "public"}}}).service("notes")
    assert service is not None
    assert service.record.properties["owner"] == {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"}
    assert service.data.required == ("owner",)


def test_a_reference_into_the_declaration_is_not_published() -> None:
    entry = {"type": "object", "properties": {"a": {"$ref": "#/properties/text"}}, "$defs": {"x": {}}}
    schema = {"text": {"type": "string"}, "place": entry}
    service = described({"notes": {"schema": schema, "rules": {"default": "public"}}}).service("notes")
    assert service is not None
    assert service.record.properties["place"] == {"type": "object", "properties": {"a": {}}}


def test_hidden_fields_are_in_no_shape() -> None:
    app = application()
    app.use(
        "people", MemoryService(ServiceOptions("people", hidden=frozenset({"secret", "place.street"}))), rules="public"
    )
    service = described({}, app).service("people")
    assert service is not None
    assert service.record.properties.keys() == {"_id"}
    assert "secret" not in repr(service)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (
            {"default": "public"},
            [("created", "public"), ("updated", "public"), ("patched", "public"), ("removed", "public")],
        ),
        ({"get": "authenticated", "create": "public"}, [("created", "authenticated")]),
        ({"find": "public", "create": "public"}, []),
        ({"get": "public", "find": "public"}, []),
    ],
)
def test_events_are_those_that_happen_and_go_where_get_is_allowed(rules: dict[str, str], expected: list[Any]) -> None:
    service = described({"notes": {"rules": rules}}).service("notes")
    assert service is not None
    assert [(event.name, event.audience) for event in service.events] == expected


def test_what_only_the_server_writes_is_shown_but_not_taken() -> None:
    schema = {"text": {"type": "string"}, "score": {"type": "number", "required": True}}
    declared = {"schema": schema, "readonly": ["score", "other"], "rules": {"default": "public"}}
    service = described({"notes": declared}).service("notes")
    assert service is not None
    assert service.record.properties["score"] == {"type": "number", "readOnly": True}
    assert "score" not in service.data.properties
    assert service.data.required == ()
    assert service.data.refused == {"score", "other"}


def test_what_a_service_offers_besides() -> None:
    declared = {"search": ["text"], "updates": ["$inc"], "operators": ["$exists"], "rules": {"default": "public"}}
    model = described({"notes": declared, "lists": {"paginate": False, "rules": {"default": "public"}}})
    notes, lists = model.service("notes"), model.service("lists")
    assert notes is not None
    assert lists is not None
    assert (notes.updates, notes.is_searchable, notes.has_cursors) == (("$inc",), True, True)
    assert (lists.updates, lists.is_searchable, lists.has_cursors) == ((), False, False)
    assert "$exists" in notes.operators
    assert "$search" not in notes.operators


class Lamp(Service):
    """A service in code that says what it takes and returns."""

    multi = frozenset({"remove"})
    schema: Mapping[str, Any] = {"watts": {"type": "number", "required": True}}
    data_schema: Mapping[str, Any] = {"on": {"type": "boolean", "required": True}, "additionalProperties": False}

    async def create(self, data: Any, params: Params) -> Any:
        return data

    async def remove(self, id: Any, params: Params) -> Any:
        return []


def test_code_says_itself_what_it_takes_and_returns() -> None:
    app = application()
    app.use("lamp", Lamp(), rules="public")
    service = described({}, app).service("lamp")
    assert service is not None
    assert service.record == Shape({"watts": {"type": "number"}}, ("watts",))
    assert service.data == Shape({"on": {"type": "boolean"}}, ("on",), is_open=False)
    assert [method.is_multi for method in service.methods] == [False, True]
    assert not service.takes_queries


def test_of_a_rule_no_more_is_told_than_that_there_is_one() -> None:
    app = application()
    app.use("people", MemoryService(ServiceOptions("people")), rules={"find": {"secret_level": "$user.level"}})
    assert "secret_level" not in repr(described({}, app))
    service = described({}, app).service("people")
    assert service is not None
    assert [(method.access, method.needs_login) for method in service.methods] == [("rule", True)]


class Horn(Service):
    """A service in code, with a method and an event of its own."""

    async def honk(self, data: Any, params: Params) -> Any:
        return data


def test_code_may_have_methods_events_and_publishers_of_its_own() -> None:
    app = application()
    app.use("horn", Horn(), methods=["honk"], events=["honked"], rules={"honk": "public"})
    assert described({}, app).service("horn") is not None
    app.publish(lambda record, context: None, path="horn", event="honked")
    service = described({}, app).service("horn")
    assert service is not None
    assert [method.name for method in service.custom_methods] == ["honk"]
    assert [(event.name, event.audience) for event in service.events] == [("honked", "chosen")]
    assert service.operators == ()
    assert service.record.required == ()


def test_rooms_are_shown_where_a_service_has_some() -> None:
    assert described({"notes": {"rules": {"default": "public"}}}).service("rooms") is None
    model = described({"notes": {"rules": {"default": "public"}, "rooms": {"by": "place"}}})
    rooms, notes = model.service("rooms"), model.service("notes")
    assert rooms is not None
    assert rooms.kind == "rooms"
    assert notes is not None
    assert notes.room_field == "place"


def test_no_two_services_have_types_of_one_name() -> None:
    rules = {"rules": {"default": "public"}, "collection": "c"}
    paths = ["a-b", "a_b", "a/b", "aB", "ab"]
    model = described(dict.fromkeys(paths, rules))
    names = [service.type_name for service in model.services]
    assert sorted(names) == sorted({*names})
    assert len(names) == len(paths) + 1
