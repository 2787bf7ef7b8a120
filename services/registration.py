"""A service under its path: which methods are offered, by which rules, and the hook chain of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from hooks.chain import Hooks, Run, compile_chain
from hooks.context import HookContext
from hooks.permit import DEFAULT, Rules, permit, rule_for
from services.base import EVENTS, RESERVED_METHODS, STANDARD_METHODS, standard_methods

Listener = Callable[[Any, HookContext], Awaitable[None] | None]
"""Hears of an event inside the server: the record and the context of the call."""


class Registration:
    """What `Application.use` keeps of a service. Chains are compiled when first needed and kept."""

    __slots__ = ("_chains", "_outer", "events", "hooks", "listeners", "methods", "path", "rules", "service")

    def __init__(
        self,
        path: str,
        service: Any,
        outer: Hooks,
        *,
        methods: Sequence[str] | None = None,
        events: Sequence[str] = (),
        hooks: Mapping[str, Any] | None = None,
        rules: Rules | str = "authenticated",
    ) -> None:
        """`methods` are those callable from outside; `outer` holds the application's hooks.

        Raises:
            ValueError: a method that the service lacks or a name that is reserved.
        """
        self.path = path
        self.service = service
        self.methods = tuple(methods) if methods is not None else standard_methods(service)
        for name in self.methods:
            if name in RESERVED_METHODS or name.startswith("_") or not callable(getattr(service, name, None)):
                raise ValueError(f"The service '{path}' cannot offer a method '{name}'")
        self.events = (*EVENTS.values(), *events)
        self.rules: Rules = {DEFAULT: rules} if isinstance(rules, str) else rules
        self.hooks = Hooks()
        self.hooks.add({"before": {"all": [self._permit()]}})
        if hooks:
            self.hooks.add(hooks, {*self.methods, *standard_methods(service)})
        self.listeners: dict[str, list[Listener]] = {}
        self._outer = outer
        self._chains: dict[str, Run] = {}

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

    def recompile(self) -> None:
        """Forgets the compiled chains, after hooks were added."""
        self._chains.clear()

    def _permit(self) -> Callable[[HookContext], Awaitable[None] | None]:
        checks = {name: permit(rule_for(self.rules, name)) for name in {*self.methods, *STANDARD_METHODS}}

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
