"""What plug-ins have asked for by `app.multi_tenancy(...)`, handed to the parts that it is about (CO-1, CO-2).

Nothing is done here. What a part cannot do, or what a setting says differently, stops the start: no option is passed over.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from hooks.context import Record
from hooks.errors import BadRequest
from hooks.permission import TENANT_ADMIN, TENANT_LEVEL
from server.backend import Backend, StartError
from server.hosts import canonical
from services.application import Application
from services.control.inheritance.selection import Selection
from services.control.sync.model import TYPES
from services.entities.registry import ENTITIES
from services.tenant_hooks import KINDS, Data, TenantCall

CLIENT_ID = re.compile(r"[a-z][a-z0-9-]{1,61}[a-z0-9]")


def compose(app: Application, backend: Backend) -> None:
    """Brings the options into force, once all plug-ins have registered what they have.

    Raises:
        StartError: an option that cannot be had; the sentence names it.
    """
    options: Mapping[str, Any] = app.composition or {}
    for name in [name for name in PARTS if name in options]:
        try:
            PARTS[name](options[name], app, backend)
        except (TypeError, ValueError, LookupError) as error:
            raise StartError(f"multi_tenancy({name}=...): {error}") from error


def _control_plane(value: Any, app: Application, backend: Backend) -> None:
    wanted = {"app_id": value} if isinstance(value, str) else {**value}
    if unknown := sorted({*wanted} - {"app_id", "client_id"}):
        raise ValueError(f"'{unknown[0]}' is unknown: there are app_id and client_id")
    there = backend.settings.control_plane
    if wanted.get("app_id", there) != there:
        raise ValueError(f"ROOST_CONTROL_PLANE is '{there}', not {wanted['app_id']!r}")
    if "client_id" in wanted:
        if not isinstance(wanted["client_id"], str) or not CLIENT_ID.fullmatch(wanted["client_id"]):
            raise ValueError("client_id must be 3 to 63 lower case letters, digits and '-', and begin with a letter")
        backend.client_id = wanted["client_id"]


def _sync(value: Any, app: Application, backend: Backend) -> None:
    wanted: dict[str, Any] = dict.fromkeys(TYPES, value) if isinstance(value, bool) else {**value}
    for name, is_on in wanted.items():
        if name not in TYPES:
            raise ValueError(f"'{name}' is no type: there are {', '.join(TYPES)}")
        if not isinstance(is_on, bool):
            raise TypeError(f"{name} must be True or False, not {is_on!r}")
    is_set = "sync" in backend.settings.model_fields_set
    switches = backend.sync.switches if is_set else replace(backend.sync.switches, **wanted)
    for name, is_on in wanted.items():
        if is_on is not switches.has(name):
            state = "on" if switches.has(name) else "off"
            raise ValueError(f"ROOST_SYNC has {name} {state}" if is_set else f"without roles, {name} are {state}")
    backend.sync.switches = switches


def _default_permissions(value: Any, app: Application, backend: Backend) -> None:
    known = TENANT_LEVEL | {TENANT_ADMIN}
    if isinstance(value, str) or not value or not known.issuperset(value):
        raise ValueError(f"must be some of {', '.join(sorted(known))}")
    settings = backend.settings
    if "creator_permissions" in settings.model_fields_set and {*settings.creator_permissions} != {*value}:
        raise ValueError(f"ROOST_CREATOR_PERMISSIONS is '{','.join(settings.creator_permissions)}'")
    backend.control.provisioning.permissions = (*value,)


def _require_organization_match(value: Any, app: Application, backend: Backend) -> None:
    if value is not True:
        raise ValueError("a token for an organization is good for its app alone, which cannot be switched off")


def _get_placement(value: Any, app: Application, backend: Backend) -> None:
    if not callable(value):
        raise TypeError(f"must be an async function, not {value!r}")

    async def place(call: TenantCall, data: Data) -> Data | None:
        chosen = None if data.get("placement") is not None else await value(call, data)
        if chosen is None:
            return None
        return {**data, "placement": {"model": chosen} if isinstance(chosen, str) else dict(chosen)}

    app.tenants.hooks(before_create=place)


def _hooks(value: Any, app: Application, backend: Backend) -> None:
    for kind, given in value.items():
        if kind not in KINDS:
            raise ValueError(f"'{kind}' is no kind of hook: there are {', '.join(KINDS)}")
        several: list[Any] = [*given] if isinstance(given, (list, tuple)) else [given]
        for hook in several:
            if hook is None:
                raise TypeError("A hook must be an async function, not None")
            app.tenants.hooks(**{kind: hook})


def _entity_hooks(value: Any, app: Application, backend: Backend) -> None:
    paths = {entity.paths[0]: entity.paths for entity in ENTITIES}
    for name, hooks in value.items():
        if name not in paths:
            raise ValueError(f"'{name}' is no service of entities: there are {', '.join(paths)}")
        for path in paths[name]:
            app.service(path).add_hooks(hooks)


def _inheritance(value: Any, app: Application, backend: Backend) -> None:
    chosen: Record = {"inherit": value} if isinstance(value, bool) else dict(value)
    try:
        selection = Selection.model_validate(chosen)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError("; ".join(faults)) from error
    if unknown := sorted({*selection.transforms.values()} - {*app.settings.transforms}):
        raise ValueError(f"there is no transform '{unknown[0]}'")
    backend.inheritance.effective.defaults = chosen


def _subdomains(value: Any, app: Application, backend: Backend) -> None:
    if unknown := sorted({*value} - {"base_hosts", "resolver"}):
        raise ValueError(f"'{unknown[0]}' is unknown: there are base_hosts and resolver")
    there, wanted = backend.settings.base_hosts, value.get("base_hosts", ())
    if isinstance(wanted, str) or not all(isinstance(host, str) for host in wanted):
        raise TypeError(f"base_hosts must be several hosts, not {wanted!r}")
    if not there and not wanted:
        raise ValueError("no app can be reached by a host: set ROOST_BASE_HOSTS, or name base_hosts")
    if there and "base_hosts" in value and {*wanted} != {*there}:
        raise ValueError(f"ROOST_BASE_HOSTS is '{','.join(there)}'")
    for host in wanted:
        try:
            canonical(host)
        except BadRequest as error:
            raise ValueError(f"'{host}' is no host") from error
    app.base_hosts = there or (*wanted,)
    if "resolver" in value:
        if not callable(value["resolver"]):
            raise TypeError(f"resolver must be an async function, not {value['resolver']!r}")
        if app.resolve_host is not None:
            raise ValueError("app.resolve_host is set already")
        app.resolve_host = value["resolver"]


def _extensions(value: Any, app: Application, backend: Backend) -> None:
    if not isinstance(value, (list, tuple)) or not all(callable(one) for one in value):
        raise TypeError(f"must be a list of functions, not {value!r}")
    app.extensions = (*value,)


async def extend(app: Application, stack: AsyncExitStack) -> None:
    """Starts what plug-ins have beside the server; `stack` ends it.

    Raises:
        StartError: one cannot be started.
    """
    for extension in app.extensions:
        name = getattr(extension, "__qualname__", repr(extension))
        try:
            begun = extension(app)
            if isinstance(begun, AbstractAsyncContextManager):
                await stack.enter_async_context(begun)
            elif inspect.isawaitable(begun):
                await begun
            else:
                raise TypeError("must be async: a coroutine, or an asynccontextmanager")
        except Exception as error:
            raise StartError(f"multi_tenancy(extensions=...): {name}: {error}") from error


PARTS: Mapping[str, Callable[[Any, Application, Backend], None]] = {
    "control_plane": _control_plane,
    "sync": _sync,
    "default_permissions": _default_permissions,
    "require_organization_match": _require_organization_match,
    "hooks": _hooks,
    "get_placement": _get_placement,
    "entity_hooks": _entity_hooks,
    "extensions": _extensions,
    "inheritance": _inheritance,
    "subdomains": _subdomains,
}
"""By option, who hands it on; in the order in which that is done."""
