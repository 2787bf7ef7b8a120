"""The AsyncAPI 3.0 document of a tenant: its services over Socket.IO, and the events that they send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from server.documents import schemas
from server.documents.schemas import Json
from server.handshake import APP_ID
from services.description import EventDescription, MethodDescription, ServiceDescription, TenantDescription

_ARGUMENTS = {
    "find": ("query",),
    "get": ("id", "query"),
    "create": ("data", "query"),
    "update": ("id", "data", "query"),
    "patch": ("id", "data", "query"),
    "remove": ("id", "query"),
}
"""What follows the service's path, by method; custom methods take what `create` takes."""

_AUDIENCES = {
    "public": "everybody who is connected to the app",
    "authenticated": "everybody who is logged in",
    "rule": "those whom the rule of `get` admits",
    "chosen": "those whom the service chooses",
}
_ENDING: Json = {
    "type": "object",
    "required": ["reason"],
    "properties": {"reason": {"enum": ["expired", "ended"]}},
    "description": "`expired`: the access token alone, which a refresh token renews. `ended`: the session.",
}


def asyncapi(tenant: TenantDescription, *, host: str, is_secure: bool) -> Json:
    """The document as plain values; `host` is the server's name with its port."""
    calls = [(service, method) for service in tenant.services for method in service.methods]
    events = [(service, event) for service in tenant.services for event in service.events]
    channels = {_call_name(*call): _call_channel(*call) for call in calls}
    channels |= {_event_name(*event): _event_channel(*event) for event in events}
    operations = {_call_name(*call): _call_operation(*call) for call in calls}
    operations |= {_event_name(*event): _event_operation(*event) for event in events}
    if calls:
        channels["acknowledgement"] = _acknowledgement_channel(calls)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": tenant.name,
            "version": str(tenant.epoch),
            "description": f"The services of the app `{tenant.id}` over Socket.IO 4. A call is an event named after the "
            "method, with the service's path as its first argument; its acknowledgement has one argument, the error, or "
            "two: null and the result. An event of a service is named `<path> <event>` and has one argument, the record.",
        },
        "servers": {
            "socket": {
                "host": host,
                "pathname": f"/socket.io/?{APP_ID}={tenant.id}",
                "protocol": "wss" if is_secure else "ws",
                "description": "Socket.IO 4 (Engine.IO 4), by polling or websocket.",
            }
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": dict(_schemas(tenant)),
            "securitySchemes": {
                "login": {
                    "type": "userPassword",
                    "description": "The connection is logged in: by a call of `create` on `authentication`, or by the "
                    "header `Authorization` of the handshake.",
                }
            },
        },
    }


def _call_channel(service: ServiceDescription, method: MethodDescription) -> Json:
    arguments = ["path", *_ARGUMENTS.get(method.name, _ARGUMENTS["create"])]
    # The query may be left out, and an id that is not needed may be null.
    items = [{"const": service.path}, *(_argument(service, method, name) for name in arguments[1:])]
    payload = {"type": "array", "minItems": len(items) - 1, "items": items, "additionalItems": False}
    message = {"name": method.name, "title": f"{', '.join(arguments)}", "payload": payload}
    return {"address": method.name, "title": f"{service.path}: {method.name}", "messages": {"call": message}}


def _argument(service: ServiceDescription, method: MethodDescription, name: str) -> Json:
    if name == "query":
        return {"type": ["object", "null"]}
    if name == "id":
        id: Json = {"type": ["string", "number"]}
        if method.is_multi or service.kind == "login":
            id = {"type": ["string", "number", "null"]}
        return id
    if method.is_custom:
        return {"$ref": "#/components/schemas/Value"}
    suffix = {"create": "Data", "update": "Replacement", "patch": "Part"}[method.name]
    one = _reference(f"{service.type_name}{suffix}")
    return {"anyOf": [one, {"type": "array", "items": one}]} if method.name == "create" and method.is_multi else one


def _call_operation(service: ServiceDescription, method: MethodDescription) -> Json:
    name = _call_name(service, method)
    operation: Json = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": f"Calls `{method.name}` of `{service.path}`.",
        "messages": [{"$ref": f"#/channels/{name}/messages/call"}],
        "reply": {
            "channel": {"$ref": "#/channels/acknowledgement"},
            "messages": [
                {"$ref": f"#/channels/acknowledgement/messages/{name}"},
                {"$ref": "#/channels/acknowledgement/messages/error"},
            ],
        },
    }
    if method.needs_login:
        operation["security"] = [{"$ref": "#/components/securitySchemes/login"}]
    return operation


def _acknowledgement_channel(calls: list[tuple[ServiceDescription, MethodDescription]]) -> Json:
    messages = {
        _call_name(*call): {
            "title": f"Answer of {_call_name(*call)}",
            "payload": {"type": "array", "minItems": 2, "items": [{"type": "null"}, _result(*call)]},
        }
        for call in calls
    }
    error = {"type": "array", "minItems": 1, "items": [_reference("Error")], "additionalItems": False}
    return {"address": None, "messages": {**messages, "error": {"title": "Error", "payload": error}}}


def _result(service: ServiceDescription, method: MethodDescription) -> Json:
    record = _reference(service.type_name)
    several = {"type": "array", "items": record}
    if method.is_custom:
        return {}
    if method.name == "find":
        return schemas.page(service, record) if service.paginate else several
    return {"anyOf": [record, several]} if method.is_multi else record


def _event_channel(service: ServiceDescription, event: EventDescription) -> Json:
    name = f"{service.path} {event.name}"
    payload = _ENDING if event.audience == "own" else _reference(service.type_name)
    return {"address": name, "messages": {"event": {"name": name, "payload": payload}}}


def _event_operation(service: ServiceDescription, event: EventDescription) -> Json:
    name = _event_name(service, event)
    if event.audience == "own":
        summary = "Tells a client that its login is over although it has not logged out."
    else:
        summary = f"Tells {_AUDIENCES[event.audience]} of a record of `{service.path}`."
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{name}/messages/event"}],
    }


def _call_name(service: ServiceDescription, method: MethodDescription) -> str:
    return f"{service.type_name}.{method.name}"


def _event_name(service: ServiceDescription, event: EventDescription) -> str:
    return f"{service.type_name}.on.{event.name}"


def _schemas(tenant: TenantDescription) -> Iterator[tuple[str, Any]]:
    yield "Key", schemas.KEY
    yield "Value", schemas.VALUE
    properties = {name: {"type": "string"} for name in ("name", "message", "className")}
    error = {**properties, "code": {"type": "integer"}, "data": {}, "errors": {}}
    yield "Error", {"type": "object", "required": ["name", "message", "code", "className"], "properties": error}
    for service in tenant.services:
        name = service.type_name
        yield name, schemas.record(service)
        if service.method("create"):
            yield f"{name}Data", schemas.data(service)
        if service.method("update"):
            yield f"{name}Replacement", schemas.replacement(service)
        if service.method("patch"):
            yield f"{name}Part", schemas.part(service)


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
