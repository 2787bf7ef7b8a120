"""Readers: the logged-in connections of a tenant by values of their users, for rules that ask for `$user.<path>`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bson import ObjectId

from hooks.conditions import stored_id
from hooks.context import Connection
from hooks.rules import user_value
from services.channels import AUTHENTICATED, Channels
from services.predicate import Key, key_of

_Index = dict[Key, dict[Connection, None]]


class Readers:
    """An index that is built for a path when a rule first asks by it, and kept with each login and logout."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._paths: dict[str, dict[str, _Index]] = {}
        """By tenant, path and value."""

    def having(self, tenant_id: str, path: str, values: Iterable[Any]) -> list[Connection]:
        """The connections whose user has one of the values at the path, or in the list there; each once.

        A user's text that names an id is both, the text and the id.
        """
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
        paths = self._paths.get(connection.tenant.id, {})
        for path, index in paths.items():
            for key in _keys(connection, path):
                holders = index.get(key)
                if holders is not None:
                    holders.pop(connection, None)
                    if not holders:
                        del index[key]
        if not any(paths.values()):
            self._paths.pop(connection.tenant.id, None)


def _add(index: _Index, connection: Connection, path: str) -> None:
    for key in _keys(connection, path):
        index.setdefault(key, {})[connection] = None


def _keys(connection: Connection, path: str) -> Iterator[Key]:
    value = user_value(connection.user, path)
    if value is None:
        return
    for item in (*value, value) if isinstance(value, list) else (value,):
        yield key_of(item)
        if isinstance(item, str) and isinstance(id := stored_id(item), ObjectId):
            yield key_of(id)
