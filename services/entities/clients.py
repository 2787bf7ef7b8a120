"""The clients service: front-ends of a tenant, and the addresses to which they may be sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from hooks.context import HookContext
from hooks.errors import BadRequest
from hooks.rules import Rule
from services.entities.registry import CLIENTS
from services.entities.service import METADATA, EntityService, entity_hooks
from services.isolation import Isolation
from services.registration import HooksByKind

RULES: Mapping[str, Rule] = {
    verb: {"permission": f"{word}:clients"}
    for verb, word in {
        "find": "read",
        "get": "read",
        "create": "create",
        "update": "update",
        "patch": "update",
        "remove": "delete",
    }.items()
}
LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
"""Hosts to which plain http may lead: this very machine."""
_URLS: Mapping[str, Any] = {
    "type": "array",
    "maxItems": 100,
    "uniqueItems": True,
    "items": {"type": "string", "minLength": 1, "maxLength": 1024},
}
ADDRESSES: Final = ("callbacks", "allowed_logout_urls")
"""Lists of addresses of pages."""
ORIGINS: Final = ("web_origins", "allowed_origins")
"""Lists of origins: scheme, host and port."""
DECLARED: Mapping[str, Any] = {
    "name": {"type": "string", "required": True},
    "description": {"type": "string", "maxLength": 500},
    **dict.fromkeys((*ADDRESSES, *ORIGINS), _URLS),
    "shared": {**_URLS, "description": "Which of them other apps may use as well; only the control plane's are."},
    "metadata": METADATA,
}


class ClientsService(EntityService):
    """Clients `{_id, name, callbacks, web_origins, allowed_logout_urls, allowed_origins, metadata}`."""

    def __init__(self, isolation: Isolation) -> None:
        super().__init__(isolation, CLIENTS, DECLARED)

    def hooks(self) -> HooksByKind:
        """The service's hooks."""
        checks = [_check_urls]
        return entity_hooks(self, canonical=("name",), unique="name", create=checks, update=checks, patch=checks)


def check_address(url: str) -> None:
    """Lets through the address of a page: https, or http on this very machine, exactly as it will be compared.

    Raises:
        ValueError: it is none, has a wildcard, a fragment, a user or characters that could be read in two ways.
    """
    parts = _parsed(url)
    if parts.fragment or "#" in url or parts.path.startswith("//"):
        raise ValueError("must have no fragment")


def check_origin(url: str) -> None:
    """Lets through an origin.

    Raises:
        ValueError: it is none.
    """
    parts = _parsed(url)
    if url != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("must be scheme://host or scheme://host:port")


def _parsed(url: str) -> Any:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("must be an address such as https://app.example.com/callback") from error
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or "*" in url or "@" in parts.netloc:
        raise ValueError("must be plain: no wildcard, no user, no spaces")
    if (
        not host
        or parts.netloc != parts.netloc.lower()
        or not (parts.scheme == "https" or (parts.scheme == "http" and host in LOCAL))
    ):
        raise ValueError("must be https, or http on localhost, with its host in lower case")
    return parts


def _check_urls(context: HookContext) -> None:
    checks: dict[str, Callable[[str], None]] = {
        **dict.fromkeys(ADDRESSES, check_address),
        **dict.fromkeys(ORIGINS, check_origin),
    }
    for field, check in checks.items():
        for index, url in enumerate(context.data.get(field, ())):
            try:
                check(url)
            except ValueError as error:
                raise BadRequest(f"{field}: the address {index + 1} {error}") from error
