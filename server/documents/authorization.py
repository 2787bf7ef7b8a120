"""What the OpenAPI document says of Roost's own OAuth 2.0: `server/authorize.py`."""

from __future__ import annotations

from typing import Final

from server.authorize import AUTHORIZE, COOKIE, SESSION, TOKEN
from server.documents.schemas import Json

_TAG = "oauth"
_ERRORS = (
    "400 BadRequest",
    "403 Forbidden",
    "404 NotFound",
    "429 TooManyRequests",
    "500 GeneralError",
    "503 Unavailable",
)
_METHOD = ("405 MethodNotAllowed",)


def paths() -> Json:
    """The three addresses."""
    app = {"$ref": "#/components/parameters/App"}
    found = {SESSION: {"post": _session()}, AUTHORIZE: {"get": _authorize()}, TOKEN: {"post": _token()}}
    return {path: {"parameters": [app], **item} for path, item in found.items()}


def _session() -> Json:
    description = (
        "For the page that is signed in. The answer sets a cookie, which `GET /oauth/authorize` alone reads. "
        "A page of another origin asks with credentials, and is of the same site."
    )
    return {
        "operationId": "keepSession",
        "summary": "Have the browser keep a proof of the session",
        "description": description,
        "tags": [_TAG],
        "security": [{"login": []}],
        "responses": {
            "204": {"description": f"The browser keeps the cookie `{COOKIE.format('<app>')}`."},
            **_errors("401 NotAuthenticated", *_ERRORS, *_METHOD),
        },
    }


def _authorize() -> Json:
    description = (
        "For the browser, which goes on at the `redirect_uri` with `code` and `state`, or with `error`, `error_description`, "
        "`error_code` and `state`. Errors are those of RFC 6749 and OpenID Connect; the `error_code` is `not_a_member`, "
        "`tenant_unavailable` or `reauthentication_required`."
    )
    parameters = [
        _field("response_type", {"const": "code"}),
        _field("client_id", _TEXT, "The id of a client of the app."),
        _field("redirect_uri", _TEXT, "One of its callbacks, letter by letter."),
        _field("code_challenge", {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"}),
        _field("code_challenge_method", {"const": "S256"}),
        _field("prompt", {"const": "none"}, "There is no page to log in here."),
        _field("organization", {"type": "string", "minLength": 1, "maxLength": 256}, "A name or id.", required=False),
        _field("state", {"type": "string"}, "Comes back as it is.", required=False),
    ]
    return {
        "operationId": "authorize",
        "summary": "Take a login to another page, in an organization or in none",
        "description": description,
        "tags": [_TAG],
        "security": [],
        "parameters": parameters,
        "responses": {
            "303": {
                "description": "Back to the client's page.",
                "headers": {"Location": {"schema": {"type": "string", "format": "uri"}}},
            },
            **_errors(*_ERRORS, *_METHOD),
        },
    }


def _token() -> Json:
    text = {"type": "string", "minLength": 1, "maxLength": 2048}
    by_code = dict.fromkeys(("code", "code_verifier", "client_id", "redirect_uri"), text)
    by_refresh = {"refresh_token": text, "client_id": text}
    forms = [_form("authorization_code", by_code), _form("refresh_token", by_refresh)]
    forms[1]["properties"]["organization"] = text
    login: Json = {
        "type": "object",
        "required": ["access_token", "token_type", "expires_in"],
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"const": "Bearer"},
            "expires_in": {"type": "integer", "minimum": 0},
            "refresh_token": {"type": "string"},
        },
    }
    errors = {status: _refusal() for status in ("400", "401", "403", "404", "429", "500", "503")}
    return {
        "operationId": "token",
        "summary": "An access token for a code, or for a refresh token",
        "tags": [_TAG],
        "security": [],
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": {"anyOf": forms}}},
        },
        "responses": {"200": {"description": "The login.", "content": _json(login)}, **errors, **_errors(*_METHOD)},
    }


_TEXT: Final[Json] = {"type": "string", "minLength": 1}


def _field(name: str, schema: Json, description: str = "", *, required: bool = True) -> Json:
    said = {"description": description} if description else {}
    return {"name": name, "in": "query", "required": required, "schema": schema, **said}


def _form(grant: str, fields: Json) -> Json:
    return {
        "type": "object",
        "required": ["grant_type", *fields],
        "properties": {"grant_type": {"const": grant}, **fields},
    }


def _refusal() -> Json:
    properties = {name: {"type": "string"} for name in ("error", "error_description", "error_code")}
    schema: Json = {"type": "object", "required": ["error"], "properties": properties}
    return {"description": "An error as RFC 6749 writes it.", "content": _json(schema)}


def _errors(*named: str) -> Json:
    pairs = [one.split() for one in named]
    return {status: {"$ref": f"#/components/responses/{error}"} for status, error in pairs}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
