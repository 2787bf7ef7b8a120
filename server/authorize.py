"""OAuth 2.0 of Roost's own: a browser that is signed in carries a login to another page of the app, without a word to its user.

    POST /oauth/session     a signed-in page lets the browser keep a proof of its session, in a cookie
    GET  /oauth/authorize   `prompt=none&organization=...`: back to the client's page with a code (RFC 6749 4.1, RFC 7636 S256)
    POST /oauth/token       the code, or a refresh token, for an access token

The cookie is read by `/oauth/authorize` alone. What that gives away goes to an address that the client has registered, and is
worth nothing without the verifier.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import structlog
from aiohttp import web
from multidict import MultiMapping

from hooks.context import Params
from hooks.errors import BadRequest, FeathersError, Forbidden, MethodNotAllowed, NotAuthenticated, to_feathers_error
from hooks.rate import Limiter
from hooks.tenant import Tenant, tenant_scope
from server import logs, wire
from server.addresses import Addresses
from server.connections import Connections
from server.cors import VARY, check_origin, check_stranger, origins_of, preflight, readable
from server.handshake import bearer
from server.resolver import Resolver
from services.application import Application, answer
from services.authentication.authorization import Authorization
from services.authentication.codes import CHALLENGE, Wanted

log = structlog.get_logger()

SESSION, AUTHORIZE, TOKEN = "/oauth/session", "/oauth/authorize", "/oauth/token"
COOKIE: Final = "__Host-roost-{}"
"""The cookie's name, with the app's id. The prefix binds it to this very host, https and all paths."""
LARGEST = 16 * 1024
"""Bytes of a request to the token endpoint."""
MOST_FIELDS = 32
LONGEST = 2048
"""Characters of one field."""

_QUIET = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
_GRANTS: Mapping[str, Mapping[str, str]] = {
    "authorization_code": {name: name for name in ("code", "code_verifier", "client_id", "redirect_uri")},
    "refresh_token": {"refresh_token": "refreshToken", "client_id": "client_id"},
}
"""By grant: the fields that it must have, and what the strategies call them."""
_STRATEGIES = {"authorization_code": "authorization_code", "refresh_token": "refresh"}


class OAuthError(Exception):
    """An error as RFC 6749 writes it; `reason` says more, in Roost's own words (TK-7)."""

    def __init__(self, error: str, description: str, *, reason: str | None = None, status: int = 400) -> None:
        super().__init__(description)
        self.status = status
        self.fields = {"error": error, "error_description": description}
        if reason is not None:
            # `code` would be taken for an authorization code.
            self.fields["error_code"] = reason


@dataclass(frozen=True, slots=True)
class _Back:
    """Where the browser is sent, whatever comes of it."""

    redirect_uri: str
    state: str | None

    def to(self, **fields: str) -> web.Response:
        """The redirect: the query of the registered address stays (RFC 6749 3.1.2)."""
        more = fields if self.state is None else {**fields, "state": self.state}
        joint = "&" if urlsplit(self.redirect_uri).query else "?"
        location = f"{self.redirect_uri}{joint}{urlencode(more)}"
        return web.Response(status=303, headers={"Location": location, **_QUIET})


