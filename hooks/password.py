"""Hashes passwords on their way in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from hooks.context import HookContext


class Hasher(Protocol):
    """Makes hashes of passwords."""

    async def hash(self, password: object) -> str:
        """The hash.

        Raises:
            BadRequest: it is not acceptable as a password.
        """
        ...


def hash_password(hasher: Hasher, field: str = "password") -> Callable[[HookContext], Awaitable[None]]:
    """A before hook for create, update and patch: the field, where it is sent, is replaced by its hash.

    A text that looks like a hash is hashed as well, so nobody can choose the hash that is stored.

    Raises:
        BadRequest: the value is not acceptable as a password.
    """

    async def hash_field(context: HookContext) -> None:
        data = context.data
        if isinstance(data, dict) and field in data:
            context.data = {**data, field: await hasher.hash(data[field])}
        elif isinstance(data, list):
            context.data = [
                {**item, field: await hasher.hash(item[field])} if isinstance(item, dict) and field in item else item
                for item in data
            ]

    return hash_field
