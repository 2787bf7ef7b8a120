"""The anonymous strategy: whoever asks becomes a new user, without name or password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Params
from services.authentication.directory import Directory
from services.authentication.strategy import Proof


class AnonymousStrategy:
    """Makes a user `{anonymous: true}`. He becomes a full one by a patch of his own record with name and password."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """A new user; nothing of what the client sends is kept."""
        return Proof(await self._directory.add(params, {"anonymous": True}))
