"""Hook chains: registered per application or service, for all methods or by name; compiled once per service and method.

The order is Feathers' own, as measured (application outside, service inside):

    around all > around method > before all > before method > [the inner level or METHOD] > after all > after method

An error leaves through the error hooks of the method, then of all, level by level from the inside, and then reaches the
around hooks as an exception.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from hooks.context import UNSET, HookContext

Next = Callable[[], Awaitable[None]]
Hook = Callable[[HookContext], Any]
"""A before, after or error hook: changes the context; may be async; may return a context to go on with."""
AroundHook = Callable[[HookContext, Next], Awaitable[None]]
Run = Callable[[HookContext], Awaitable[None]]

KINDS = ("around", "before", "after", "error")
ALL = "all"


@dataclass(slots=True)
class Hooks:
    """The hooks of one level, by kind and method."""

    by_kind: dict[str, dict[str, list[Any]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def add(self, registration: Mapping[str, Any] | Sequence[AroundHook], methods: Iterable[str] | None = None) -> None:
        """Adds hooks in one of Feathers' three forms.

        `{kind: {method or "all": [hooks]}}` (a bare list under a kind means all methods), a list of around hooks for all
        methods, or `{method: [around hooks]}`.

        Raises:
            TypeError: something that is not callable, or an around hook that is not async.
            ValueError: a method that is not in `methods`.
        """
        known = None if methods is None else {*methods, ALL}
        if not isinstance(registration, Mapping):
            registration = {"around": {ALL: registration}}
        elif not set(registration) <= set(KINDS):
            registration = {"around": registration}
        for kind, entry in registration.items():
            for method, listed in (entry if isinstance(entry, Mapping) else {ALL: entry}).items():
                if known is not None and method not in known:
                    raise ValueError(f"'{method}' is not a method here, so it can have no {kind} hooks")
                hooks = [listed] if callable(listed) else list(listed)
                for hook in hooks:
                    _check_hook(kind, hook)
                self.by_kind[kind].setdefault(method, []).extend(hooks)

    def of(self, kind: str, method: str) -> list[Any]:
        """The hooks of a kind that are registered for exactly this name."""
        return self.by_kind[kind].get(method, [])


def compile_chain(levels: Sequence[Hooks], method: str, run: Run) -> Run:
    """One function that runs `run` inside all hooks of the levels, outermost level first.

    `run` is skipped when a before or around hook has set the result.
    """
    compiled = _unless_result(run)
    for hooks in reversed(levels):
        compiled = _after(hooks.of("after", ALL), compiled)
        compiled = _collected(hooks, method, compiled)
        compiled = _collected(hooks, ALL, compiled)
        for around in reversed([*hooks.of("around", ALL), *hooks.of("around", method)]):
            compiled = _around(around, compiled)
    return compiled


def _unless_result(run: Run) -> Run:
    async def run_unless_result(context: HookContext) -> None:
        if context.result is UNSET:
            await run(context)

    return run_unless_result


def _around(hook: AroundHook, inner: Run) -> Run:
    async def run_around(context: HookContext) -> None:
        await hook(context, lambda: inner(context))

    return run_around


def _collected(hooks: Hooks, method: str, inner: Run) -> Run:
    inner = _before(hooks.of("before", method), inner)
    if method != ALL:
        inner = _after(hooks.of("after", method), inner)
    return _error(hooks.of("error", method), inner)


def _before(hooks: Sequence[Hook], inner: Run) -> Run:
    if not hooks:
        return inner
    if isinstance(inner, _Before):
        return _Before((*hooks, *inner.steps), inner.inner)
    return _Before(tuple(hooks), inner)


class _Before:
    """Before hooks in a row, of whatever level: there is a coroutine for all of them, not one for each level."""

    __slots__ = ("inner", "steps")

    def __init__(self, steps: tuple[Hook, ...], inner: Run) -> None:
        self.steps = steps
        self.inner = inner

    async def __call__(self, context: HookContext) -> None:
        for hook in self.steps:
            answer = hook(context)
            if answer is not None:
                await _settle(context, answer)
        await self.inner(context)


def _after(hooks: Sequence[Hook], inner: Run) -> Run:
    if not hooks:
        return inner
    steps = tuple(hooks)

    async def run_after(context: HookContext) -> None:
        await inner(context)
        for hook in steps:
            answer = hook(context)
            if answer is not None:
                await _settle(context, answer)

    return run_after


def _error(hooks: Sequence[Hook], inner: Run) -> Run:
    if not hooks:
        return inner
    steps = tuple(hooks)

    async def run_error(context: HookContext) -> None:
        try:
            await inner(context)
        except Exception as error:
            context.error = error
            context.result = UNSET
            context.dispatch = UNSET
            for hook in steps:
                answer = hook(context)
                if answer is not None:
                    await _settle(context, answer)
                if context.result is not UNSET:
                    context.error = None
                    return
            if context.error is error:
                raise
            raise context.error from error

    return run_error


async def _settle(context: HookContext, answer: Any) -> None:
    """Awaits an async hook, and takes over what a hook returned: its context's public values."""
    if inspect.isawaitable(answer):
        answer = await answer
    if answer is None or answer is context:
        return
    if isinstance(answer, HookContext):
        answer = {name: getattr(answer, name) for name in _MERGED}
    if not isinstance(answer, Mapping):
        raise TypeError(f"A hook must return None, a context or a mapping of its values, not {type(answer).__name__}")
    for name in _MERGED:
        if name in answer:
            setattr(context, name, answer[name])


_MERGED = ("params", "id", "data", "result", "dispatch", "error", "event", "http")


def _check_hook(kind: str, hook: object) -> None:
    if not callable(hook):
        raise TypeError(f"A hook must be callable, not {hook!r}")
    if kind == "around" and not inspect.iscoroutinefunction(_function(hook)):
        raise TypeError(f"The around hook {hook!r} must be an async function of (context, next)")


def _function(hook: Callable[..., Any]) -> Any:
    call = cast("Any", hook).__call__ if not inspect.isroutine(hook) else hook
    return getattr(call, "func", call)
