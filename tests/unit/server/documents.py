"""A tenant with a bit of everything, for the tests of the documents that are written about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.description import (
    EventDescription,
    MethodDescription,
    ServiceDescription,
    TenantDescription,
)
from services.query import OPERATORS, Paginate
from services.shape import Shape

HOSTILE = "</script><script>alert(1)</script>\"'`*/"

_FIELDS: dict[str, Any] = {
    "_id": {"type": "string", "minLength": 1},
    "text": {"type": "string", "maxLength": 20, "description": HOSTILE, "pattern": HOSTILE},
    "n": {"type": ["number", "null"]},
    "kind": {"enum": ["a", HOSTILE, 3, None, True]},
    "tags": {"type": "array", "items": {"type": "string"}},
    "place": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    "two words": {"type": "boolean"},
}


def method(name: str, *, access: Any = "authenticated", is_multi: bool = False) -> MethodDescription:
    return MethodDescription(name, access, access != "public", is_multi)


def service(path: str = "notes", **changes: Any) -> ServiceDescription:
    """A data service with all methods, all of them multi where that is possible."""
    names = ("find", "get", "create", "update", "patch", "remove")
    values: dict[str, Any] = {
        "path": path,
        "type_name": path.title().replace("/", "").replace("-", ""),
        "kind": "records",
        "id": "_id",
        "methods": tuple(method(name, is_multi=name in {"create", "patch", "remove"}) for name in names),
        "events": tuple(EventDescription(name, "authenticated") for name in ("created", "removed")),
        "record": Shape(_FIELDS, ("_id", "text"), is_open=False),
        "data": Shape(_FIELDS, ("text",), is_open=False),
        "paginate": Paginate(10, 50),
        "operators": tuple(sorted(OPERATORS)),
    }
    return ServiceDescription(**{**values, **changes})


def tenant(*services: ServiceDescription, name: str = "Acme") -> TenantDescription:
    return TenantDescription("acme", name, 3, "username", services or EVERYTHING)


_OPEN = Shape({"_id": {"type": "string"}}, ("_id",))
EVERYTHING = (
    service(),
    service("lists", paginate=None, record=_OPEN, data=_OPEN, methods=(method("find", access="public"),), events=()),
    service(
        "api/horn-players",
        methods=(method("find"), method("honk", access="public")),
        record=_OPEN,
        data=_OPEN,
        operators=(),
    ),
    service("users/:userId/posts", type_name="Posts", methods=(method("get"), method("create"))),
)


def references(document: Any) -> Iterator[str]:
    """All references in a document."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(document, list):
        for item in document:
            yield from references(item)


def resolve(document: Any, reference: str) -> Any:
    """What a reference into the same document names.

    Raises:
        KeyError: nothing.
    """
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found
