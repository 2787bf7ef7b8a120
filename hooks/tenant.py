"""A tenant: the app that is hosted, as an immutable snapshot of its catalogue entry; and the current-tenant scope."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

TENANT_ID = re.compile(r"[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])")
"""Lower case letters, digits and inner hyphens; 3 to 63 characters."""
RESERVED_IDS = frozenset(
    "www api admin app auth login id sso mail smtp mx ns ftp cdn static assets status docs blog dev test staging demo "
    "support billing root localhost _dmarc control-plane".split()
)
"""Ids that no new tenant gets: as host names they would be taken for the server's own."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a tenant's data is kept: the isolation model, the cluster's name and the database's name."""

    model: str = "shared"
    cluster: str = "default"
    database: str = "roost"
    credentials_ref: str | None = None
    """The name of the tenant's secret that opens it: a connection string, or a user of the database."""
    region: str | None = None


@dataclass(frozen=True, slots=True)
class ExternalSettings:
    """An identity provider whose tokens are taken as a proof of who somebody is."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    jwks: Mapping[str, Any] | None = None
    """The provider's public keys, `{keys: [JWK, ...]}`; without them they are fetched from `jwks_url`."""
    tenant_claim: str = "tid"
    tenant_value: str = ""
    """What the claim must say: tokens that the provider made for others are none for this app."""


@dataclass(frozen=True, slots=True)
class OAuthEndpoints:
    """Where a provider that publishes no description of itself is asked."""

    authorization: str
    token: str
    userinfo: str
    subject: str = "id"
    """Which field of the answer of `userinfo` tells who somebody is."""


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """A provider by whom users sign in: with an `issuer`, whose description is looked up, or with `endpoints`."""

    client_id: str
    redirects: tuple[str, ...]
    """The app's own pages to which a sign-in may lead. The first is where it leads without a word."""
    issuer: str | None = None
    endpoints: OAuthEndpoints | None = None
    secret: str | None = None
    """The name of the client secret among the tenant's secrets; None for a client that has none."""
    scopes: tuple[str, ...] = ()
    client_auth: str | None = None
    """How the secret is shown, `basic` or `post`; None is as the provider says."""
    profile: Mapping[str, str] = field(default_factory=dict)
    """Fields that a new user gets, and the provider's names for them."""
    owner: str | None = None
    """The tenant whose secret it is; None is the one who signs in."""


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    """How many characters a new password may have."""

    min: int = 8
    max: int = 128


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """The mails that a tenant's users get."""

    from_name: str | None = None
    """Whose name stands before the sender's address; None is the tenant's own."""
    url: str | None = None
    """The app's page for links in mails; without one a mail carries the bare code."""
    templates: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """`{subject, text, html}` by kind of mail, in place of the built-in ones."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How users of the tenant log in."""

    username_field: str = "username"
    strategies: tuple[str, ...] = ("local", "jwt", "refresh", "api_key", "external", "oauth")
    """Those of Roost's own ways of logging in that there are; each needs what it is about to be there as well."""
    access_token_lifetime: int | None = None
    """Seconds; None is the server's own setting."""
    refresh_token_lifetime: int = 30 * 24 * 60 * 60
    """Seconds for which a refresh token that is not used can still be."""
    external: ExternalSettings | None = None
    oauth: Mapping[str, OAuthSettings] = field(default_factory=dict)
    """Providers by the name under which clients ask for them."""
    enumeration: str = "open"
    """`open` tells who signs up that a name is taken; `protected` tells nobody who has an account."""
    require_verified: bool = False
    password: PasswordSettings = PasswordSettings()
    email: EmailSettings = EmailSettings()
    inherit_global_permissions_in_organizations: bool = False
    """Whether who acts in an organization keeps the permissions that he has everywhere."""

    @property
    def protected(self) -> bool:
        """Whether no answer may tell who has an account."""
        return self.enumeration == "protected"

    @property
    def must_verify(self) -> bool:
        """Whether a password logs in only after the address was confirmed.

        Protected tenants always ask for it: a login right after a sign-up would tell whether the name was free.
        """
        return self.require_verified or self.protected


STATES = ("provisioning", "ready", "suspended", "migrating", "deleting", "deleted", "failed")
"""What a tenant's `status` says."""
SERVING = ("ready", "migrating")
"""The states in which a tenant is served, when its switch `is_active` is on."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` in `seconds`; so many at once after a rest."""

    limit: int
    seconds: float = 1.0

    @property
    def per_second(self) -> float:
        """How many become free in a second."""
        return self.limit / self.seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the server a tenant may take."""

    max_concurrent_connections: int | None = None
    """Sockets at once over all processes; 0 is none at all, None is what the tenant's plan says."""
    enforce: str = "refuse"
    """`refuse` turns further sockets away; `evict_oldest` closes the oldest ones when the limit is lowered."""
    rates: Mapping[str, Mapping[str, Rate]] = field(default_factory=dict)
    """By kind (`connect event http auth write broadcast search`), and by whom they are counted: `tenant`, `user`, `address`."""
    quotas: Mapping[str, int] = field(default_factory=dict)
    """Units of a month: `calls`, `writes`."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One hosted app. Changes make a new snapshot with a higher epoch; calls keep the one they started with."""

    id: str
    name: str
    status: str = "ready"
    epoch: int = 1
    allowed_origins: frozenset[str] = frozenset()
    auth: AuthSettings = AuthSettings()
    placement: Placement = Placement()
    leftover: Placement | None = None
    """Where data of the tenant is besides: what a move that is not finalized has left, or has begun to make."""
    frozen: bool = False
    """Whether the data is on its way to another placement and cannot be written for a moment."""
    services: Mapping[str, Any] = field(default_factory=dict)
    """The declared services by path, as `services/declaration` understands them."""
    is_control_plane: bool = False
    """Whether this is the one tenant whose users manage the others."""
    public_keys: tuple[str, ...] = ()
    """What front ends may name the app by instead of its id, the newest first. They are no secrets and grant nothing."""
    is_active: bool = True
    """The switch by which an operator takes the app out of service without touching its state."""
    require_origin: bool = False
    """Whether requests without an `Origin`, which are no browser's, need a verified token."""
    limits: Limits = Limits()
    plan: str = "default"
    region: str | None = None
    sync_exclude: tuple[str, ...] = ()
    """Entities that the control plane does not copy to this tenant."""
    settings_rev: int = 0
    """Counts the changes of the settings, as `epoch` counts those of anything."""
    inheritance: Mapping[str, Any] = field(default_factory=dict)
    """Which settings come from the control plane, as far as it is said: see `services/control/inheritance/selection.py`."""
    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By kind: which services elsewhere the tenant uses, without their secrets; see `services/control/providers.py`."""

    @property
    def is_serving(self) -> bool:
        """Whether calls and handshakes are taken; they are while the data is moved, writes for a moment aside."""
        return self.status in SERVING and self.is_active


_current: ContextVar[Tenant] = ContextVar("roost_tenant")


class tenant_scope:  # noqa: N801
    """`with tenant_scope(tenant)` makes it the current one for logs, traces and background work until the block ends."""

    # Every call passes here: a generator would take four times as long.
    __slots__ = ("_tenant", "_token")

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def __enter__(self) -> Tenant:
        self._token = _current.set(self._tenant)
        return self._tenant

    def __exit__(self, *error: object) -> None:
        _current.reset(self._token)


def current_tenant() -> Tenant:
    """The tenant of this task. There is no default tenant.

    Raises:
        LookupError: outside of any `tenant_scope`.
    """
    return _current.get()
