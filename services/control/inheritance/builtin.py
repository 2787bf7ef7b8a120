"""The settings that every app has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.setting_keys import Key, PublicTenant, SettingKeys

_ADDRESS: Mapping[str, Any] = {"type": "string", "maxLength": 1008, "pattern": r"^(https://[^\s<>\"'\\]+)?$"}
"""An address of a page, or an empty text for none. Its length is no part of the pattern: `{1,1000}` takes long to compile."""


def builtin_keys() -> SettingKeys:
    """Roost's own keys and transforms; plug-ins add theirs."""
    keys = SettingKeys(
        (
            Key("branding.logo_url", _ADDRESS),
            Key("branding.primary_color", {"type": "string", "pattern": "^#[0-9a-f]{6}$"}, default="#1f6feb"),
            Key("branding.tagline", {"type": "string", "maxLength": 200}, default=""),
            Key("support.url", _ADDRESS),
            Key("support.email", {"type": "string", "maxLength": 254, "format": "email"}),
            Key("links.terms", _ADDRESS),
            Key("links.privacy", _ADDRESS),
            Key("locale.language", {"type": "string", "pattern": "^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"}, default="en"),
            Key("locale.timezone", {"type": "string", "pattern": "^[A-Za-z0-9_+/-]{1,64}$"}, default="UTC"),
            Key("sender_name", {"type": "string", "minLength": 1, "maxLength": 100, "pattern": r"^[^\x00-\x1f\x7f]+$"}),
            Key("custom", {"type": "object", "maxProperties": 100}, default={}),
        )
    )
    keys.transform("app_id", fill_in)
    return keys


def fill_in(key: str, value: Any, tenant: PublicTenant) -> Any:
    """Puts the app's own id where a text, or a text in a list or an object, says `{app_id}`."""
    if isinstance(value, str):
        return value.replace("{app_id}", tenant.app_id)
    if isinstance(value, list):
        return [fill_in(key, item, tenant) for item in value]
    if isinstance(value, Mapping):
        return {name: fill_in(key, item, tenant) for name, item in value.items()}
    return value
