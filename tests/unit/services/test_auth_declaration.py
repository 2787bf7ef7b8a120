"""What an app may say of its accounts in the declarative file, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.tenant import AuthSettings, EmailSettings, PasswordSettings
from services.declaration import AuthDeclaration, DeclarationError, auth_settings, check


def declared(auth: dict[str, Any]) -> AuthDeclaration:
    return check({"tenants": [{"id": "acme", "auth": auth}]}).tenants[0].auth


def test_what_is_declared_comes_back_from_the_catalogue() -> None:
    template = {"subject": "Hi {name}", "text": "{link}", "html": None}
    email = {"from_name": "Acme", "url": "https://a.example/#/x", "templates": {"verify": template}}
    auth = declared({"enumeration": "protected", "password": {"min": 12}, "email": email})
    settings = auth_settings(auth.model_dump(mode="json"))
    assert settings == AuthSettings(
        enumeration="protected",
        password=PasswordSettings(12, 128),
        email=EmailSettings("Acme", "https://a.example/#/x", {"verify": template}),
    )
    assert settings.protected
    assert settings.must_verify


def test_without_a_word_all_is_as_it_was() -> None:
    settings = auth_settings({})
    assert not settings.protected
    assert not settings.must_verify
    assert settings.password == PasswordSettings(8, 128)
    assert auth_settings({"require_verified": True}).must_verify


@pytest.mark.parametrize(
    ("auth", "mistake"),
    [
        ({"enumeration": "closed"}, "enumeration"),
        ({"require_verified": "yes"}, "require_verified"),
        ({"password": {"min": 7}}, "password.min"),
        ({"password": {"min": 65}}, "password.min"),
        ({"password": {"max": 20}}, "password.max"),
        ({"password": {"max": 129}}, "password.max"),
        ({"password": {"digits": 1}}, "password.digits: is not a known key"),
        ({"email": {"url": "http://a.example"}}, "email.url: must be an https address"),
        ({"email": {"url": "javascript:alert(1)"}}, "email.url"),
        ({"email": {"from_name": "a\r\nBcc: b@c.example"}}, "email.from_name: must be one line"),
        ({"email": {"templates": {"welcome": {"subject": "s", "text": "t"}}}}, "email.templates.welcome"),
        ({"email": {"templates": {"verify": {"subject": "s", "text": "t"}}}}, "verify: text: must contain"),
        ({"email": {"templates": {"taken": {"subject": "s\ns", "text": "t"}}}}, "taken: subject: must be one line"),
        ({"email": {"templates": {"taken": {"subject": "s", "text": "{user}"}}}}, r"taken: '{user}' is none of"),
    ],
)
def test_mistakes_are_told_by_their_place(auth: dict[str, Any], mistake: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declared(auth)
    assert mistake in str(caught.value)
    assert str(caught.value).startswith("tenants[0].auth.")


def test_the_path_and_the_collection_are_not_free() -> None:
    with pytest.raises(DeclarationError, match="'accounts' is a path of Roost itself"):
        check({"tenants": [{"id": "acme", "services": {"accounts": {}}}]})
    with pytest.raises(DeclarationError, match="'account_tokens' is a collection of Roost itself"):
        check({"tenants": [{"id": "acme", "services": {"x": {"collection": "account_tokens"}}}]})
