"""Composition: what a plug-in asks of the parts for several tenants, in one call (CO-1).

    app.multi_tenancy(control_plane="control_plane", hooks={"before_create": check_name}, inheritance=False)

Here are the names alone. Whoever builds the server hands each option to its part, or says why it cannot be had.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypedDict, cast

from services.registration import HookRegistration
from services.tenant_hooks import Data, TenantCall

HostResolver = Callable[[str | None, str], Awaitable[str | None]]
"""A plug-in's own way from a host to an app: `(label, host)` to an appId, or None. The label is what stands before a base
host; None for a host that ends otherwise."""
GetPlacement = Callable[[TenantCall, Data], Awaitable[str | Mapping[str, Any] | None]]
"""Where a new app's data is kept: an isolation model, `{model, cluster}`, or None for the shared database."""


Extension = Callable[[Any], AbstractAsyncContextManager[Any] | Awaitable[Any]]
"""What runs beside the server: it gets the application when all parts have started, and before the server listens. A function
with `yield`, under `contextlib.asynccontextmanager`, goes on behind it when the server has stopped listening."""


class CompositionError(ValueError):
    """A plug-in asks for what there is not; the sentence says what there is."""


class Subdomains(TypedDict, total=False):
    """Apps by host. It needs base hosts."""

    base_hosts: Sequence[str]
    """As `ROOST_BASE_HOSTS`, where that is not set; the start stops where they differ."""
    resolver: HostResolver


class ControlPlane(TypedDict, total=False):
    """The control plane and its own front end."""

    app_id: str
    """As `ROOST_CONTROL_PLANE` has it: the start stops where they differ, for every part is made with it."""
    client_id: str
    """The id of a client of the control plane, which is made at the start if there is none: so that an admin page can be built
    that knows by which `client_id` it goes to `/oauth/authorize`. What becomes of it afterwards is its owners' affair."""


class MultiTenancy(TypedDict, total=False):
    """The options of `Application.multi_tenancy`."""

    control_plane: str | ControlPlane
    """Its appId alone, or more."""
    sync: bool | Mapping[str, bool]
    """All types or none, or a switch by type, where `ROOST_SYNC` is not set; the start stops where they differ."""
    default_permissions: Sequence[str]
    """As `ROOST_CREATOR_PERMISSIONS`, where that is not set."""
    require_organization_match: bool
    """A token for an organization is good for its app alone. That cannot be switched off: False stops the start."""
    get_placement: GetPlacement
    """Asked for each new app that does not say where its data is to be."""
    hooks: Mapping[str, Any]
    """By kind, a function or several, as `app.tenants.hooks` takes them."""
    entity_hooks: Mapping[str, HookRegistration]
    """By path of an entity's service; they run behind the built-in ones, each with what the one before has made."""
    extensions: Sequence[Extension]
    """Run in their order, and end in the other; one that fails stops the start."""
    inheritance: bool | Mapping[str, Any]
    """What apps inherit of settings, where the control plane's configuration and their own say nothing."""
    subdomains: Subdomains


ALIASES: Final = {
    "control_plane_tenant_id": "control_plane",
    "main_tenant_id": "control_plane",
    "with_settings_inheritance": "inheritance",
}
"""Names of earlier days."""


def read(options: Mapping[str, Any]) -> MultiTenancy:
    """The options by their names of today.

    Raises:
        CompositionError: one that there is not, or one under two names.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        today = ALIASES.get(name, name)
        if today not in MultiTenancy.__annotations__:
            raise CompositionError(f"'{name}' is no option of multi_tenancy: there are {', '.join(known())}")
        if today in found:
            raise CompositionError(f"'{today}' is given twice, as '{name}' too")
        if today != name:
            warnings.warn(f"multi_tenancy({name}=...) is called {today} now", DeprecationWarning, stacklevel=4)
        found[today] = value
    return cast("MultiTenancy", found)


def known() -> list[str]:
    """The names of the options."""
    return [*MultiTenancy.__annotations__]
