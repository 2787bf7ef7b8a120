"""A service under its path: which methods are offered, by which rules, and the hook chain of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from hooks.chain import AroundHook, Hooks, Run, compile_chain
from hooks.conditions import Conditions
from hooks.context import HookContext
from hooks.permit import permit
from hooks.readonly import refuse_readonly
from hooks.rules import DEFAULT, Rule, Rules, fields_of, rule_for, user_fields_of
from hooks.tenant import Tenant
from hooks.timing import timed, timed_run
from services.audience import Audience
from services.base import EVENTS, RESERVED_METHODS, STANDARD_METHODS, standard_methods

Listener = Callable[[Any, HookContext], Awaitable[None] | None]
"""Hears of an event inside the server: the record and the context of the call."""
Emit = Callable[["Registration", str, Any, Tenant], Awaitable[None]]
"""Brings an event of the service's own making to the tenant's listeners and subscribers."""

HookAnswer = HookContext | Mapping[str, Any] | None
Hook = Callable[[HookContext], HookAnswer | Awaitable[HookAnswer]]
AroundHooks = Mapping[str, AroundHook | Sequence[AroundHook]] | Sequence[AroundHook]
"""By method or `all`; a bare list is for all methods."""
StepHooks = Mapping[str, Hook | Sequence[Hook]] | Sequence[Hook]


class HooksByKind(TypedDict, total=False):
    """Hooks of a service, or of all services: `{"before": {"all": [check], "create": [stamp]}, "after": [note]}`."""

    around: AroundHooks
    before: StepHooks
    after: StepHooks
    error: StepHooks


HookRegistration = HooksByKind | AroundHooks
"""Feathers' three forms: by kind, around hooks by method, or a list of around hooks for all methods."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """A service whose events go to rooms: `by` is the field that names a record's room, `join` who may join one."""

    by: str
    join: Rule = "authenticated"


class Registration:
    """What `Application.use` keeps of a service. Chains are compiled when first needed and kept."""

    __slots__ = (
        "_chains",
        "_emit",
        "_outer",
        "_timed_chains",
        "asked",
        "audience",
        "events",
        "hidden",
        "hooks",
        "listeners",
        "methods",
        "path",
        "rooms",
        "rules",
        "service",
        "updates",
    )

    def __init__(
        self,
        path: str,
        service: Any,
        outer: Hooks,
        emit: Emit,
        *,
        methods: Sequence[str] | None = None,
        events: Sequence[str] = (),
        hooks: HookRegistration | None = None,
        rules: Rules | str = "authenticated",
        rooms: Rooms | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        """`methods` are those callable from outside; `outer` holds the application's hooks; `emit` is the application's.

        `conditions` prepares the rules' queries for the service's records.

        Raises:
            ValueError: a method that the service lacks, a name that is reserved, or a rule that the service cannot keep to.
        """
        self.path = path
        self.service = service
        self.methods = tuple(methods) if methods is not None else standard_methods(service)
        for name in self.methods:
            if name in RESERVED_METHODS or name.startswith("_") or not callable(getattr(service, name, None)):
                raise ValueError(f"The service '{path}' cannot offer a method '{name}'")
        self.updates: frozenset[str] = (
            frozenset(getattr(service, "updates", ())) if "patch" in self.methods else frozenset()
        )
        self.events = (*EVENTS.values(), *events)
        self.rules: Rules = {DEFAULT: rules} if isinstance(rules, str) else rules
        conditions = conditions or Conditions()
        self.audience = Audience(rule_for(self.rules, "get"), conditions)
        """Who hears of the service's events, unless a publisher chooses."""
        self.hidden: frozenset[str] = getattr(getattr(service, "options", None), "hidden", frozenset())
        """Fields that never leave the server."""
        self.asked = frozenset[str]().union(*map(user_fields_of, self.rules.values()))
        """The fields of users that the rules ask for."""
        self.hooks = Hooks()
        self.hooks.add({"before": {"all": [self._permit(conditions)]}})
        if readonly := getattr(service, "readonly", None):
            self.hooks.add({"before": {"all": [refuse_readonly(readonly)]}})
        self.rooms = rooms
        self.listeners: dict[str, list[Listener]] = {}
        self._outer = outer
        self._emit = emit
        self._chains: dict[str, Run] = {}
        self._timed_chains: dict[str, Run] = {}
        if hooks:
            self.add_hooks(hooks)

    def add_hooks(self, hooks: HookRegistration) -> None:
        """Adds hooks behind those that the service has; the next call runs them.

        Raises:
            TypeError: something that is no hook. ValueError: a method that the service does not have.
        """
        self.hooks.add(hooks, {*self.methods, *standard_methods(self.service)})
        self.recompile()

    async def emit(self, event: str, record: Any, *, tenant: Tenant) -> None:
        """Sends an event of the service's own making, which reaches subscribers of this tenant alone.

        Raises:
            ValueError: the service was not registered with this event.
        """
        if event not in self.events:
            raise ValueError(f"The service '{self.path}' has no event '{event}': name it in events=[...]")
        await self._emit(self, event, record, tenant)

    def on(self, event: str, listener: Listener) -> None:
        """Calls `listener` after each such event of this service, in this process."""
        self.listeners.setdefault(event, []).append(listener)

    def has(self, method: str) -> bool:
        """Whether the service defines the method at all; `methods` are those offered to clients."""
        return method in self.methods or (method in STANDARD_METHODS and hasattr(self.service, method))

    def chain(self, method: str) -> Run:
        """The method inside all of its hooks."""
        compiled = self._chains.get(method)
        if compiled is None:
            compiled = compile_chain([self._outer, self.hooks], method, _runner(self.service, method))
            self._chains[method] = compiled
        return compiled

    def timed_chain(self, method: str) -> Run:
        """The same, noting how long each hook takes: see `hooks.timing`."""
        compiled = self._timed_chains.get(method)
        if compiled is None:
            run = timed_run(_runner(self.service, method))
            compiled = compile_chain([timed(self._outer), timed(self.hooks)], method, run)
            self._timed_chains[method] = compiled
        return compiled

    def recompile(self) -> None:
        """Forgets the compiled chains, after hooks were added."""
        self._chains.clear()
        self._timed_chains.clear()

    def _permit(self, conditions: Conditions) -> Callable[[HookContext], Awaitable[None] | None]:
        guards = bool(getattr(self.service, "guards", False))
        checks: dict[str, Callable[[HookContext], Awaitable[None] | None]] = {}
        for name in {*self.methods, *STANDARD_METHODS}:
            rule = rule_for(self.rules, name)
            checks[name] = permit(
                rule,
                conditions=conditions,
                guards=guards and name in STANDARD_METHODS,
                watch=self.audience.fields if name in EVENTS else frozenset(),
            )
            if not guards and name in ("create", "update", "patch") and self.has(name) and fields_of(rule):
                raise ValueError(
                    f"The service '{self.path}' cannot keep to the rule of '{name}': a condition on what is written "
                    "needs a service that guards, such as MongoService"
                )

        def permit_method(context: HookContext) -> Awaitable[None] | None:
            return checks[context.method](context)

        return permit_method


def _runner(service: Any, method: str) -> Run:
    """Calls the method with the arguments that its kind takes, and keeps what it returns."""
    function = getattr(service, method)
    if method == "find":

        async def run(context: HookContext) -> None:
            context.result = await function(context.params)
    elif method in ("get", "remove"):

        async def run(context: HookContext) -> None:
            context.result = await function(context.id, context.params)
    elif method in ("update", "patch"):

        async def run(context: HookContext) -> None:
            context.result = await function(context.id, context.data, context.params)
    else:

        async def run(context: HookContext) -> None:
            context.result = await function(context.data, context.params)

    return run
