"""Setting keys: which settings an app has, what their values are, and who may see and change them.

Roost's own are in `services/control/inheritance/builtin.py`; plug-ins declare theirs with `app.settings.declare(...)`. A key is
a path such as `branding.logo_url`; on the wire it is nested: `{branding: {logo_url: ...}}`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

from hooks.context import Record
from hooks.schema import Schema
from hooks.tenant import Tenant

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}(\.[a-z][a-z0-9_]{0,62}){0,3}")
RESERVED: Final = frozenset({"settings_rev", "updated_at", "providers"})
"""Beside the settings, in what the service answers."""
NEVER: Final = (
    "_id friendly_name status isolation epoch audience sender_* domains allowed_origins public_key public_keys limits "
    "created_at updated_at"
).split()
"""Words of a key whose value no app ever gets from another, whatever is configured (RF-2)."""


@dataclass(frozen=True, slots=True)
class PublicTenant:
    """What a transform may know of the app that inherits."""

    app_id: str
    friendly_name: str
    plan: str
    region: str | None


Transform = Callable[[str, Any, PublicTenant], Any]
"""A pure function `(key, value of the control plane, tenant) -> value`."""


class Key:
    """One setting."""

    __slots__ = ("_schema", "default", "inheritable", "name", "read", "schema", "write")

    def __init__(
        self,
        name: str,
        schema: Mapping[str, Any],
        *,
        default: Any = None,
        inheritable: bool = True,
        read: str | None = None,
        write: str | None = None,
    ) -> None:
        """`schema` is a JSON Schema of the value. `read` and `write` are permissions beyond those of the service.

        Raises:
            ValueError: the name or the schema is none, or the default does not fit.
        """
        if not NAME.fullmatch(name) or name.partition(".")[0] in RESERVED:
            raise ValueError(f"'{name}' cannot be the name of a setting")
        self.name = name
        self.schema = schema
        self.default = default
        self.inheritable = inheritable and not is_never(name)
        self.read = read
        self.write = write
        self._schema = Schema({"value": schema})
        if default is not None and (fault := self.fault(default)):
            raise ValueError(f"the default of '{name}' {fault}")

    @property
    def is_object(self) -> bool:
        """Whether a patch is merged into the value."""
        return self.schema.get("type") == "object"

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value; None if nothing is."""
        faults = self._schema.check({"value": value}, whole=True)
        return faults[0]["message"] if faults else None


class SettingValues(Protocol):
    """Tells what holds for an app: its own values, what it inherits, and the defaults."""

    async def value(self, tenant: Tenant, key: str) -> Any:
        """The value of one setting. Raises LookupError."""
        ...


class SettingKeys:
    """All keys of this server, and the transforms that may be applied to what is inherited."""

    def __init__(self, keys: tuple[Key, ...] = ()) -> None:
        self._keys: dict[str, Key] = {}
        self._transforms: dict[str, Transform] = {}
        for key in keys:
            self._add(key)

    def declare(self, name: str, schema: Mapping[str, Any], **options: Any) -> None:
        """Adds a setting; `options` are those of `Key`.

        Raises:
            ValueError: it is no setting, there is one of the name, or one lies within the other.
        """
        self._add(Key(name, schema, **options))

    def transform(self, name: str, function: Transform) -> None:
        """Registers a pure function by which inherited values can be changed.

        Raises:
            ValueError: the name is taken, or none.
        """
        if not NAME.fullmatch(name) or name in self._transforms:
            raise ValueError(f"'{name}' cannot be the name of a transform")
        self._transforms[name] = function

    @property
    def transforms(self) -> frozenset[str]:
        """The names of the registered functions."""
        return frozenset(self._transforms)

    def transform_of(self, name: str) -> Transform | None:
        """The function of a name."""
        return self._transforms.get(name)

    def get(self, name: str) -> Key | None:
        """The key of a name."""
        return self._keys.get(name)

    def is_group(self, name: str) -> bool:
        """Whether keys begin with this name."""
        return any(key.startswith(f"{name}.") for key in self._keys)

    def within(self, group: str) -> list[Key]:
        """The keys of a group, or the one of this name."""
        return [key for key in self if key.name == group or key.name.startswith(f"{group}.")]

    def __iter__(self) -> Iterator[Key]:
        return iter([self._keys[name] for name in sorted(self._keys)])

    def flat(self, nested: Mapping[str, Any]) -> Record:
        """The values by key; what no key names is left out."""
        found = {}
        for key in self:
            value: Any = nested
            for part in key.name.split("."):
                value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
            if value is not _ABSENT:
                found[key.name] = copy.deepcopy(value)
        return found

    def _add(self, key: Key) -> None:
        for other in self._keys:
            if key.name == other or key.name.startswith(f"{other}.") or other.startswith(f"{key.name}."):
                raise ValueError(f"'{key.name}' is in the way of the setting '{other}'")
        self._keys[key.name] = key


_ABSENT = object()


def is_never(name: str) -> bool:
    """Whether a word of the key says that its value is its owner's alone."""
    return any(fnmatchcase(part, pattern) for part in name.split(".") for pattern in NEVER)


def nest(flat: Mapping[str, Any]) -> Record:
    """Values by key as they are on the wire."""
    nested: Record = {}
    for name, value in flat.items():
        place = nested
        *groups, last = name.split(".")
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return nested
