"""Hooks around the life of tenants: what plug-ins add to creating, changing and deleting an app (CP-26, CP-27).

    app.tenants.hooks(before_create=check_name, after_create=greet)

`before_...` hooks run before anything is written, in the order of their registration, each with what the one before has made
of the data; an error is the caller's error. `after_...` hooks run once the change is kept, each by itself, again where one
failed. They run whoever makes the change: a client of either transport, the command line, or a declarative file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hooks.tenant import Tenant

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TenantCall:
    """Who does what to which app. `actor` is the id of a user of the control plane, or `operator`."""

    app_id: str
    actor: str
    provider: str | None = None
    """`socketio` or `rest`; None is the command line, a declarative file, or the server itself."""


BeforeCreate = Callable[[TenantCall, Data], Awaitable[Data | None]]
"""Gets the app as a declaration, and may return another one; None leaves it as it is."""
BeforeUpdate = BeforeCreate
"""Gets the changes."""
BeforeDelete = Callable[[TenantCall], Awaitable[None]]
After = Callable[[TenantCall, Tenant], Awaitable[None]]
"""Gets the app as it is then; after a deletion, as it was."""

KINDS = ("before_create", "after_create", "before_update", "after_update", "before_delete", "after_delete")


class TenantHooks:
    """What plug-ins have registered, by kind."""

    def __init__(self) -> None:
        self._by_kind: dict[str, list[Any]] = {kind: [] for kind in KINDS}

    def hooks(
        self,
        *,
        before_create: BeforeCreate | None = None,
        after_create: After | None = None,
        before_update: BeforeUpdate | None = None,
        after_update: After | None = None,
        before_delete: BeforeDelete | None = None,
        after_delete: After | None = None,
    ) -> None:
        """Adds hooks behind those that are there.

        Raises:
            TypeError: something that cannot be called.
        """
        given = (before_create, after_create, before_update, after_update, before_delete, after_delete)
        for kind, hook in zip(KINDS, given, strict=True):
            if hook is None:
                continue
            if not callable(hook):
                raise TypeError(f"A hook must be an async function, not {hook!r}")
            self._by_kind[kind].append(hook)

    async def before_create(self, call: TenantCall, data: Data) -> Data:
        """The app as the hooks want it made. Their errors go on."""
        return await self._refine("before_create", call, data)

    async def before_update(self, call: TenantCall, data: Data) -> Data:
        """The changes as the hooks want them made. Their errors go on."""
        return await self._refine("before_update", call, data)

    async def before_delete(self, call: TenantCall) -> None:
        """Asks the hooks, whose errors go on."""
        for hook in self._by_kind["before_delete"]:
            await hook(call)

    def after(self, kind: str) -> tuple[After, ...]:
        """The hooks that follow a change, for who runs them one by one."""
        return tuple(self._by_kind[kind])

    async def _refine(self, kind: str, call: TenantCall, data: Data) -> Data:
        for hook in self._by_kind[kind]:
            changed = await hook(call, data)
            if changed is not None:
                if not isinstance(changed, Mapping):
                    raise TypeError(f"A {kind} hook must return the data or None, not {type(changed).__name__}")
                data = changed
        return data
