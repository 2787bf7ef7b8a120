"""Providers by whom a tenant's users sign in: what they say of themselves, and what becomes of a code that they have given.

What the RFCs define is built and read by oauthlib; addresses are asked by the one client that may ask what tenants name.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote_plus

import structlog
from oauthlib.common import add_params_to_uri  # type: ignore[import-untyped]
from oauthlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]
from oauthlib.oauth2.rfc6749.parameters import (  # type: ignore[import-untyped]
    parse_token_response,
    prepare_token_request,
)

from hooks.context import Record
from hooks.errors import BadGateway, Forbidden, NotAuthenticated, Unavailable
from hooks.tenant import OAuthSettings, Tenant
from services.authentication.fetched import FetchedDocuments
from services.authentication.foreign import check_times, is_subject, open_token, refusal
from services.authentication.keysets import KeySets

log = structlog.get_logger()

REFUSED = "The sign-in was not accepted: begin again"
MISFITTED = "The identity provider does not accept this app's registration: the app's operator has to look at it"
SORRY = "The identity provider gives no good answer at the moment: try again"
DESCRIPTION = "/.well-known/openid-configuration"

_LONGEST_VALUE = 256
_LONGEST_TOKEN = 8 * 1024
_KNOWN_FAULTS = frozenset(
    "invalid_request invalid_client unauthorized_client unsupported_grant_type invalid_scope".split()
)


class Web(Protocol):
    """Asks addresses that tenants have named."""

    def check(self, url: str) -> None:
        """Raises Forbidden for an address that may not be asked."""
        ...

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> bytes:
        """The body at an address. Raises FeathersError."""
        ...

    async def post(self, url: str, form: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The status and body with which a form is answered. Raises FeathersError."""
        ...


class Kept(Protocol):
    """A secret of a tenant."""

    @property
    def value(self) -> str: ...


class SecretsOf(Protocol):
    """The secrets of tenants, of which the client of a provider is made."""

    async def get(self, app_id: str, name: str) -> Kept | None:
        """The newest value of a name. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a provider."""

    authorization: str
    token: str
    jwks: str | None = None
    """Set where the provider makes ID tokens."""
    client_auth: str = "basic"
    names_itself: bool = False
    """Whether every answer to a sign-in says who gives it (RFC 9207)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a sign-in has brought: a code, and what its receiver must know to use it."""

    code: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str
    nonce: str | None = field(repr=False)
    issuer: str | None = None
    """Who has given the code, as the answer to the sign-in says."""
    login: Mapping[str, Any] | None = None
    """The claims of the login that has begun the sign-in, in order to be linked."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a provider has named."""

    issuer: str
    subject: str
    profile: Record


