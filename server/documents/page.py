"""The page for people: one HTML file without anything from elsewhere, readable without scripts and without a network."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from server.documents.examples import Example, connect, examples
from server.documents.markup import Html, join, tag
from server.documents.typescript import to_type
from server.handshake import APP_ID, HEADER
from services.description import (
    Access,
    EventDescription,
    MethodDescription,
    ServiceDescription,
    TenantDescription,
)
from services.shape import JsonSchema

_DIRECTORY = Path(__file__).parent
_STYLE = (_DIRECTORY / "page.css").read_text(encoding="utf-8")
_SCRIPT = (_DIRECTORY / "page.js").read_text(encoding="utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: its own style and script, and nothing else at all."""

_ROUTES = {
    "find": "GET /{path}",
    "get": "GET /{path}/{id}",
    "create": "POST /{path}",
    "update": "PUT /{path}/{id}",
    "patch": "PATCH /{path}/{id}",
    "remove": "DELETE /{path}/{id}",
}
_SIGNATURES = {
    "find": "find(params)",
    "get": "get(id, params)",
    "create": "create(data, params)",
    "update": "update(id, data, params)",
    "patch": "patch(id, data, params)",
    "remove": "remove(id, params)",
}
_MEANINGS = {
    "find": "the records that match the query",
    "get": "one record",
    "create": "a new record",
    "update": "replaces a record",
    "patch": "changes some fields of a record",
    "remove": "removes a record",
}
_ROOMS = {"find": "the rooms that this connection has joined", "create": "joins a room", "remove": "leaves a room"}
_ACCESS: dict[Access, str] = {
    "public": "anyone",
    "authenticated": "logged in",
    "own": "only one's own",
    "rule": "by a rule",
}
_AUDIENCE = {
    "public": "for everyone",
    "authenticated": "for everyone who is logged in",
    "rule": "for those whom the rule of get admits",
    "chosen": "for those whom the service chooses",
    "own": "for a client whose login is over although it has not logged out",
}


def page(tenant: TenantDescription, url: str) -> str:
    """The page of an app; `url` is the server's own, for the example calls."""
    query = f"?{APP_ID}={tenant.id}"
    files = [("OpenAPI", "/openapi.json"), ("AsyncAPI", "/asyncapi.json"), ("types.d.ts", "/docs/types.d.ts")]
    header = tag(
        "header",
        tag("h1", tenant.name),
        tag("p", "appId ", tag("code", tenant.id), class_="app"),
        tag("nav", *(tag("a", name, href=path + query) for name, path in files), class_="files", aria_label="Files"),
        _choices(),
    )
    links = [tag("li", tag("a", "Getting started", href="#start"))]
    links += [tag("li", tag("a", service.path, href=f"#{_anchor(service)}")) for service in tenant.services]
    contents = tag("nav", tag("ul", *links), class_="contents", aria_label="Services")
    sections = [_start(tenant, url), *(_service(tenant, service, url) for service in tenant.services)]
    return _document(f"{tenant.name}: services", header, tag("div", contents, tag("main", *sections), class_="body"))


def welcome_page(fault: str | None = None) -> str:
    """The page that asks for an app; `fault` says why the one that was named is not shown."""
    asked = tag(
        "form",
        tag("label", "Which app?", for_="app"),
        tag("input", id="app", name=APP_ID, required="", autocomplete="off", placeholder="its appId"),
        tag("button", "Show its services", type="submit"),
        action="/docs",
    )
    complaint = tag("p", fault, class_="fault", role="alert") if fault else None
    return _document("Services", tag("header", tag("h1", "Services")), tag("main", complaint, asked, class_="welcome"))


def _document(title: str, *content: Html) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(_STYLE)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", *content, tag("script", Html(_SCRIPT))), lang="en")


def _choices() -> Html:
    """Shown by the script, which is what they need."""
    return tag(
        "div",
        tag("button", "Feathers", type="button", data_language="feathers", aria_pressed="true"),
        tag("button", "curl", type="button", data_language="curl", aria_pressed="false"),
        tag("button", "Light / dark", type="button", data_theme=""),
        class_="choices",
        hidden="",
    )


def _start(tenant: TenantDescription, url: str) -> Html:
    return tag(
        "section",
        tag("h2", "Getting started"),
        tag("p", "Over Socket.IO the app is named once, when the client connects:"),
        _code(connect(tenant, url)),
        tag("p", "Over REST each request names it in the header ", tag("code", f"{HEADER}: {tenant.id}"), "."),
        tag(
            "p",
            "Where it says ",
            _badge("logged in", "authenticated"),
            ", log in first; REST calls then carry the access token. In the examples ",
            tag("code", "$TOKEN"),
            " and ",
            tag("code", "$ID"),
            " are yours.",
        ),
        id="start",
    )


def _service(tenant: TenantDescription, service: ServiceDescription, url: str) -> Html:
    return tag(
        "section",
        tag("h2", tag("a", service.path, href=f"#{_anchor(service)}")),
        tag("h3", "Methods"),
        tag("div", tag("table", *(_method(service, method) for method in service.methods)), class_="wide"),
        _paging(service) if service.method("find") else None,
        _extras(service),
        tag("h3", "Fields" if service.kind == "records" else "What it takes"),
        _fields(service),
        tag("h3", "Events") if service.events else None,
        tag("ul", *(_event(service, event) for event in service.events), class_="events") if service.events else None,
        _rooms(service),
        tag("h3", "Examples"),
        *(_example(example) for example in examples(tenant, service, url)),
        _listening(service),
        id=_anchor(service),
    )