class Authorize:
    """Serves the three addresses."""

    def __init__(
        self,
        app: Application,
        resolver: Resolver,
        connections: Connections,
        addresses: Addresses,
        *,
        authorization: Authorization,
        rates: Limiter,
    ) -> None:
        self._app = app
        self._resolver = resolver
        self._connections = connections
        self._addresses = addresses
        self._authorization = authorization
        self._rates = rates

    def attach(self, app: web.Application) -> None:
        """Adds the routes. They come before those of providers, of which none has such a name."""
        app.router.add_get(AUTHORIZE, self._answering(self._authorize), allow_head=False)
        for path, act in ((SESSION, self._keep), (TOKEN, self._token)):
            app.router.add_post(path, self._answering(self._for_pages(act)))
            app.router.add_route("OPTIONS", path, self._answering(self._preflight))
        for path, verb in ((AUTHORIZE, "GET"), (SESSION, "POST"), (TOKEN, "POST")):
            app.router.add_route("*", path, self._answering(_unsupported(verb)))

    def _answering(
        self, act: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """A handler that answers, whatever happens, and lets nobody keep the answer."""

        async def handle(request: web.Request) -> web.Response:
            call_token = logs.call_id.set(logs.next_call_id())
            try:
                response = await act(request)
            except FeathersError as error:
                response = _plain(error)
            except Exception as error:
                log.exception("authorization failed")
                response = _plain(to_feathers_error(error))
            finally:
                logs.call_id.reset(call_token)
            response.headers.update(_QUIET)
            return response

        return handle

    def _for_pages(
        self, act: Callable[[web.Request, Tenant], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """A handler for pages of the app, and for programs."""

        async def handle(request: web.Request) -> web.Response:
            cors: Mapping[str, str] = VARY
            try:
                token = bearer(request.headers.get("Authorization"))
                tenant = await self._resolver.find(request, token=token)
                origins = origins_of(request)
                check_origin(tenant, origins)
                cors = readable(origins)
                # Where a session is kept, its token is looked at in any case.
                check_stranger(tenant, origins, is_verified=request.path == SESSION)
                with tenant_scope(tenant):
                    await self._count(request, tenant)
                    async with self._connections.gate(tenant.id):
                        response = await act(request, tenant)
            except (FeathersError, OAuthError) as error:
                response = _refusal(error) if request.path == TOKEN else _plain(error)
            response.headers.update(cors)
            return response

        return handle

    async def _preflight(self, request: web.Request) -> web.Response:
        response = preflight(await self._resolver.look(request), origins_of(request))
        return _with_credentials(response) if request.path == SESSION else response

    async def _keep(self, request: web.Request, tenant: Tenant) -> web.Response:
        """Has the browser keep a proof of the session whose access token the page shows."""
        params = self._params(request, tenant, bearer(request.headers.get("Authorization")))
        await self._app.authenticate(params)
        assert params.authentication is not None
        proof = await self._authorization.prove(tenant, params.authentication.payload)
        response = web.Response(status=204)
        response.set_cookie(COOKIE.format(tenant.id), proof, path="/", secure=True, httponly=True, samesite="Lax")
        return _with_credentials(response) if origins_of(request) else response

    async def _authorize(self, request: web.Request) -> web.Response:
        """Back to the client's page. Who is no client, or wants to go elsewhere, is sent nowhere."""
        tenant = await self._resolver.find(request)
        with tenant_scope(tenant):
            await self._count(request, tenant)
            async with self._connections.gate(tenant.id):
                return await self._decide(request, tenant)

    async def _decide(self, request: web.Request, tenant: Tenant) -> web.Response:
        query = request.query
        client, redirect_uri = _single(query, "client_id"), _single(query, "redirect_uri")
        known = await self._authorization.callbacks(tenant, client) if client else None
        if known is None:
            raise BadRequest("The client_id is none of a client of this app")
        if redirect_uri not in known:
            raise BadRequest("The redirect_uri is none of the client's callbacks, which are compared letter by letter")
        states = query.getall("state", [])
        back = _Back(redirect_uri, states[0] if states else None)
        try:
            wanted = _wanted(query, client, redirect_uri)
            code = await self._authorization.grant(tenant, request.cookies.get(COOKIE.format(tenant.id)), wanted)
        except OAuthError as error:
            return back.to(**error.fields)
        except FeathersError as error:
            return back.to(**_as_redirect(error).fields)
        except Exception:
            log.exception("authorization failed")
            return back.to(error="server_error", error_description="The server has failed")
        return back.to(code=code)

    async def _token(self, request: web.Request, tenant: Tenant) -> web.Response:
        """An access token for a code or a refresh token, by the same strategies that `authentication` offers."""
        fields = await _form(request)
        if "client_secret" in fields or request.headers.get("Authorization", "").lower().startswith("basic"):
            raise OAuthError("invalid_client", "Clients are public: they prove who they are by PKCE", status=401)
        grant = fields.get("grant_type", "")
        if grant not in _GRANTS:
            named = "unsupported_grant_type" if grant else "invalid_request"
            raise OAuthError(named, f"The grant_type must be one of {', '.join(_GRANTS)}")
        if missing := [name for name in _GRANTS[grant] if not fields.get(name)]:
            raise OAuthError("invalid_request", f"The {missing[0]} is missing")
        data = {own: fields[name] for name, own in _GRANTS[grant].items()}
        if grant == "refresh_token" and "organization" in fields:
            data["organization"] = fields["organization"]
        params = self._params(request, tenant, None)
        context = await self._app.call(
            "authentication", "create", params, data={"strategy": _STRATEGIES[grant], **data}
        )
        login = answer(context)
        left = int(login["authentication"]["payload"]["exp"] - time.time())
        shown = {"access_token": login["accessToken"], "token_type": "Bearer", "expires_in": max(left, 0)}
        if "refreshToken" in login:
            shown["refresh_token"] = login["refreshToken"]
        return _json(shown, 200)

    def _params(self, request: web.Request, tenant: Tenant, token: str | None) -> Params:
        return Params(
            tenant=tenant,
            provider="rest",
            address=self._addresses.of(request),
            headers={name.lower(): value for name, value in request.headers.items()},
            token=token,
        )

    async def _count(self, request: web.Request, tenant: Tenant) -> None:
        subjects = [("tenant", ""), ("address", self._addresses.of(request))]
        wait = self._rates.admit(tenant, {"http": 1}, subjects) if tenant.limits.rates else None
        if wait is not None:
            await wait


def _unsupported(verb: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def refuse(request: web.Request) -> web.Response:
        response = _plain(MethodNotAllowed(f"Only {verb} is supported here"))
        response.headers["Allow"] = verb
        return response

    return refuse


def _wanted(query: MultiMapping[str], client: str, redirect_uri: str) -> Wanted:
    """What the client asks for.

    Raises:
        OAuthError: something that there is not here, or that is no such request.
    """
    for name in {*query}:
        if len(query.getall(name)) > 1 or len(query[name]) > LONGEST:
            raise OAuthError("invalid_request", "A field is there twice, or is too long")
    for name in ("request", "request_uri"):
        if name in query:
            raise OAuthError(f"{name}_not_supported", f"There is no {name} here: write the fields in the query")
    if query.get("response_type") != "code":
        named = "unsupported_response_type" if query.get("response_type") else "invalid_request"
        raise OAuthError(named, "The response_type must be code")
    if query.get("response_mode", "query") != "query":
        raise OAuthError("invalid_request", "The response_mode must be query")
    challenge = query.get("code_challenge", "")
    if query.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "PKCE is needed: a code_challenge, and code_challenge_method=S256")
    if query.get("scope"):
        raise OAuthError("invalid_scope", "There are no scopes to ask for: what a token allows follows from roles")
    prompt = query.get("prompt", "").split()
    if "none" not in prompt:
        raise OAuthError(
            "interaction_required", "There is no page to log in here: log in at the app, and use prompt=none"
        )
    if len(prompt) > 1:
        raise OAuthError("invalid_request", "The prompt none stands alone")
    organization = query.get("organization")
    if organization is not None and not 0 < len(organization) <= 256:
        raise OAuthError("invalid_request", "The organization is its name or id")
    return Wanted(client, redirect_uri, challenge, organization)


def _as_redirect(error: FeathersError) -> OAuthError:
    """An error of the switch as a browser carries it (OpenID Connect Core 3.1.2.6)."""
    reason = error.data.get("code") if isinstance(error.data, dict) else None
    if reason == "reauthentication_required":
        return OAuthError("login_required", "Nobody is logged in here, or not any more", reason=reason)
    if isinstance(error, Forbidden):
        return OAuthError("access_denied", error.message, reason=reason)
    if error.code in (429, 503):
        return OAuthError("temporarily_unavailable", error.message)
    log.warning("authorization refused", error=type(error).__name__)
    return OAuthError("server_error", "The server has failed")


def _refusal(error: FeathersError | OAuthError) -> web.Response:
    """An error as the token endpoint answers it (RFC 6749 5.2)."""
    if isinstance(error, OAuthError):
        return _json(error.fields, error.status)
    data = error.data if isinstance(error.data, dict) else {}
    status, named = error.code, "server_error"
    if isinstance(error, NotAuthenticated) or "code" in data:
        status, named = 400, "invalid_grant"
    elif isinstance(error, Forbidden):
        named = "access_denied"
    elif error.code in (429, 503):
        named = "temporarily_unavailable"
    elif error.code < 500:
        named = "invalid_request"
    response = _json(OAuthError(named, error.message, reason=data.get("code")).fields, status)
    if "retry_after" in data:
        response.headers["Retry-After"] = str(math.ceil(data["retry_after"]))
    return response


def _plain(error: Exception) -> web.Response:
    fault = to_feathers_error(error)
    return _json(fault.to_json(), fault.code)


async def _form(request: web.Request) -> Mapping[str, str]:
    """The fields of a form, each once."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "The body must be application/x-www-form-urlencoded")
    raw = await request.content.read(LARGEST + 1)
    while len(raw) <= LARGEST and not request.content.at_eof():
        raw += await request.content.read(LARGEST + 1 - len(raw))
    try:
        if len(raw) > LARGEST:
            raise ValueError("too large")
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise OAuthError("invalid_request", "The body is no form, or is too large") from error
    fields = dict(pairs)
    if len(fields) < len(pairs) or any(len(value) > LONGEST for value in fields.values()):
        raise OAuthError("invalid_request", "A field is there twice, or is too long")
    return fields


def _single(query: MultiMapping[str], name: str) -> str:
    values: list[Any] = query.getall(name, [])
    return values[0] if len(values) == 1 and len(values[0]) <= LONGEST else ""


def _with_credentials(response: web.Response) -> web.Response:
    """Lets the browser take the cookie of an answer to a page of another origin."""
    response.headers["Access-Control-Allow-Credentials"] = "true"
    return response


def _json(body: Any, status: int) -> web.Response:
    return web.Response(body=wire.encode(body), status=status, content_type="application/json")
