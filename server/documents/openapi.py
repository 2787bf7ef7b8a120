"""The OpenAPI 3.1 document of a tenant: its services over REST."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hooks.errors import (
    BadRequest,
    Conflict,
    FeathersError,
    Forbidden,
    GeneralError,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    Timeout,
    TooManyRequests,
    Unavailable,
)
from server.documents import authorization, schemas
from server.documents.parameters import find_parameters, path_parameters, record_parameters, select_parameter
from server.documents.schemas import Json
from server.handshake import HEADER
from server.rest import MAX_BODY, SERVICE_METHOD
from services.description import MethodDescription, ServiceDescription, TenantDescription

_ALWAYS = (
    BadRequest,
    NotAuthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Timeout,
    TooManyRequests,
    GeneralError,
    Unavailable,
)
_WITH_DATA = (Conflict, PayloadTooLarge)
_ERRORS: tuple[type[FeathersError], ...] = (*_ALWAYS, *_WITH_DATA)

_REACH = {"own": "Reaches only the caller's own records.", "rule": "Reaches only what the service's rule admits."}
_WORDS = {
    "find": "Find records",
    "get": "Get one record",
    "create": "Create a record",
    "update": "Replace one record",
    "patch": "Change one record",
    "remove": "Remove one record",
}


def openapi(tenant: TenantDescription) -> Json:
    """The document as plain values."""
    services = [service for service in tenant.services if service.kind != "rooms"]
    paths: Json = {}
    for service in services:
        paths.update(_paths(service))
    if any(service.kind == "login" for service in services):
        paths.update(authorization.paths())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": tenant.name,
            "version": str(tenant.epoch),
            "description": f"The services of the app `{tenant.id}`. Every request names it in the header `{HEADER}`. "
            "Socket.IO offers the same services, and live events besides: see `/asyncapi.json`.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": service.path} for service in services],
        "paths": paths,
        "components": {
            "parameters": {"App": _app_parameter(tenant)},
            "responses": {error.__name__: _error_response(error) for error in _ERRORS},
            "schemas": dict(_schemas(services)),
            "securitySchemes": {
                "login": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The `accessToken` that a login answers with: `POST /authentication`.",
                }
            },
        },
    }


def _paths(service: ServiceDescription) -> Iterator[tuple[str, Json]]:
    """`/path` for calls without an id, `/path/{id}` for those with one; a verb for which there is no method is missing."""
    path = "/" + "/".join(f"{{{part[1:]}}}" if part.startswith(":") else part for part in service.path.split("/"))
    holders = path_parameters(service)
    whole: Json = {}
    single: Json = {}
    for method in service.methods:
        match method.name:
            case "find":
                whole["get"] = _find(service, method)
            case "get":
                single["get"] = _get(service, method)
            case "update":
                single["put"] = _change(service, method, "Data", "Replacement")
            case "patch":
                single["patch"] = _change(service, method, "Data", "Part")
                if method.is_multi:
                    whole["patch"] = _change_many(service, method, "Change all records that match the query")
            case "remove":
                single["delete"] = _change(service, method, "", "")
                if method.is_multi:
                    whole["delete"] = _change_many(service, method, "Remove all records that match the query")
                elif service.kind == "login":
                    whole["delete"] = _operation(service, method, "Log out", "bare", {"200": _record(service)})
    if service.method("create") or service.custom_methods:
        whole["post"] = _post(service)
    app = {"$ref": "#/components/parameters/App"}
    if whole:
        yield path, {"parameters": [app, *holders], **whole}
    if single:
        id = {"$ref": f"#/components/schemas/{service.type_name}Id"}
        named = {"name": "id", "in": "path", "required": True, "schema": id}
        yield f"{path}/{{id}}", {"parameters": [app, *holders, named], **single}


def _find(service: ServiceDescription, method: MethodDescription) -> Json:
    answer = f"{service.type_name}Page" if service.paginate else f"{service.type_name}List"
    operation = _operation(service, method, _WORDS["find"], "", {"200": _json_response("What was found.", answer)})
    return {**operation, "parameters": [*find_parameters(service)]}


def _get(service: ServiceDescription, method: MethodDescription) -> Json:
    operation = _operation(service, method, _WORDS["get"], "", {"200": _record(service)})
    return {**operation, "parameters": [*record_parameters(service)]}


def _change(service: ServiceDescription, method: MethodDescription, body: str, suffix: str) -> Json:
    summary = "Log out" if service.kind == "login" else _WORDS[method.name]
    operation = _operation(service, method, summary, "", {"200": _record(service)}, takes_data=bool(body))
    if body:
        operation["requestBody"] = _body(f"{service.type_name}{suffix}")
    if parameters := [*record_parameters(service)]:
        operation["parameters"] = parameters
    return operation


def _change_many(service: ServiceDescription, method: MethodDescription, summary: str) -> Json:
    answer = {"200": _json_response("The records.", f"{service.type_name}List")}
    operation = _operation(service, method, summary, "many", answer, takes_data=method.name == "patch")
    if method.name == "patch":
        operation["requestBody"] = _body(f"{service.type_name}Part")
    return {**operation, "parameters": [*record_parameters(service)]}


def _post(service: ServiceDescription) -> Json:
    """Create, and the custom methods, which a header tells apart."""
    create, custom = service.method("create"), service.custom_methods
    answers: Json = {}
    bodies: list[Json] = []
    if create is not None:
        one = {"$ref": f"#/components/schemas/{service.type_name}Data"}
        bodies += [one, {"type": "array", "items": one}] if create.is_multi else [one]
        record = {"$ref": f"#/components/schemas/{service.type_name}"}
        shown = {"anyOf": [record, {"type": "array", "items": record}]} if create.is_multi else record
        what = "The login." if service.kind == "login" else "The new record, or the list of them."
        answers["201"] = {"description": what, "content": {"application/json": {"schema": shown}}}
        if service.kind == "records":
            answers["201"]["links"] = dict(_links(service))
    if custom:
        bodies.append({"$ref": "#/components/schemas/Value"})
        content: Json = {"application/json": {"schema": {}}, "text/plain": {"schema": {"type": "string"}}}
        answers["200"] = {"description": "What the method answers.", "content": content}
        answers["204"] = {"description": "The method answers with nothing."}
    first = create or custom[0]
    summary = "Log in" if service.kind == "login" else _WORDS["create"] if create else f"Call {first.name}"
    operation = _operation(service, first, summary, "", answers, takes_data=True)
    schema = bodies[0] if len(bodies) == 1 else {"anyOf": bodies}
    operation["requestBody"] = {"required": create is not None, "content": {"application/json": {"schema": schema}}}
    parameters = [select_parameter(service)] if create is not None and service.takes_queries else []
    if custom:
        names = [method.name for method in custom]
        header: Json = {"name": SERVICE_METHOD, "in": "header", "required": create is None, "schema": {"enum": names}}
        parameters.append({**header, "description": "The method to call; without it, a record is created."})
    if parameters:
        operation["parameters"] = parameters
    if not all(method.needs_login for method in (create, *custom) if method is not None):
        operation["security"] = [{}, {"login": []}]
    return operation


def _links(service: ServiceDescription) -> Iterator[tuple[str, Json]]:
    """What can be done with the record that was created."""
    for name in ("get", "update", "patch", "remove"):
        if service.method(name):
            id = f"$response.body#/{service.id}"
            yield name, {"operationId": f"{name}{service.type_name}", "parameters": {"id": id}}


def _operation(
    service: ServiceDescription,
    method: MethodDescription,
    summary: str,
    suffix: str,
    answers: Json,
    *,
    takes_data: bool = False,
) -> Json:
    errors: Sequence[type[FeathersError]] = _ERRORS if takes_data else _ALWAYS
    named = {str(error.code): {"$ref": f"#/components/responses/{error.__name__}"} for error in errors}
    operation: Json = {
        "operationId": f"{method.name}{service.type_name}{suffix.capitalize()}",
        "summary": summary,
        "tags": [service.path],
        "security": [{"login": []}] if method.needs_login else [{}, {"login": []}],
        "responses": dict(sorted({**answers, **named}.items())),
    }
    if method.access in _REACH:
        operation["description"] = _REACH[method.access]
    return operation


def _schemas(services: Sequence[ServiceDescription]) -> Iterator[tuple[str, Json]]:
    yield "Key", schemas.KEY
    yield "Value", schemas.VALUE
    for service in services:
        name = service.type_name
        record = {"$ref": f"#/components/schemas/{name}"}
        yield name, schemas.record(service)
        if service.method("create"):
            yield f"{name}Data", schemas.data(service)
        if service.method("update"):
            yield f"{name}Replacement", schemas.replacement(service)
        if service.method("patch"):
            yield f"{name}Part", schemas.part(service)
        if any(service.method(method) for method in ("get", "update", "patch", "remove")):
            yield f"{name}Id", _id(service)
        paged = service.paginate is not None and service.method("find")
        if paged:
            yield f"{name}Page", schemas.page(service, record)
        if (service.method("find") and not paged) or any(method.is_multi for method in service.methods):
            yield f"{name}List", {"type": "array", "items": record}


def _id(service: ServiceDescription) -> Json:
    if service.kind == "login":
        return {"type": "string", "minLength": 1, "description": "The access token of the login."}
    return {"type": "string", "minLength": 1, "maxLength": 256}


def _app_parameter(tenant: TenantDescription) -> Json:
    description = "The app whose services are meant."
    return {
        "name": HEADER,
        "in": "header",
        "required": True,
        "schema": {"const": tenant.id},
        "description": description,
    }


def _error_response(error: type[FeathersError]) -> Json:
    sample = error()
    schema: Json = {
        "type": "object",
        "required": ["name", "message", "code", "className"],
        "properties": {
            "name": {"const": sample.name},
            "message": {"type": "string"},
            "code": {"const": sample.code},
            "className": {"const": sample.class_name},
            "data": {"description": "More about it, as any JSON value."},
        },
    }
    if error is BadRequest:
        fault = {"type": "object", "properties": {"path": {"type": "string"}, "message": {"type": "string"}}}
        schema["properties"]["errors"] = {"type": "array", "items": fault, "description": "The single faults."}
    description = f"At most {MAX_BODY} bytes are allowed." if error is PayloadTooLarge else sample.message
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _record(service: ServiceDescription) -> Json:
    return _json_response("The login." if service.kind == "login" else "The record.", service.type_name)


def _json_response(description: str, schema: str) -> Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _body(schema: str) -> Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"required": True, "content": content}
