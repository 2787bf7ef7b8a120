"""What an app may say of the providers by whom its users sign in."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.tenant import AuthSettings, OAuthEndpoints, OAuthSettings
from services.declaration import RESERVED_COLLECTIONS, RESERVED_PATHS, DeclarationError, auth_settings, check

HOME = "https://app.example/login"
KNOWN: dict[str, Any] = {"issuer": "https://idp.example/t1", "client_id": "roost", "redirects": [HOME]}
ENDPOINTS = {
    "authorization": "https://hub.example/authorize",
    "token": "https://hub.example/token",
    "userinfo": "https://api.hub.example/user",
}


def stored(oauth: dict[str, Any]) -> AuthSettings:
    """The settings of a tenant that is declared, kept in the catalogue and read again."""
    declared = check({"tenants": [{"id": "acme", "auth": {"oauth": oauth}}]})
    return auth_settings(declared.tenants[0].stored()["auth"])


def test_what_is_said_is_kept() -> None:
    hub = {
        "endpoints": ENDPOINTS,
        "client_id": "roost",
        "secret": "hub",
        "scopes": ["read:user"],
        "redirects": [HOME, "http://localhost:5173/"],
        "client_auth": "basic",
        "profile": {"nick": "login"},
    }
    assert stored({"known": KNOWN, "hub": hub}).oauth == {
        "known": OAuthSettings("roost", (HOME,), issuer="https://idp.example/t1", scopes=("openid",)),
        "hub": OAuthSettings(
            "roost",
            (HOME, "http://localhost:5173/"),
            endpoints=OAuthEndpoints(**ENDPOINTS),
            secret="hub",
            scopes=("read:user",),
            client_auth="basic",
            profile={"nick": "login"},
        ),
    }
    assert stored({}).oauth == {}
    assert "oauth" in stored({}).strategies


def test_the_path_and_the_collection_are_not_free() -> None:
    assert "oauth" in RESERVED_PATHS
    assert "oauth_states" in RESERVED_COLLECTIONS


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"issuer": None}, "needs either issuer or endpoints"),
        ({"endpoints": ENDPOINTS}, "needs either issuer or endpoints"),
        ({"issuer": "idp.example"}, "issuer: must be an https address"),
        ({"issuer": "https://u@idp.example"}, "issuer: must be an https address"),
        ({"issuer": "javascript:alert(1)"}, "issuer: must be an https address"),
        ({"issuer": "https://idp.example?x=1"}, "issuer: must be an https address without a query"),
        ({"issuer": "https://[idp"}, "issuer: must be an https address"),
        ({"client_id": ""}, "client_id"),
        ({"client_id": "a\nb"}, "client_id"),
        ({"secret": "s3cret value"}, "secret"),
        ({"client_secret": "x"}, "client_secret: is not a known key"),
        ({"scopes": ["email"]}, "scopes must contain openid"),
        ({"scopes": ["openid email"]}, "must be one word"),
        ({"redirects": []}, "redirects"),
        ({"redirects": ["https://app.example/#x"]}, "redirects[0]: must be an address such as"),
        ({"redirects": ["http://app.example/"]}, "redirects[0]: must be https"),
        ({"redirects": ["https://*.app.example/"]}, "redirects[0]"),
        ({"redirects": ["https://APP.example/"]}, "redirects[0]"),
        ({"redirects": [HOME] * 21}, "redirects"),
        ({"client_auth": "none"}, "client_auth"),
        ({"profile": {"email": "email"}}, "must be a field of users that says nothing about who they are"),
        ({"profile": {"permissions": "groups"}}, "must be a field of users"),
        ({"profile": {"tokens_valid_after": "x"}}, "must be a field of users"),
        ({"profile": {"a.b": "x"}}, "must be a field of users"),
        ({"profile": {"_id": "sub"}}, "must be a field of users"),
    ],
)
def test_mistakes_are_told_by_their_place(changes: dict[str, Any], mistake: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        stored({"known": {name: value for name, value in {**KNOWN, **changes}.items() if value is not None}})
    assert mistake in str(caught.value)
    assert str(caught.value).startswith("tenants[0].auth.oauth.")


@pytest.mark.parametrize("name", ["", "Known", "a b", "a/b", "-a", "x" * 33])
def test_names_of_providers_are_words(name: str) -> None:
    with pytest.raises(DeclarationError):
        stored({name: KNOWN})


def test_providers_are_bounded() -> None:
    with pytest.raises(DeclarationError):
        stored({f"p{number}": KNOWN for number in range(21)})
