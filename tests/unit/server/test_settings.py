"""Settings come from `ROOST_` variables; what is unknown or invalid stops the start by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.settings import Settings, SettingsError, load
from services.declaration.placement import PlacementDeclaration


def test_defaults_are_for_development() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.data) == ("127.0.0.1", 3030, Path("data"))
    assert settings.mongodb_uri is None


def test_variables_are_read_and_options_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_PORT", "4040")
    monkeypatch.setenv("ROOST_HOST", "0.0.0.0")
    monkeypatch.setenv("ROOST_MODULES", " one.module, two ,,")
    assert load().port == 4040
    settings = load({"port": 5050, "host": None})
    assert (settings.port, settings.host, settings.modules) == (5050, "0.0.0.0", ("one.module", "two"))


@pytest.mark.parametrize(
    ("value", "placed"),
    [
        ("database", PlacementDeclaration(model="database")),
        ('{"model": "database", "cluster": "eu"}', PlacementDeclaration(model="database", cluster="eu")),
        ('{"model": "cluster", "uri_env": "FAR"}', PlacementDeclaration(model="cluster", uri_env="FAR")),
    ],
)
def test_the_place_of_new_apps_is_a_model_or_an_object(
    monkeypatch: pytest.MonkeyPatch, value: str, placed: PlacementDeclaration
) -> None:
    monkeypatch.setenv("ROOST_PLACEMENT", value)
    assert load().placement == placed


def test_an_unknown_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_COLOUR", "red")
    monkeypatch.setenv("ROOST_POTR", "1")
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value).splitlines() == [
        "ROOST_COLOUR: is not a setting of Roost",
        "ROOST_POTR: is not a setting of Roost",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "many"),
        ("PORT", "-1"),
        ("PORT", "70000"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("CREATOR_PERMISSIONS", "delete:tenants"),
        ("CREATOR_PERMISSIONS", ","),
        ("PLACEMENT", "{"),
        ("PLACEMENT", "Shared"),
        ("PLACEMENT", "cluster"),
        ("PLACEMENT", '{"model": "shared", "cluster": "eu"}'),
        ("DATABASE", "a.b"),
        ("DATABASE", ""),
        ("DATABASE", "1"),
        ("DATABASE", "x" * 49),
        ("QUERY_TIME", "0"),
        ("MONGO_POOL", "0"),
        ("MONGO_PATH", "other"),
        ("TOKEN_LIFETIME", "0"),
        ("TOKEN_LIFETIME", "1.5"),
        ("MONGOD_PORT", "0"),
        ("PUBLIC_URL", "api.example.com"),
        ("PUBLIC_URL", "http://api.example.com"),
        ("PUBLIC_URL", "https://api.example.com/path"),
    ],
)
def test_an_invalid_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ROOST_{name}", value)
    with pytest.raises(SettingsError, match=f"^ROOST_{name}: "):
        load()


def test_all_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_PORT", "x")
    monkeypatch.setenv("ROOST_LOG_LEVEL", "y")
    with pytest.raises(SettingsError) as raised:
        load()
    assert len(str(raised.value).splitlines()) == 2


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_MONGODB_URI", "mongodb://user:sesame@localhost/")
    monkeypatch.setenv("ROOST_MASTER_KEY", "open-sesame")
    assert "sesame" not in repr(load())
    assert "sesame" not in str(load().model_dump())


def test_every_setting_is_described() -> None:
    assert all(len(field.description or "") > 10 for field in Settings.model_fields.values())
