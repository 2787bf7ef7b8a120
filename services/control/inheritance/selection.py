"""Selection: which settings an app gets from the control plane, as the control plane has configured it (RF-2, RF-3, RF-5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from hooks.tenant import Tenant
from services.declaration.model import Strict, as_tuple
from services.setting_keys import NAME, Key

_Name = Annotated[str, Field(pattern=f"^(?:{NAME.pattern})$")]


class Selection(Strict):
    """The configuration `inheritance`: the control plane's is the default, and an app's own overrides it field by field."""

    inherit: bool = True
    include: tuple[_Name, ...] | None = None
    """Keys and groups of keys that are inherited; without it, all."""
    exclude: tuple[_Name, ...] = ()
    """Those that are not; it wins over `include`."""
    transforms: dict[_Name, _Name] = {}
    """Names of registered transforms, by key or group."""
    mode: Literal["fallback", "copy"] = "fallback"
    """`copy` gives a new app what it would inherit as its own values, and nothing later."""

    @field_validator("include", "exclude", mode="before")
    @classmethod
    def _accept_list(cls, values: Any) -> Any:
        return as_tuple(values)

    def selects(self, key: Key) -> bool:
        """Whether the key's value may come from the control plane."""
        if not self.inherit or not key.inheritable or _names(self.exclude, key.name):
            return False
        return self.include is None or _names(self.include, key.name)

    def transform_of(self, key: str) -> str | None:
        """The name of the transform for a key: the most exact one."""
        for name in _paths(key):
            if name in self.transforms:
                return self.transforms[name]
        return None


def selection_of(tenant: Tenant, control_plane: Tenant, defaults: Mapping[str, Any]) -> Selection:
    """What holds for an app; `defaults` are the server's, for what neither configuration says."""
    return Selection.model_validate({**defaults, **control_plane.inheritance, **tenant.inheritance})


def _names(names: tuple[str, ...], key: str) -> bool:
    return not set(names).isdisjoint(_paths(key))


def _paths(key: str) -> list[str]:
    """The key and the groups that it is in, the most exact first."""
    parts = key.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
