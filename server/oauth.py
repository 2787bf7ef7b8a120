"""Signing in by another provider, as Feathers has it: `/oauth/<provider>` begins, the callback leads back to the app."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import structlog
from aiohttp import web
from multidict import MultiDict

from hooks.context import Params
from hooks.errors import BadRequest, FeathersError, Forbidden, NotAuthenticated, NotFound, to_feathers_error
from hooks.tenant import OAuthSettings, Tenant, tenant_scope
from server import logs, wire
from server.addresses import Addresses
from server.connections import Connections
from server.handshake import APP_ID, TENANT, bearer
from server.oauth_page import HEADERS, PAGE
from server.resolver import Resolver
from services.application import Application, answer
from services.authentication.oauth import GRANT, Registrations, registration_of
from services.authentication.oauth_states import OAuthStates, SignIn, app_of
from services.authentication.providers import Grant, Providers
from services.redirects import choose_target

log = structlog.get_logger()

PATH = "/oauth/{provider}"
CALLBACK = "/oauth/{provider}/callback"
GONE = "This sign-in has expired, was used already, or was begun in another browser: go back to the app and begin again"
CANCELLED = "The sign-in was cancelled"
FAILED = "The identity provider has refused the sign-in"
LARGEST = 16 * 1024
"""Bytes of what the page sends."""
MOST_FIELDS = 32

Fields = Mapping[str, str]


class OAuth:
    """Serves the page, and answers its script."""

    def __init__(
        self,
        app: Application,
        resolver: Resolver,
        connections: Connections,
        addresses: Addresses,
        *,
        states: OAuthStates,
        providers: Providers,
        registrations: Registrations | None = None,
        public_url: Callable[[], str],
    ) -> None:
        """`public_url` tells the scheme, host and port by which browsers reach this server."""
        self._app = app
        self._resolver = resolver
        self._connections = connections
        self._addresses = addresses
        self._states = states
        self._providers = providers
        self._registrations = registrations
        self._public_url = public_url

    def attach(self, app: web.Application) -> None:
        """Adds the routes."""
        for path, act in ((PATH, self._begin), (CALLBACK, self._end)):
            app.router.add_get(path, self._show)
            app.router.add_post(path, self._answering(act))

    async def _show(self, request: web.Request) -> web.Response:
        """The same page for whatever is asked: what that is, its script sends on."""
        return web.Response(text=PAGE, content_type="text/html", headers=HEADERS)

    def _answering(self, act: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        """A handler that answers the page's script with JSON, whatever happens."""

        async def handle(request: web.Request) -> web.Response:
            call_token = logs.call_id.set(logs.next_call_id())
            try:
                self._check_origin(request)
                body, status = await act(request), 200
            except FeathersError as error:
                body, status = error.to_json(), error.code
            except Exception as error:
                log.exception("sign-in failed")
                fault = to_feathers_error(error)
                body, status = fault.to_json(), fault.code
            finally:
                logs.call_id.reset(call_token)
            headers = {"Cache-Control": "no-store"}
            return web.Response(body=wire.encode(body), status=status, content_type="application/json", headers=headers)

        return handle

    def _check_origin(self, request: web.Request) -> None:
        origins = request.headers.getall("Origin", [])
        if origins and origins != [self._public_url()]:
            raise Forbidden(f"Sign-ins are begun at {self._public_url()}, and not from another address")

    async def _begin(self, request: web.Request) -> Mapping[str, str]:
        """`{location, state, proof}`: where to sign in, and what the browser keeps meanwhile."""
        _, fields = await _received(request)
        if "feathers_token" in fields:
            raise BadRequest("The feathers_token belongs behind a '#': the query of an address is kept in many places")
        names = MultiDict({name: fields[name] for name in (APP_ID, TENANT) if name in fields})
        tenant = await self._resolver.find(request, query=names)
        provider, settings = await self._provider(request, tenant)
        redirect = choose_target(settings.redirects, fields.get("redirect"))
        if redirect is None:
            raise BadRequest("The redirect is none that the app has declared")
        address = self._addresses.of(request)
        with tenant_scope(tenant):
            async with self._connections.gate(tenant.id):
                login = await self._login(request, tenant)
                client = await self._providers.client(tenant, settings)
                begun = await self._states.begin(tenant, provider, redirect, address=address, login=login)
                location = client.address(
                    state=begun.state,
                    challenge=begun.challenge,
                    nonce=begun.nonce,
                    redirect_uri=self._callback(provider),
                )
        return {"location": location, "state": begun.state, "proof": begun.proof}

    async def _login(self, request: web.Request, tenant: Tenant) -> Mapping[str, Any] | None:
        """The claims of the login to which the sign-in is to be linked."""
        token = bearer(request.headers.get("Authorization"))
        if token is None:
            return None
        params = Params(tenant=tenant, provider="rest", token=token)
        await self._app.authenticate(params)
        assert params.authentication is not None
        if params.authentication.payload.get("app_id") != tenant.id:
            # A manager's id may be that of a user here, whom he is not.
            raise Forbidden("Who manages this app is no user of it, and has nothing here to link a sign-in to")
        return params.authentication.payload

    async def _end(self, request: web.Request) -> Mapping[str, str]:
        """`{location}`: the app's page, with `access_token` or `error` behind a '#' as Feathers' client looks for them."""
        body, fields = await _received(request)
        state = fields.get("state", "")
        app_id = app_of(state)
        if app_id is None:
            raise NotAuthenticated(GONE)
        tenant = await self._resolver.find(request, query=MultiDict({APP_ID: app_id}))
        provider, settings = await self._provider(request, tenant)
        with tenant_scope(tenant):
            async with self._connections.gate(tenant.id):
                sign_in = await self._states.take(tenant, provider, state, body.get("proof"))
                if sign_in is None or sign_in.redirect not in settings.redirects:
                    raise NotAuthenticated(GONE)
                try:
                    token = await self._log_in(request, tenant, provider, sign_in, fields)
                except FeathersError as error:
                    return {"location": f"{sign_in.redirect}#error={quote(error.message, safe='')}"}
        return {"location": f"{sign_in.redirect}#{urlencode({'access_token': token})}"}

    async def _log_in(
        self, request: web.Request, tenant: Tenant, provider: str, sign_in: SignIn, fields: Fields
    ) -> str:
        if "code" not in fields or "error" in fields:
            # The provider's own words stay out: they would be shown in the name of the app.
            raise NotAuthenticated(CANCELLED if fields.get("error") == "access_denied" else FAILED)
        grant = Grant(
            fields["code"],
            sign_in.verifier,
            self._callback(provider),
            sign_in.nonce,
            fields.get("iss"),
            sign_in.login,
        )
        params = Params(
            tenant=tenant,
            provider="rest",
            address=self._addresses.of(request),
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        data = {"strategy": "oauth", "provider": provider, "link": sign_in.login is not None, GRANT: grant}
        context = await self._app.call("authentication", "create", params, data=data)
        return str(answer(context)["accessToken"])

    async def _provider(self, request: web.Request, tenant: Tenant) -> tuple[str, OAuthSettings]:
        name, settings = request.match_info["provider"], None
        if "oauth" in tenant.auth.strategies:
            settings = await registration_of(tenant, name, self._registrations)
        if settings is None:
            raise NotFound(f"The app '{tenant.id}' has no sign-in by '{name[:32]}'")
        return name, settings

    def _callback(self, provider: str) -> str:
        return self._public_url() + CALLBACK.format(provider=provider)


async def _received(request: web.Request) -> tuple[Mapping[str, Any], Fields]:
    """What the page's script sends: the object, and the fields of the query of the page's address in it.

    Raises:
        BadRequest: it is something else, or a field is there twice.
    """
    raw = await request.content.read(LARGEST + 1)
    while len(raw) <= LARGEST and not request.content.at_eof():
        raw += await request.content.read(LARGEST + 1 - len(raw))
    try:
        body = wire.decode(raw) if len(raw) <= LARGEST else None
        if not isinstance(body, dict) or not isinstance(body.get("search"), str):
            raise ValueError("no search")
        search = body["search"].removeprefix("?")
        pairs = parse_qsl(search, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise BadRequest("This is not what the sign-in page sends") from error
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise BadRequest("The address of the sign-in page has a field twice")
    return body, fields
