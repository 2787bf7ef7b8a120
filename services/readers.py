"""Readers: the logged-in connections of a tenant by values of their users, for rules that ask for `$user.<path>`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hooks.context import Connection
from hooks.rules import user_value
from services.channels import AUTHENTICATED, Channels
from services.predicate import Key, key_of


class Readers:
    """An index that is built for a path when a rule first asks by it, and kept with each login and logout."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._paths: dict[str, dict[str, dict[Key, dict[Connection, None]]]] = {}
        """By tenant, path and value."""

    def having(self, tenant_id: str, path: str, values: Iterable[Any]) -> list[Connection]:
        """The connections whose user has one of the values at the path, or in the list there; each once."""
        paths = self._paths.setdefault(tenant_id, {})
        index = paths.get(path)
        if index is None:
            index = paths[path] = {}
            for connection in self._channels.members(tenant_id, (AUTHENTICATED,)):
                _add(index, connection, path)
        found: dict[Connection, None] = {}
        for value in values:
            found.update(index.get(key_of(value), {}))
        return [*found]

    def enter(self, connection: Connection) -> None:
        """Takes in a connection that has logged in, or whose user has changed after `leave`."""
        for path, index in self._paths.get(connection.tenant.id, {}).items():
            _add(index, connection, path)

    def leave(self, connection: Connection) -> None:
        """Forgets a connection: call it before its user changes or goes."""
        for path, index in self._paths.get(connection.tenant.id, {}).items():
            for key in _keys(connection, path):
                holders = index.get(key)
                if holders is not None:
                    holders.pop(connection, None)
                    if not holders:
                        del index[key]


def _add(index: dict[Key, dict[Connection, None]], connection: Connection, path: str) -> None:
    for key in _keys(connection, path):
        index.setdefault(key, {})[connection] = None


def _keys(connection: Connection, path: str) -> list[Key]:
    value = user_value(connection.user, path)
    if value is None:
        return []
    return [key_of(item) for item in value] if isinstance(value, (list, tuple)) else [key_of(value)]
