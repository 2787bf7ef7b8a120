"""HookContext and Params: what one call carries from hook to hook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hooks.tenant import Tenant

Record = dict[str, Any]
"""One document as seen outside the store: plain values, ObjectIds as they are, no `app_id`."""
Verify = Callable[[Record], None]
"""Raises BadRequest for a record that may not be kept."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """A verified login: the strategy, the access token and its claims."""

    strategy: str
    access_token: str
    payload: Mapping[str, Any]


class Connection(Protocol):
    """What a service may know of the socket that called it."""

    @property
    def id(self) -> str: ...

    @property
    def tenant(self) -> Tenant: ...

    @property
    def user(self) -> Record | None: ...

    @property
    def claims(self) -> Mapping[str, Any] | None:
        """Of its access token, also if that has expired; None for who is not, or not any more, logged in."""
        ...

    @property
    def channels(self) -> set[str]: ...


@dataclass(slots=True, eq=False)
class Guard:
    """What a call must keep to because of access rules, and what it notes of the records that it writes."""

    scope: Record | None = None
    """A query that a record matches when the call reaches it, and when the call has changed or made it; None: any record."""
    fields: frozenset[str] = frozenset()
    """The fields that `scope` looks at."""
    watch: frozenset[str] = frozenset()
    """The fields on which it depends who may read a record."""
    before: dict[Any, Record] = field(default_factory=dict)
    """By id: records as they were, of which a watched field has changed."""
    after: dict[Any, Record] = field(default_factory=dict)
    """By id: the records as they were written or removed, whatever hooks make of them."""


@dataclass(slots=True, kw_only=True)
class Params:
    """What a call is asked with. A client influences `query` alone; everything else is set by the server."""

    tenant: Tenant
    query: Record = field(default_factory=dict)
    provider: str | None = None
    """`"socketio"` or `"rest"`; None is a trusted internal call."""
    address: str = ""
    """Where an external call comes from; empty where nobody knows."""
    headers: Mapping[str, str] = field(default_factory=dict)
    route: Mapping[str, str] = field(default_factory=dict)
    connection: Connection | None = None
    token: str | None = None
    """A bearer token that came with a REST request and is not verified yet."""
    authentication: Authentication | None = None
    user: Record | None = None
    authenticated: bool = False
    verify: Verify | None = None
    """What a record must pass after a patch with update operators: set by hooks that know its schema."""
    guard: Guard | None = None
    """Set by access rules that are conditions."""

    def guarded(self, guard: Guard | None) -> Params:
        """A copy with this guard: a guard is for one call, and params may be handed on to others."""
        return replace(self, guard=guard)

    def internal(self, query: Record | None = None) -> Params:
        """The params of a trusted call to another service, for the same tenant and user."""
        return Params(tenant=self.tenant, query=query or {}, user=self.user, authentication=self.authentication)


class Unset(Enum):
    """The value of what nobody has set; None is a value of its own."""

    UNSET = "unset"


UNSET = Unset.UNSET


class Caller(Protocol):
    """What hooks and services may ask of the application."""

    async def call(self, path: str, method: str, params: Params, *, id: Any = None, data: Any = None) -> HookContext:
        """Calls a service method through all of its hooks."""
        ...

    async def authenticate(self, params: Params) -> None:
        """Verifies `params.token` and fills in `user`, `authentication`, `authenticated`; raises NotAuthenticated."""
        ...


@dataclass(slots=True, eq=False, kw_only=True)
class HookContext:
    """One call. Made by `Application.call`, changed by hooks, gone with the answer."""

    app: Caller
    service: Any
    """The service object that is called."""
    path: str
    method: str
    params: Params
    id: Any = None
    data: Any = None
    result: Any = UNSET
    """The outcome. A before hook that sets it spares the method."""
    dispatch: Any = UNSET
    """The safe copy: what leaves the server, in answers and events, instead of `result`."""
    error: Exception | None = None
    event: str | None = None
    """The name of the event that follows the call; None sends none."""
    http: Record = field(default_factory=dict)
    """`status`, `headers` and `location` that a hook wishes for the HTTP answer."""

    @property
    def tenant(self) -> Tenant:
        """The tenant of the call."""
        return self.params.tenant

    @property
    def outcome(self) -> Any:
        """What leaves the server: `dispatch` if set, else `result`."""
        return self.result if self.dispatch is UNSET else self.dispatch