def _method(service: ServiceDescription, method: MethodDescription) -> Html:
    route = _ROUTES.get(method.name, "POST /{path}").replace("{path}", service.path)
    meaning = _MEANINGS.get(method.name, "a method of its own")
    if service.kind == "login":
        route = f"{'POST' if method.name == 'create' else 'DELETE'} /{service.path}"
        meaning = "logs in" if method.name == "create" else "logs out"
    elif service.kind == "rooms":
        route, meaning = "only over Socket.IO", _ROOMS.get(method.name, "")
    if method.is_custom:
        route += f" with X-Service-Method: {method.name}"
    if method.is_multi:
        meaning += "; lists too" if method.name == "create" else "; without an id, all that match the query"
    return tag(
        "tr",
        tag("th", tag("code", _SIGNATURES.get(method.name, f"{method.name}(data, params)")), scope="row"),
        tag("td", meaning, tag("br"), tag("code", route, class_="route")),
        tag("td", _badge(_ACCESS[method.access], method.access)),
    )


def _paging(service: ServiceDescription) -> Html:
    if service.paginate is None:
        return tag("p", _prose("`find` answers with a plain list."), class_="note")
    text = (
        f"`find` answers with pages of {service.paginate.default} records, with `$limit` up to {service.paginate.max}."
    )
    if service.has_cursors:
        text += " With `$cursor: true` a page tells where the next one begins, which is `$after: page.cursor.next`."
    return tag("p", _prose(text), class_="note")


def _extras(service: ServiceDescription) -> Html | None:
    texts = []
    if service.is_searchable and service.method("find"):
        texts.append("`$search` finds words.")
    if service.updates and service.method("patch"):
        texts.append(f"`patch` also takes {', '.join(f'`{operator}`' for operator in service.updates)}.")
    return tag("p", _prose(" ".join(texts)), class_="note") if texts else None


def _fields(service: ServiceDescription) -> Html:
    shown = service.record if service.kind == "records" else service.data
    fields = {**service.data.properties, **shown.properties}
    rows = [_field(name, fields[name], service) for name in {**shown.properties, **service.data.properties}]
    table = tag("div", tag("table", *rows, class_="fields"), class_="wide")
    return join(table, tag("p", "Other fields are allowed too.", class_="note") if service.data.is_open else None)


def _field(name: str, schema: JsonSchema, service: ServiceDescription) -> Html:
    is_id = name == service.id and service.kind == "records"
    notes = ["names the record"] if is_id else _notes(schema)
    if schema.get("readOnly"):
        notes.insert(0, "set by the server")
    return tag(
        "tr",
        tag("th", tag("code", name), scope="row"),
        tag("td", tag("code", to_type(schema), class_="type")),
        tag(
            "td",
            _badge("required", "required") if name in service.data.required else None,
            " ",
            _prose("; ".join(notes)),
        ),
    )


def _prose(text: str) -> Html:
    """Text in which backticks enclose code."""
    return join(*(tag("code", part) if index % 2 else part for index, part in enumerate(text.split("`"))))


_LIMITS = (
    ("minLength", "length from {}"),
    ("maxLength", "length to {}"),
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("multipleOf", "a multiple of {}"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
    ("pattern", "matches {}"),
    ("format", "as {}"),
    ("default", "default {}"),
    ("description", "{}"),
)


def _notes(schema: JsonSchema) -> list[str]:
    return [
        text.format(_plain(schema[keyword]))
        for keyword, text in _LIMITS
        if keyword in schema and schema[keyword] != "password"
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _event(service: ServiceDescription, event: EventDescription) -> Html:
    name = tag("code", f"{service.path} {event.name}")
    return tag("li", name, tag("span", f" {_AUDIENCE[event.audience]}", class_="note"))


def _rooms(service: ServiceDescription) -> Html | None:
    if service.room_field is None or not service.events:
        return None
    call = f"await app.service('rooms').create({{ service: '{service.path}', room }})"
    text = (
        f"Of these, only those reach a client whose `{service.room_field}` names a room that it has joined: `{call}`."
    )
    return tag("p", _prose(text), class_="note")


def _example(example: Example) -> Html:
    return tag(
        "details",
        tag("summary", tag("code", example.method)),
        _code(example.feathers, "feathers" if example.curl else None),
        _code(example.curl, "curl") if example.curl else None,
        open="" if example.method in {"find", "create"} else None,
    )


def _listening(service: ServiceDescription) -> Html | None:
    if not service.events:
        return None
    heard, told = ("{ reason }", "reason") if service.kind == "login" else ("record", "record")
    call = f"app.service('{service.path}').on('{service.events[0].name}', ({heard}) => console.log({told}))"
    return tag("details", tag("summary", tag("code", "on")), _code(call))


def _code(text: str, language: str | None = None) -> Html:
    return tag("pre", tag("code", text), data_in=language, tabindex="0")


def _badge(text: str, kind: str) -> Html:
    return tag("span", text, class_=f"badge {kind}")


def _anchor(service: ServiceDescription) -> str:
    return f"service-{service.path}"
