"""How a tenant declares its ways of logging in."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.tenant import AuthSettings, ExternalSettings
from services.declaration import RESERVED_COLLECTIONS, RESERVED_PATHS, DeclarationError, auth_settings, check

EXTERNAL = {"issuer": "https://idp.example", "audience": "roost", "tenant_value": "t1"}


def stored(auth: Any) -> AuthSettings:
    """The settings of a tenant that is declared, kept in the catalogue and read again."""
    return auth_settings(check({"tenants": [{"id": "acme", "auth": auth}]}).tenants[0].stored()["auth"])


def test_what_is_not_said_is_as_it_always_was() -> None:
    assert stored({}) == AuthSettings() == auth_settings({}) == auth_settings({"username_field": "username"})
    assert "anonymous" not in AuthSettings().strategies


def test_what_is_said_is_kept() -> None:
    url = "https://idp.example/keys"
    auth = {
        "strategies": ["local", "anonymous"],
        "access_token_lifetime": 600,
        "refresh_token_lifetime": 3600,
        "external": {**EXTERNAL, "jwks_url": url, "tenant_claim": "org"},
    }
    assert stored(auth) == AuthSettings(
        strategies=("local", "anonymous"),
        access_token_lifetime=600,
        refresh_token_lifetime=3600,
        external=ExternalSettings("https://idp.example", "roost", jwks_url=url, tenant_claim="org", tenant_value="t1"),
    )


@pytest.mark.parametrize(
    "auth",
    [
        {"strategies": ["magic"]},
        {"strategies": "local"},
        {"access_token_lifetime": 9},
        {"access_token_lifetime": "600"},
        {"refresh_token_lifetime": 0},
        {"external": {}},
        {"external": EXTERNAL},
        {"external": {**EXTERNAL, "jwks_url": "https://idp.example", "jwks": {"keys": []}}},
        {"external": {**EXTERNAL, "jwks_url": "file:///etc/passwd"}},
        {"external": {**EXTERNAL, "jwks_url": "https://idp.example", "tenant_value": ""}},
        {"external": {name: value for name, value in EXTERNAL.items() if name != "tenant_value"}},
    ],
)
def test_what_is_wrong_is_named(auth: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        check({"tenants": [{"id": "acme", "auth": auth}]})
    assert all(mistake.startswith("tenants[0].auth") for mistake in caught.value.mistakes)


@pytest.mark.parametrize("name", ["sessions", "api-keys"])
def test_paths_of_roost_are_not_declared(name: str) -> None:
    assert name in RESERVED_PATHS
    with pytest.raises(DeclarationError, match="is a path of Roost itself"):
        check({"tenants": [{"id": "acme", "services": {name: {}}}]})


@pytest.mark.parametrize("name", ["users", "sessions", "api_keys", "identities"])
def test_collections_of_roost_are_not_declared(name: str) -> None:
    assert name in RESERVED_COLLECTIONS
    with pytest.raises(DeclarationError, match="is a collection of Roost itself"):
        check({"tenants": [{"id": "acme", "services": {"things": {"collection": name}}}]})
