"""The local strategy: user name and password, inside one tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Params, Record
from hooks.errors import NotAuthenticated
from services.authentication.directory import Directory
from services.authentication.names import LONGEST, name_key
from services.authentication.passwords import Passwords
from services.authentication.strategy import Proof

UNVERIFIED = "Confirm your e-mail address first: the link is in the mail that was sent to it"


class LocalStrategy:
    """Takes `{<username field>, password}`. All failures read alike, and cost alike once there is a password."""

    def __init__(self, directory: Directory, passwords: Passwords) -> None:
        self._directory = directory
        self._passwords = passwords

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """Finds the user in the tenant of `params` and checks the password.

        Raises:
            NotAuthenticated: `Invalid login`, whatever is wrong. TooManyRequests: too many log in at once.
        """
        name, password = data.get(params.tenant.auth.username_field), data.get("password")
        if not isinstance(name, str) or not isinstance(password, str):
            raise NotAuthenticated("Invalid login")
        user = await self._find(params, name)
        hashed = user.get("password") if user else None
        if user is None or not isinstance(hashed, str):
            await self._passwords.verify_nothing(password)
            raise NotAuthenticated("Invalid login")
        if not await self._passwords.verify(password, hashed):
            raise NotAuthenticated("Invalid login")
        if params.tenant.auth.must_verify and user.get("verified") is not True:
            # Where nobody may learn who has an account, a fresh one must not answer otherwise than one that is not his.
            raise NotAuthenticated("Invalid login" if params.tenant.auth.protected else UNVERIFIED)
        return Proof({"_id": user["_id"]})

    async def _find(self, params: Params, name: str) -> Record | None:
        if len(name) > LONGEST or any("\ud800" <= char <= "\udfff" for char in name):
            return None
        return await self._directory.find(params, name_key(name))
