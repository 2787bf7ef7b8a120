"""Example calls of a service, with the Feathers client and with curl, on data that its schema accepts."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server.handshake import APP_ID, HEADER
from server.rest import SERVICE_METHOD
from services.description import MethodDescription, ServiceDescription, TenantDescription
from services.shape import JsonSchema

_FORMATS = {
    "date-time": "2030-01-31T12:00:00Z",
    "date": "2030-01-31",
    "time": "12:00:00Z",
    "email": "ada@example.com",
    "uri": "https://example.com",
    "uuid": "6f1c0c0e-6f0a-4a63-9d67-3a1f0a4f1c11",
    "ipv4": "192.0.2.1",
    "password": "correct horse battery",
}
_WORDS = {"username": "ada", "email": "ada@example.com", "strategy": "local", "from": "ada"}
_ID = "$ID"
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


@dataclass(frozen=True, slots=True)
class Example:
    """One call, twice: as JavaScript and as a shell command. `$TOKEN` and `$ID` are the reader's."""

    method: str
    feathers: str
    curl: str | None
    """None for what only sockets can do."""


def connect(tenant: TenantDescription, url: str) -> str:
    """How a Feathers client connects to the app."""
    return "\n".join(
        [
            "import { feathers } from '@feathersjs/feathers'",
            "import socketio from '@feathersjs/socketio-client'",
            "import authentication from '@feathersjs/authentication-client'",
            "import io from 'socket.io-client'",
            "",
            f"const socket = io({_js(url)}, {{ query: {{ {APP_ID}: {_js(tenant.id)} }} }})",
            "const app = feathers().configure(socketio(socket)).configure(authentication())",
        ]
    )


def examples(tenant: TenantDescription, service: ServiceDescription, url: str) -> list[Example]:
    """A call of each method."""
    return [
        Example(
            method.name,
            _feathers(service, method, tenant),
            None if service.kind == "rooms" else _curl(tenant, service, method, url),
        )
        for method in service.methods
    ]


def sample(schema: JsonSchema | bool, name: str = "") -> Any:
    """A value that a schema accepts, as far as it can be told: patterns and combined schemas are beyond it."""
    if isinstance(schema, bool):
        return None
    for keyword in ("examples", "enum"):
        if isinstance(schema.get(keyword), list) and schema[keyword]:
            return schema[keyword][0]
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else next((kind for kind in kinds if kind != "null"), "null")
    make = _SAMPLES.get(kind)
    return make(schema, name) if make else None


def sample_data(service: ServiceDescription, tenant: TenantDescription) -> dict[str, Any]:
    """Data for `create`: the required fields, or one field if none is."""
    shape = service.data
    names = list(shape.required) or [name for name in shape.properties if name not in {"_id", service.id}][:1]
    if service.kind == "login":
        names = ["strategy", tenant.username_field, "password"]
    if not names and shape.is_open:
        return {"text": "Hello"}
    return {name: sample(shape.properties[name], name) for name in names}


def _sample_text(schema: JsonSchema, name: str) -> str:
    text = _FORMATS.get(schema.get("format", ""), _WORDS.get(name, "Hello"))
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
    text = text.ljust(shortest, "o") if isinstance(shortest, int) else text
    return text[:longest] if isinstance(longest, int) else text


def _sample_number(schema: JsonSchema, name: str) -> int | float:
    for keyword, step in (("minimum", 0), ("exclusiveMinimum", 1), ("maximum", 0), ("exclusiveMaximum", -1)):
        bound = schema.get(keyword)
        if isinstance(bound, (int, float)):
            number: int | float = bound + step
            return number
    multiple = schema.get("multipleOf", 1)
    return multiple if isinstance(multiple, (int, float)) else 1


def _sample_list(schema: JsonSchema, name: str) -> list[Any]:
    count = schema.get("minItems", 1)
    return [sample(schema.get("items", {}), name) for _ in range(max(count, 1) if isinstance(count, int) else 1)]


def _sample_object(schema: JsonSchema, name: str) -> dict[str, Any]:
    parts = schema.get("properties", {})
    return {part: sample(parts.get(part, {}), part) for part in schema.get("required", ())}


_SAMPLES: Mapping[str, Callable[[JsonSchema, str], Any]] = {
    "string": _sample_text,
    "integer": _sample_number,
    "number": _sample_number,
    "boolean": lambda schema, name: True,
    "array": _sample_list,
    "object": _sample_object,
}


def _feathers(service: ServiceDescription, method: MethodDescription, tenant: TenantDescription) -> str:
    if service.kind == "login":
        if method.name == "create":
            return f"await app.authenticate({_js(sample_data(service, tenant))})"
        return "await app.logout()"
    if not service.takes_queries and method.name == "find":
        return f"await app.service({_js(service.path)}).find()"
    arguments = {
        "find": f"{{ query: {{ $limit: 5, $sort: {{ {service.id}: -1 }} }} }}",
        "get": "id",
        "create": _js(sample_data(service, tenant)),
        "update": f"id, {_js(sample_data(service, tenant))}",
        "patch": f"id, {_js(_changes(service, tenant))}",
        "remove": "id",
    }.get(method.name, "{}")
    return f"await app.service({_js(service.path)}).{method.name}({arguments})"


def _changes(service: ServiceDescription, tenant: TenantDescription) -> dict[str, Any]:
    data = sample_data(service, tenant)
    return dict([*data.items()][:1])


def _curl(tenant: TenantDescription, service: ServiceDescription, method: MethodDescription, url: str) -> str:
    verb, has_id = {
        "find": ("", False),
        "get": ("", True),
        "update": ("PUT", True),
        "patch": ("PATCH", True),
        "remove": ("DELETE", True),
    }.get(method.name, ("POST", False))
    data: Any = None
    if method.name in {"create", "update"}:
        data = sample_data(service, tenant)
    elif method.name == "patch":
        data = _changes(service, tenant)
    elif method.is_custom:
        data = {}
    query = f"?$limit=5&$sort[{service.id}]=-1" if method.name == "find" and service.takes_queries else ""
    if service.kind == "login":
        has_id = False
    address = shlex.quote(f"{url}/{service.path}{query}") if not has_id else f'"{url}/{service.path}/{_ID}"'
    words = ["curl", "-g", *(["-X", verb] if verb and (verb != "POST" or data is None) else []), address]
    lines = [" ".join(words), f"-H {shlex.quote(f'{HEADER}: {tenant.id}')}"]
    if method.needs_login:
        lines.append('-H "authorization: Bearer $TOKEN"')
    if method.is_custom:
        lines.append(f"-H {shlex.quote(f'{SERVICE_METHOD}: {method.name}')}")
    if data is not None:
        lines += ["-H 'content-type: application/json'", f"-d {shlex.quote(json.dumps(data, ensure_ascii=False))}"]
    return " \\\n  ".join(lines)


def _js(value: Any) -> str:
    """A value as JavaScript reads best: single quotes, and keys without them."""
    if isinstance(value, str):
        inner = json.dumps(value, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'")
        return f"'{inner}'"
    if isinstance(value, Mapping):
        parts = [f"{key if _IDENTIFIER.fullmatch(key) else _js(key)}: {_js(part)}" for key, part in value.items()]
        return f"{{ {', '.join(parts)} }}" if parts else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_js, value))}]"
    return json.dumps(value)
