"""Strategies of connections: which options each of them knows, and which of those stay with their owner.

A strategy is an allow-list. An option that is not listed is refused, and one that is listed below `bundle` or `secrets` never
leaves its tenant: whoever adds an option says at once where it belongs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hooks.errors import BadRequest
from hooks.schema import Schema
from services.redirects import parse_target

_TEXT: Mapping[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}
_ADDRESS: Mapping[str, Any] = {"type": "string", "minLength": 1, "maxLength": 1024}
_WAY: Mapping[str, Any] = {"enum": ["basic", "post"]}
OPEN: Final[Mapping[str, Mapping[str, Any]]] = {
    "scopes": {"type": "array", "maxItems": 50, "uniqueItems": True, "items": _TEXT},
    "prompt": {"enum": ["none", "login", "consent", "select_account"]},
    "profile": {"type": "object", "maxProperties": 20, "additionalProperties": _TEXT},
    "extra_scopes": {"type": "boolean", "description": "Whether an override may ask for further scopes."},
}
"""Options that say how a sign-in looks, and nothing of who answers for it: these are copied into other tenants."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way of signing in elsewhere."""

    bundle: Mapping[str, Mapping[str, Any]]
    """Options that belong together with the secrets: all of them come from one owner, and none is ever copied (RF-6)."""
    addresses: frozenset[str] = frozenset()
    """Those of them that are addresses to which the server connects or sends people."""
    open: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: OPEN)
    secrets: frozenset[str] = frozenset({"client_secret"})


_CLIENT: Mapping[str, Mapping[str, Any]] = {"client_id": _TEXT, "client_auth": _WAY}
STRATEGIES: Final[Mapping[str, Strategy]] = {
    "oidc": Strategy({**_CLIENT, "issuer": _ADDRESS}, frozenset({"issuer"})),
    "oauth2": Strategy(
        {**_CLIENT, **dict.fromkeys(("authorization", "token", "userinfo"), _ADDRESS), "subject": _TEXT},
        frozenset({"authorization", "token", "userinfo"}),
    ),
    "google": Strategy(_CLIENT),
    "github": Strategy(_CLIENT),
    "microsoft": Strategy({**_CLIENT, "directory": _TEXT}),
}
_SCHEMAS: Final = {
    name: Schema({**strategy.bundle, **strategy.open, "additionalProperties": False})
    for name, strategy in STRATEGIES.items()
}


def check_options(strategy: str, options: Mapping[str, Any]) -> None:
    """Lets through options that the strategy knows.

    Raises:
        BadRequest: one that it does not know, or a value that is none; `errors` names each. No value is repeated.
    """
    faults = _SCHEMAS[strategy].check(options, whole=True)
    if faults:
        raise BadRequest(f"The options are none of a connection by '{strategy}'", errors=[*faults])
    for name in sorted(STRATEGIES[strategy].addresses & options.keys()):
        try:
            parse_target(options[name])
        except ValueError as error:
            raise BadRequest(f"options: '{name}' {error}") from error


def check_secret_names(strategy: str, names: Mapping[str, Any]) -> None:
    """Lets through secrets that the strategy has.

    Raises:
        BadRequest: one that it has not.
    """
    for name in names:
        if name not in STRATEGIES[strategy].secrets:
            raise BadRequest(f"A connection by '{strategy}' has no secret '{name[:64]}'")
