"""Providers by whom a tenant's users sign in, in the declarative file. Secrets are named here, and kept elsewhere."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from hooks.tenant import OAuthEndpoints, OAuthSettings
from services.declaration.model import Strict, as_tuple
from services.redirects import check_target

OWN_ENDPOINTS = frozenset({"authorize", "session", "token"})
"""Below `/oauth` they are Roost's own, and no provider's name."""


def check_provider_name(name: Any) -> Any:
    """A name that a provider may have.

    Raises:
        ValueError: it is that of an address of Roost's own.
    """
    if name in OWN_ENDPOINTS:
        raise ValueError(f"must be none of {', '.join(sorted(OWN_ENDPOINTS))}: /oauth/{name} is Roost's own")
    return name


ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$"), AfterValidator(check_provider_name)]

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_TAKEN = frozenset(
    "app_id username username_key email password verified anonymous roles permissions is_system "
    "tokens_valid_after tokens_kept".split()
)
"""Fields of a user that say who somebody is and what they may: no provider's word gets there."""
_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,128}")


def _check_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("https", "http") and bool(parts.hostname) and not parts.fragment
    except ValueError:
        whole = False
    if not whole or not url.isascii() or not url.isprintable() or " " in url or "@" in parts.netloc:
        raise ValueError("must be an https address")
    return url


def _check_issuer(url: str) -> str:
    if "?" in _check_address(url):
        raise ValueError("must be an https address without a query")
    return url


def _check_scope(scope: str) -> str:
    if not _SCOPE.fullmatch(scope):
        raise ValueError("must be one word, such as openid")
    return scope


Address = Annotated[str, Field(max_length=1024), AfterValidator(_check_address)]
Claim = Annotated[str, Field(min_length=1, max_length=64)]


class EndpointsDeclaration(Strict):
    """Where a provider is asked that publishes no description of itself."""

    authorization: Address
    token: Address
    userinfo: Address
    subject: Claim = "id"


class OAuthDeclaration(Strict):
    """A provider: with an issuer, whose description is looked up (OpenID Connect), or with endpoints (OAuth 2)."""

    issuer: Annotated[str, Field(max_length=512), AfterValidator(_check_issuer)] | None = None
    endpoints: EndpointsDeclaration | None = None
    client_id: Annotated[str, Field(max_length=512, pattern=r"^[\x20-\x7E]+$")]
    secret: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$")] | None = None
    """The name under which `python -m server secrets set` keeps the client secret."""
    scopes: Annotated[tuple[Annotated[str, AfterValidator(_check_scope)], ...], Field(max_length=32)] | None = None
    """Without a word `openid` where there is an issuer, and none where there is not."""
    redirects: Annotated[tuple[Annotated[str, AfterValidator(check_target)], ...], Field(min_length=1, max_length=20)]
    client_auth: Literal["basic", "post"] | None = None
    profile: Annotated[dict[str, Claim], Field(max_length=16)] = {}
    """What a new user gets: fields of users, and the provider's names for them."""

    @field_validator("scopes", "redirects", mode="before")
    @classmethod
    def _accept_lists(cls, value: Any) -> Any:
        return as_tuple(value)

    @field_validator("profile")
    @classmethod
    def _check_profile(cls, profile: dict[str, str]) -> dict[str, str]:
        for name in profile:
            if not _FIELD.fullmatch(name) or name in _TAKEN:
                raise ValueError(
                    f"'{name}' must be a field of users that says nothing about who they are or what they may"
                )
        return profile

    @model_validator(mode="after")
    def _check_whole(self) -> OAuthDeclaration:
        if (self.issuer is None) == (self.endpoints is None):
            raise ValueError("needs either issuer or endpoints")
        if self.issuer is not None and self.scopes is not None and "openid" not in self.scopes:
            raise ValueError("scopes must contain openid: without it the provider does not say who somebody is")
        return self

    def settings(self) -> OAuthSettings:
        """The provider as logins need it."""
        plain = self.model_dump(exclude={"endpoints", "scopes"})
        endpoints = None if self.endpoints is None else OAuthEndpoints(**self.endpoints.model_dump())
        usual = () if self.issuer is None else ("openid",)
        return OAuthSettings(**plain, endpoints=endpoints, scopes=usual if self.scopes is None else self.scopes)
