"""The api-keys service: administrators of an app make, list and revoke the keys of other servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Params, Record
from hooks.errors import BadRequest, Forbidden
from hooks.permission import MANAGEMENT
from hooks.scopes import PRINCIPAL_PREFIX
from services.authentication.api_keys import LONGEST_LIFE, LONGEST_NAME, MOST_SCOPES, ApiKeys
from services.authentication.directory import Directory
from services.base import Service
from services.entities.giving import check_giving

PATH = "api-keys"
ADMIN = "admin"
"""The permission that managing keys needs. Clients cannot write permissions: the command line grants them."""
API_KEYS_RULES: Mapping[str, str] = {"find": "authenticated", "create": "authenticated", "remove": "authenticated"}


class ApiKeysService(Service):
    """Keys as `{_id, name, scopes, created_by, created_at, expires_at, last_use}`; a new one has `key`, this once."""

    data_schema: Mapping[str, Any] = {
        "name": {"type": "string", "required": True, "minLength": 1, "maxLength": LONGEST_NAME},
        "scopes": {
            "type": "array",
            "required": True,
            "items": {"type": "string", "examples": ["messages:find"]},
            "minItems": 1,
            "maxItems": MOST_SCOPES,
            "description": "Each is `<service>:<method>`, or `*`.",
        },
        "expires_in": {"type": "number", "minimum": 1, "maximum": LONGEST_LIFE, "description": "Seconds."},
        "additionalProperties": False,
    }
    schema: Mapping[str, Any] = {
        "_id": {"type": "string", "required": True},
        "name": {"type": "string"},
        "scopes": {"type": "array", "items": {"type": "string"}},
        "created_by": {"type": "string"},
        "created_at": {"type": "string"},
        "expires_at": {"type": ["string", "null"]},
        "last_use": {"type": ["string", "null"]},
        "key": {"type": "string", "description": "Only in the answer to `create`."},
        "additionalProperties": False,
    }

    def __init__(self, keys: ApiKeys, directory: Directory) -> None:
        self._keys = keys
        self._directory = directory

    async def find(self, params: Params) -> list[Record]:
        """All keys of the app."""
        await self._require_admin(params)
        return await self._keys.find(params.tenant)

    async def create(self, data: Any, params: Params) -> Record:
        """A new key of `{name, scopes: ["<service>:<method>" or "*"], expires_in: <seconds>?}`.

        Raises:
            BadRequest: that is none, or there are too many. Forbidden: a scope is a permission of Roost's own that the
                caller has not: rules take a key's scopes for its permissions.
        """
        created_by = await self._require_admin(params)
        if not isinstance(data, dict):
            raise BadRequest("An API key is made of {name, scopes, expires_in}")
        scopes = data.get("scopes")
        if params.provider is not None and isinstance(scopes, list):
            check_giving(params.user, (scope for scope in scopes if isinstance(scope, str) and scope in MANAGEMENT))
        return await self._keys.create(params.tenant, data, created_by)

    async def remove(self, id: Any, params: Params) -> Record:
        """Revokes a key: its next call is refused, and its live connections are logged out.

        Raises:
            NotFound: there is no such key.
        """
        await self._require_admin(params)
        return await self._keys.remove(params.tenant, id)

    async def _require_admin(self, params: Params) -> str:
        """Who calls, by the user's record as it is now; the server's own calls are trusted.

        Raises:
            Forbidden: it is no administrator, or an API key, which makes no others whatever its scopes.
        """
        if params.provider is None:
            return "server"
        user_id = "" if params.user is None else str(params.user["_id"])
        if not user_id.startswith(PRINCIPAL_PREFIX):
            user = await self._directory.load(params, user_id) if user_id else None
            permissions = user[0].get("permissions") if user is not None else None
            if isinstance(permissions, list) and ADMIN in permissions:
                return user_id
        raise Forbidden(f"This needs the permission '{ADMIN}'")
