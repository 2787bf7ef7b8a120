"""How the users of a tenant log in, in the declarative file: strategies, passwords, mails, identity providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from hooks.tenant import AuthSettings, EmailSettings, ExternalSettings, PasswordSettings
from services.declaration.model import Strict, as_tuple
from services.declaration.oauth import OAuthDeclaration, ProviderName
from services.mail.templates import Kind, Template, check_page, check_template, one_line

Strategy = Literal["local", "jwt", "refresh", "anonymous", "api_key", "external", "oauth"]


class ExternalDeclaration(Strict):
    """An identity provider whose tokens log in: its keys are given here, or fetched from where it publishes them."""

    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    audience: Annotated[str, Field(min_length=1, max_length=512)]
    jwks_url: Annotated[str, Field(max_length=2048)] | None = None
    jwks: dict[str, Any] | None = None
    tenant_claim: Annotated[str, Field(min_length=1, max_length=128)] = "tid"
    tenant_value: Annotated[str, Field(min_length=1, max_length=512)]

    @model_validator(mode="after")
    def _check_keys(self) -> ExternalDeclaration:
        if (self.jwks_url is None) == (self.jwks is None):
            raise ValueError("needs either jwks_url or jwks")
        if self.jwks_url is not None and urlsplit(self.jwks_url).scheme not in ("https", "http"):
            raise ValueError("jwks_url must be an https address")
        return self


class PasswordDeclaration(Strict):
    """How many characters a new password has. Only the least may be raised much: long ones are never refused."""

    min: Annotated[int, Field(ge=8, le=64)] = 8
    max: Annotated[int, Field(ge=64, le=128)] = 128


class TemplateDeclaration(Strict):
    """A mail of the tenant's own wording, with the placeholders of `services/mail/templates.py`."""

    subject: Annotated[str, Field(max_length=200)]
    text: Annotated[str, Field(min_length=1, max_length=20_000)]
    html: Annotated[str, Field(min_length=1, max_length=100_000)] | None = None


class EmailDeclaration(Strict):
    """The mails that the tenant's users get."""

    from_name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    url: Annotated[str, AfterValidator(check_page)] | None = None
    templates: dict[Kind, TemplateDeclaration] = {}

    @field_validator("from_name")
    @classmethod
    def _check_from_name(cls, name: str | None) -> str | None:
        if name is not None and name != one_line(name, 64):
            raise ValueError("must be one line without control characters")
        return name

    @field_validator("templates")
    @classmethod
    def _check_templates(cls, declared: dict[Kind, TemplateDeclaration]) -> dict[Kind, TemplateDeclaration]:
        for kind, template in declared.items():
            try:
                check_template(kind, Template(**template.model_dump()))
            except ValueError as error:
                raise ValueError(f"{kind}: {error}") from error
        return declared


class AuthDeclaration(Strict):
    """How the tenant's users log in."""

    username_field: Literal["username", "email"] = "username"
    strategies: tuple[Strategy, ...] = ("local", "jwt", "refresh", "api_key", "external", "oauth")
    """Which of Roost's own ways of logging in there are."""
    access_token_lifetime: Annotated[int, Field(ge=10, le=31_536_000)] | None = None
    refresh_token_lifetime: Annotated[int, Field(ge=60, le=31_536_000)] = 30 * 24 * 60 * 60
    external: ExternalDeclaration | None = None
    oauth: Annotated[dict[ProviderName, OAuthDeclaration], Field(max_length=20)] = {}
    """Providers by whom users sign in, by the name under which clients ask for them."""
    enumeration: Literal["open", "protected"] = "open"
    """Whether a sign-up tells that a name is taken. `protected` tells nobody, and implies `require_verified`."""
    require_verified: bool = False
    """Whether a password logs in only after the user's e-mail address was confirmed."""
    password: PasswordDeclaration = PasswordDeclaration()
    email: EmailDeclaration = EmailDeclaration()
    inherit_global_permissions_in_organizations: bool = False
    """Whether who acts in an organization keeps the permissions that he has everywhere."""

    @field_validator("strategies", mode="before")
    @classmethod
    def _accept_list(cls, strategies: Any) -> Any:
        return as_tuple(strategies)


def auth_settings(stored: Mapping[str, Any]) -> AuthSettings:
    """A tenant's authentication out of the catalogue."""
    declared = AuthDeclaration.model_validate(stored)
    external = None if declared.external is None else ExternalSettings(**declared.external.model_dump())
    nested = {"external", "oauth", "password", "email"}
    plain = {name: getattr(declared, name) for name in AuthDeclaration.model_fields if name not in nested}
    password, email = PasswordSettings(**declared.password.model_dump()), EmailSettings(**declared.email.model_dump())
    oauth = {name: provider.settings() for name, provider in declared.oauth.items()}
    return AuthSettings(**plain, external=external, oauth=oauth, password=password, email=email)