class Providers:
    """The factory of clients: only here does a secret meet what it is for."""

    def __init__(
        self, web: Web, key_sets: KeySets, secrets: SecretsOf, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._web = web
        self._key_sets = key_sets
        self._secrets = secrets
        self._clock = clock
        self._descriptions = FetchedDocuments(web.get, parse_description, kind="provider's description", sorry=SORRY)

    async def client(self, tenant: Tenant, settings: OAuthSettings) -> ProviderClient:
        """A client of a provider, as the tenant's declaration and secrets are now.

        Raises:
            Unavailable: what the provider says of itself, or the secret, cannot be had.
        """
        description = await self._describe(settings)
        secret = None
        if settings.secret is not None:
            kept = await self._secrets.get(settings.owner or tenant.id, settings.secret)
            if kept is None:
                log.warning("a sign-in needs a secret that is not set", tenant=tenant.id, secret=settings.secret)
                raise Unavailable(MISFITTED)
            secret = kept.value
        return ProviderClient(settings, description, self._web, self._key_sets, self._clock, secret)

    async def _describe(self, settings: OAuthSettings) -> Description:
        if settings.endpoints is not None:
            return Description(settings.endpoints.authorization, settings.endpoints.token, client_auth="post")
        return await self._descriptions.find(f"{(settings.issuer or '').rstrip('/')}{DESCRIPTION}")


@dataclass(frozen=True, slots=True)
class ProviderClient:
    """A client of one provider, for one tenant."""

    settings: OAuthSettings
    description: Description
    _web: Web
    _key_sets: KeySets
    _clock: Callable[[], float]
    _secret: str | None = field(repr=False)

    def address(self, *, state: str, challenge: str, nonce: str, redirect_uri: str) -> str:
        """Where a browser signs in (RFC 6749 4.1.1, RFC 7636, OpenID Connect 3.1.2.1).

        Raises:
            Unavailable: the provider names an address that is not a public one over https.
        """
        try:
            self._web.check(self.description.authorization)
        except Forbidden as error:
            raise Unavailable(MISFITTED) from error
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.settings.scopes),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "nonce": nonce if self.description.jwks else "",
        }
        address: str = add_params_to_uri(
            self.description.authorization, [(name, value) for name, value in asked.items() if value]
        )
        return address

    async def identify(self, grant: Grant) -> Person:
        """Whom the provider names for a code.

        Raises:
            NotAuthenticated: the code, or what is given for it, is not what it should be. Unavailable: the provider gives
                no good answer, or does not take the app for whom it says it is.
        """
        issuer = self.settings.issuer
        if issuer is not None and grant.issuer != issuer and (grant.issuer or self.description.names_itself):
            # The code is another provider's, and must not be shown to this one (mix-up).
            raise NotAuthenticated(REFUSED)
        tokens = await self._exchange(grant)
        if issuer is None:
            return await self._ask(tokens)
        try:
            claims = await self._verify(tokens.get("id_token"), grant.nonce)
        except NotAuthenticated as error:
            raise NotAuthenticated(REFUSED) from error
        return Person(issuer, claims["sub"], self._profile(claims))

    async def _exchange(self, grant: Grant) -> Mapping[str, Any]:
        """What the provider gives for a code (RFC 6749 4.1.3)."""
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        own: dict[str, str] = {"client_id": self.settings.client_id}
        if self._secret is not None and (self.settings.client_auth or self.description.client_auth) == "basic":
            named = f"{quote_plus(self.settings.client_id)}:{quote_plus(self._secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(named.encode()).decode()}"
            own = {}
        elif self._secret is not None:
            own["client_secret"] = self._secret
        form = prepare_token_request(
            "authorization_code",
            code=grant.code,
            redirect_uri=grant.redirect_uri,
            code_verifier=grant.verifier,
            **own,
        )
        try:
            status, body = await self._web.post(self.description.token, form, headers)
        except (BadGateway, Forbidden) as error:
            raise Unavailable(SORRY) from error
        if status >= 500:
            raise Unavailable(SORRY)
        return _read_tokens(body)

    async def _verify(self, token: object, nonce: str | None) -> dict[str, Any]:
        """The claims of an ID token that is for this client, this sign-in and now (OpenID Connect 3.1.3.7)."""
        url = self.description.jwks or ""
        claims = await open_token(token, lambda kid: self._key_sets.find(url, kid))
        check_times(claims, self._clock())
        audience, own = claims.get("aud"), self.settings.client_id
        right = (
            claims.get("iss") == self.settings.issuer
            and (audience == own or (isinstance(audience, list) and own in audience))
            and (claims.get("azp") == own or ("azp" not in claims and audience in (own, [own])))
            and claims.get("nonce") == nonce
            and is_subject(claims.get("sub"))
        )
        if not right:
            raise refusal()
        return claims

    async def _ask(self, tokens: Mapping[str, Any]) -> Person:
        """Who an access token belongs to, where the provider makes no ID tokens."""
        token, endpoints = tokens.get("access_token"), self.settings.endpoints
        if endpoints is None or not isinstance(token, str) or not _is_plain(token):
            raise Unavailable(SORRY)
        try:
            body = await self._web.get(
                endpoints.userinfo, {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            )
            claims = json.loads(body)
        except (BadGateway, Forbidden, ValueError, RecursionError) as error:
            raise Unavailable(SORRY) from error
        subject = claims.get(endpoints.subject) if isinstance(claims, dict) else None
        if isinstance(subject, int) and not isinstance(subject, bool):
            subject = str(subject)
        if not is_subject(subject):
            raise Unavailable(SORRY)
        # Two providers can call two people the same: the address says which of them speaks.
        return Person(endpoints.userinfo, subject, self._profile(claims))

    def _profile(self, claims: Mapping[str, Any]) -> Record:
        """What a new user gets. An e-mail address that the provider has not confirmed is anybody's claim."""
        found = {name: claims.get(claim) for name, claim in self.settings.profile.items() if _is_told(claim, claims)}
        return {name: value for name, value in found.items() if _is_plain_value(value)}


def parse_description(url: str, document: object) -> Description:
    """What a provider says of itself (OpenID Connect Discovery).

    Raises:
        ValueError: it is no such document, or that of another issuer than the one at whose address it is.
    """
    if not isinstance(document, dict):
        raise ValueError("a provider's description is an object")
    issuer = document.get("issuer")
    if not isinstance(issuer, str) or f"{issuer.rstrip('/')}{DESCRIPTION}" != url:
        raise ValueError("the description is another issuer's")
    named = [document.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    if not all(isinstance(address, str) and address for address in named):
        raise ValueError("the description does not name the endpoints")
    authorization, token, jwks = map(str, named)
    methods = document.get("token_endpoint_auth_methods_supported")
    is_post = isinstance(methods, list) and "client_secret_post" in methods and "client_secret_basic" not in methods
    return Description(
        authorization,
        token,
        jwks,
        client_auth="post" if is_post else "basic",
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _read_tokens(body: bytes) -> Mapping[str, Any]:
    """The answer of a token endpoint (RFC 6749 5). Of what is wrong only words of the standard reach the log."""
    try:
        tokens: Mapping[str, Any] = parse_token_response(body.decode())
    except OAuth2Error as error:
        if error.error == "invalid_grant":
            raise NotAuthenticated(REFUSED) from None
        is_known = isinstance(error.error, str) and error.error in _KNOWN_FAULTS
        log.warning("a provider refused to exchange a code", fault=error.error if is_known else "another one")
        raise Unavailable(MISFITTED if is_known else SORRY) from None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, Warning):
        raise Unavailable(SORRY) from None
    return tokens


def _is_told(claim: str, claims: Mapping[str, Any]) -> bool:
    return claim != "email" or claims.get("email_verified") is True


def _is_plain(token: str) -> bool:
    return 0 < len(token) <= _LONGEST_TOKEN and token.isascii() and token.isprintable() and " " not in token


def _is_plain_value(value: object) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= _LONGEST_VALUE and value.isprintable()
    return isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53)
