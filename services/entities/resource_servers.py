"""The resource-servers service: APIs of a tenant, and the scopes that they define."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hooks.context import HookContext
from hooks.errors import BadRequest
from hooks.rules import Rule
from services.entities.giving import MANAGEMENT_SERVER
from services.entities.records import Entities
from services.entities.registry import RESOURCE_SERVERS
from services.entities.service import METADATA, EntityService, entity_hooks
from services.isolation import Isolation
from services.registration import HooksByKind

RULES: Mapping[str, Rule] = {
    verb: {"permission": f"{word}:resource_servers"}
    for verb, word in {
        "find": "read",
        "get": "read",
        "create": "create",
        "update": "update",
        "patch": "update",
        "remove": "delete",
    }.items()
}
SYSTEM_AUDIENCES: Final = "urn:roost:"
"""How the audiences begin that Roost itself issues tokens for."""
_LONGEST_LIFE: Final = 2_592_000
DECLARED: Mapping[str, Any] = {
    "identifier": {"type": "string", "required": True, "description": "The audience of its tokens; it never changes."},
    "name": {"type": "string", "minLength": 1, "maxLength": 100},
    "scopes": {
        "type": "array",
        "maxItems": 500,
        "items": {
            "type": "object",
            "required": ["value"],
            "properties": {
                "value": {"type": "string", "pattern": r"^[A-Za-z][A-Za-z0-9._:/-]{0,99}$"},
                "description": {"type": "string", "maxLength": 500},
            },
            "additionalProperties": False,
        },
    },
    "signing_alg": {"enum": ["ES256"]},
    "token_lifetime": {"type": "integer", "minimum": 10, "maximum": _LONGEST_LIFE},
    "token_lifetime_for_web": {"type": "integer", "minimum": 10, "maximum": _LONGEST_LIFE},
    "allow_offline_access": {"type": "boolean"},
    "options": {"type": "object", "maxProperties": 50},
    "metadata": METADATA,
}

_IDENTIFIER = re.compile(r"[^\s<>\"'\\]{1,100}")


class ResourceServersService(EntityService):
    """Resource servers `{_id, identifier, name, scopes: [{value, description}], ...}`."""

    def __init__(self, isolation: Isolation, entities: Entities) -> None:
        super().__init__(isolation, RESOURCE_SERVERS, DECLARED, fixed=("identifier",))
        self._entities = entities

    def hooks(self) -> HooksByKind:
        """The service's hooks."""
        return entity_hooks(
            self,
            canonical=("identifier",),
            unique="identifier",
            create=[_check_identifier, _check_scopes],
            update=[_check_scopes],
            patch=[_check_scopes],
        )


def _check_identifier(context: HookContext) -> None:
    identifier = context.data["identifier"]
    if not _IDENTIFIER.fullmatch(identifier):
        raise BadRequest("The identifier must be a text of 1 to 100 characters without spaces and quotes")
    if identifier == MANAGEMENT_SERVER or identifier.startswith(SYSTEM_AUDIENCES):
        raise BadRequest(f"The identifier '{identifier}' is Roost's own")


def _check_scopes(context: HookContext) -> None:
    values = [scope["value"] for scope in context.data.get("scopes", ())]
    if len(set(values)) < len(values):
        raise BadRequest("The scopes name one twice")
