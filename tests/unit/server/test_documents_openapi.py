"""The OpenAPI and AsyncAPI documents: valid, complete, and open nowhere that the services are closed."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from server.documents import schemas
from server.documents.asyncapi import asyncapi
from server.documents.openapi import openapi
from services.shape import Shape
from tests.unit.server.documents import method, references, resolve, service, tenant

DOCUMENT = openapi(tenant())
ASYNC_DOCUMENT = asyncapi(tenant(), host="localhost:3030", is_secure=False)
VERBS = {"get", "put", "post", "patch", "delete"}


def operations(document: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {
        (path, verb): operation
        for path, item in document["paths"].items()
        for verb, operation in item.items()
        if verb in VERBS
    }


def test_it_is_an_openapi_document() -> None:
    jsonschema_rs.validator_for(OPENAPI_31).validate(json.loads(json.dumps(DOCUMENT)))


@pytest.mark.parametrize("document", [DOCUMENT, ASYNC_DOCUMENT], ids=["openapi", "asyncapi"])
def test_all_references_lead_somewhere(document: Any) -> None:
    found = {*references(document)}
    assert len(found) > 20
    for reference in found:
        resolve(document, reference)


def test_each_method_is_an_operation_of_its_own() -> None:
    assert {*operations(DOCUMENT)} == {
        ("/notes", "get"),
        ("/notes", "post"),
        ("/notes", "patch"),
        ("/notes", "delete"),
        ("/notes/{id}", "get"),
        ("/notes/{id}", "put"),
        ("/notes/{id}", "patch"),
        ("/notes/{id}", "delete"),
        ("/lists", "get"),
        ("/api/horn-players", "get"),
        ("/api/horn-players", "post"),
        ("/users/{userId}/posts", "post"),
        ("/users/{userId}/posts/{id}", "get"),
    }
    ids = [operation["operationId"] for operation in operations(DOCUMENT).values()]
    assert len(ids) == len({*ids})


def test_without_multi_there_is_no_change_of_many() -> None:
    single = service(methods=(method("find"), method("create"), method("patch"), method("remove")))
    document = openapi(tenant(single))
    assert {*operations(document)} == {
        ("/notes", "get"),
        ("/notes", "post"),
        ("/notes/{id}", "patch"),
        ("/notes/{id}", "delete"),
    }
    body = document["paths"]["/notes"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/NotesData"}


def test_a_login_is_needed_where_the_rule_says_so() -> None:
    found = operations(DOCUMENT)
    assert found["/notes", "get"]["security"] == [{"login": []}]
    assert found["/lists", "get"]["security"] == [{}, {"login": []}]


def test_pages_and_lists() -> None:
    found = operations(DOCUMENT)
    for path, name in (("/notes", "NotesPage"), ("/lists", "ListsList")):
        answer = found[path, "get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert answer == {"$ref": f"#/components/schemas/{name}"}


def test_custom_methods_are_told_apart_by_their_header() -> None:
    operation = operations(DOCUMENT)["/api/horn-players", "post"]
    header = next(parameter for parameter in operation["parameters"] if parameter["in"] == "header")
    assert (header["name"], header["required"], header["schema"]) == ("X-Service-Method", True, {"enum": ["honk"]})
    assert {"200", "204"} <= operation["responses"].keys()


def test_query_parameters() -> None:
    named = {parameter["name"]: parameter for parameter in operations(DOCUMENT)["/notes", "get"]["parameters"]}
    assert {"$limit", "$skip", "$sort", "$select", "_id", "text", "n", "tags", "two words"} == named.keys()
    assert named["$sort"]["style"] == "deepObject"
    assert named["$sort"]["schema"]["properties"].keys() == {
        "_id",
        "text",
        "n",
        "kind",
        "tags",
        "place",
        "two words",
    }
    scalar, conditions = named["n"]["schema"]["anyOf"]
    assert scalar["type"] == "number"
    assert conditions["properties"].keys() == {"$gt", "$gte", "$lt", "$lte", "$ne"}
    assert named["two words"]["schema"]["anyOf"][1]["properties"].keys() == {"$ne"}


def test_every_operation_names_its_errors() -> None:
    for (_, verb), operation in operations(DOCUMENT).items():
        expected = {"400", "401", "403", "404", "405", "408", "429", "500", "503"}
        if verb in {"post", "put", "patch"}:
            expected |= {"409", "413"}
        assert expected <= operation["responses"].keys()


def refuses(schema: Any, value: Any) -> bool:
    complete = {**schema, "components": {"schemas": {"Key": schemas.KEY, "Value": schemas.VALUE}}}
    return not jsonschema_rs.validator_for(complete).is_valid(value)


@pytest.mark.parametrize(
    "data",
    [
        {"app_id": "acme"},
        {"$set": 1},
        {"a.b": 1},
        {"": 1},
        {"__proto__": 1},
        {"constructor": 1},
        {"a": {"$gt": 1}},
        {"a": [{"b.c": 1}]},
        {"a": 2**63},
        {"secret": 1},
    ],
)
def test_an_open_shape_takes_only_what_the_server_takes(data: Any) -> None:
    taken = schemas.taken(Shape({}, refused=frozenset({"secret"})))
    assert refuses(taken, data)
    assert not refuses(taken, {"a": {"b": [1, None, "x"]}, "_id": "1"})


def test_update_operators_are_taken_where_they_are_offered() -> None:
    open_shape = Shape({"_id": {"type": "string"}})
    for shape in (service().data, open_shape):
        plain = schemas.part(service(data=shape))
        offering = schemas.part(service(data=shape, updates=("$inc",)))
        assert refuses(plain, {"$inc": {"n": 1}})
        assert not refuses(offering, {"$inc": {"n": 1}, "tags": ["x"]})
        assert refuses(offering, {"$inc": 1})
        assert refuses(offering, {"$push": {"tags": "a"}})


def test_pages_by_cursor_need_no_total() -> None:
    page = {"limit": 1, "skip": 0, "data": [], "cursor": {"next": "x", "previous": None}}
    assert refuses(schemas.page(service(), {}), page)
    assert not refuses(schemas.page(service(has_cursors=True), {}), page)
    document = openapi(tenant(service(has_cursors=True, is_searchable=True)))
    names = {parameter["name"] for parameter in operations(document)["/notes", "get"]["parameters"]}
    assert {"$total", "$cursor", "$search"} <= names


def test_of_services_in_code_no_query_is_promised() -> None:
    assert operations(DOCUMENT)["/api/horn-players", "get"]["parameters"] == []


def test_bounds_reach_into_nested_fields() -> None:
    nested = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 5}}}
    bounded = schemas.bounded({"type": "array", "items": nested})
    assert not refuses(bounded, [{"n": 5}])
    assert refuses(bounded, [{"n": 6}])
    assert refuses(bounded, [{"n": -(2**64)}])
    assert refuses(bounded, [{"m": {"$x": 1}}])


def test_asyncapi_has_a_call_for_each_method_and_its_events() -> None:
    sent = [name for name, found in ASYNC_DOCUMENT["operations"].items() if found["action"] == "send"]
    assert "Notes.on.created" in sent
    assert ASYNC_DOCUMENT["channels"]["Notes.on.created"]["address"] == "notes created"
    call = ASYNC_DOCUMENT["channels"]["Notes.patch"]["messages"]["call"]["payload"]
    assert call["items"][0] == {"const": "notes"}
    assert call["items"][1] == {"type": ["string", "number", "null"]}
    assert ASYNC_DOCUMENT["servers"]["socket"]["host"] == "localhost:3030"
    assert asyncapi(tenant(), host="h", is_secure=True)["servers"]["socket"]["protocol"] == "wss"
    assert "security" not in ASYNC_DOCUMENT["operations"]["Lists.find"]
    assert "security" in ASYNC_DOCUMENT["operations"]["Notes.find"]
