"""How long each hook of a call takes: for a call that is watched, by a chain of its own, so that others pay nothing."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from hooks.chain import KINDS, AroundHook, Hook, Hooks, Next, Run
from hooks.context import HookContext


class Timing(NamedTuple):
    """What one step of a call took, without the steps inside of it."""

    kind: str
    name: str
    seconds: float


_timings: ContextVar[list[Timing]] = ContextVar("roost_timings")


@contextmanager
def watched() -> Iterator[list[Timing]]:
    """Collects the timings of a call that runs through timed hooks inside of the block."""
    found: list[Timing] = []
    token = _timings.set(found)
    try:
        yield found
    finally:
        _timings.reset(token)


def timed(hooks: Hooks) -> Hooks:
    """The same hooks, each of which notes how long it takes."""
    copy = Hooks()
    for kind in KINDS:
        for method, listed in hooks.by_kind[kind].items():
            copy.by_kind[kind][method] = [
                _timed_around(hook) if kind == "around" else _timed_step(kind, hook) for hook in listed
            ]
    return copy


def timed_run(run: Run) -> Run:
    """The same method, noting how long it takes."""

    async def timed_method(context: HookContext) -> None:
        began = time.perf_counter()
        try:
            await run(context)
        finally:
            _note("method", context.method, time.perf_counter() - began)

    return timed_method


def _timed_step(kind: str, hook: Hook) -> Hook:
    name = _name(hook)

    def timed_hook(context: HookContext) -> Any:
        began = time.perf_counter()
        answer = hook(context)
        if inspect.isawaitable(answer):
            return _finish(kind, name, began, answer)
        _note(kind, name, time.perf_counter() - began)
        return answer

    return timed_hook


async def _finish(kind: str, name: str, began: float, answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    finally:
        _note(kind, name, time.perf_counter() - began)


def _timed_around(hook: AroundHook) -> AroundHook:
    name = _name(hook)

    @functools.wraps(_plain(hook))
    async def timed_hook(context: HookContext, next: Next) -> None:
        inside = 0.0

        async def timed_next() -> None:
            nonlocal inside
            entered = time.perf_counter()
            try:
                await next()
            finally:
                inside += time.perf_counter() - entered

        began = time.perf_counter()
        try:
            await hook(context, timed_next)
        finally:
            _note("around", name, time.perf_counter() - began - inside)

    return timed_hook


def _note(kind: str, name: str, seconds: float) -> None:
    found = _timings.get(None)
    if found is not None:
        found.append(Timing(kind, name, seconds))


def _plain(hook: Any) -> Any:
    return getattr(hook, "func", hook)


def _name(hook: Any) -> str:
    """`limit` of a hook that `limit(...)` has made, else the function's own name."""
    plain = _plain(hook)
    name = str(getattr(plain, "__qualname__", type(plain).__name__))
    outer, local, _ = name.rpartition(".<locals>.")
    return outer.rpartition(".")[2] if local else name
