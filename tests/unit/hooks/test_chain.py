"""Hooks run in Feathers' measured order, and errors leave the way they do there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hooks.chain import Hooks, Next, compile_chain
from hooks.context import UNSET, HookContext, Params
from hooks.errors import BadRequest, Conflict
from hooks.tenant import Tenant

Trace = list[str]


def a_context(method: str = "create") -> HookContext:
    params = Params(tenant=Tenant("acme", "Acme"))
    return HookContext(app=None, service=None, path="s", method=method, params=params)  # type: ignore[arg-type]


def step(trace: Trace, name: str) -> Callable[[HookContext], None]:
    def hook(context: HookContext) -> None:
        trace.append(name)

    return hook


def around(trace: Trace, name: str) -> Callable[[HookContext, Next], Awaitable[None]]:
    async def hook(context: HookContext, next: Next) -> None:
        trace.append(f"{name} >")
        try:
            await next()
        finally:
            trace.append(f"< {name}")

    return hook


def every_kind(trace: Trace, level: str) -> Hooks:
    hooks = Hooks()
    for scope in ("all", "create"):
        hooks.add(
            {
                "around": {scope: [around(trace, f"{level} around {scope}")]},
                "before": {scope: [step(trace, f"{level} before {scope}")]},
                "after": {scope: [step(trace, f"{level} after {scope}")]},
                "error": {scope: [step(trace, f"{level} error {scope}")]},
            }
        )
    return hooks


async def succeed(context: HookContext) -> None:
    context.result = "done"


async def fail(context: HookContext) -> None:
    raise Conflict()


async def test_success_runs_in_the_measured_order() -> None:
    trace: Trace = []

    async def method(context: HookContext) -> None:
        trace.append("METHOD")
        context.result = 1

    await compile_chain([every_kind(trace, "app"), every_kind(trace, "service")], "create", method)(a_context())
    assert trace == [
        "app around all >",
        "app around create >",
        "app before all",
        "app before create",
        "service around all >",
        "service around create >",
        "service before all",
        "service before create",
        "METHOD",
        "service after all",
        "service after create",
        "< service around create",
        "< service around all",
        "app after all",
        "app after create",
        "< app around create",
        "< app around all",
    ]


async def test_error_hooks_run_from_the_inside_and_by_method_first() -> None:
    trace: Trace = []
    chain = compile_chain([every_kind(trace, "app"), every_kind(trace, "service")], "create", fail)
    with pytest.raises(Conflict):
        await chain(a_context())
    assert [name for name in trace if "error" in name] == [
        "service error create",
        "service error all",
        "app error create",
        "app error all",
    ]
    assert trace[-2:] == ["< app around create", "< app around all"]


async def test_hooks_of_another_method_do_not_run() -> None:
    trace: Trace = []
    await compile_chain([every_kind(trace, "app")], "find", succeed)(a_context("find"))
    assert not [name for name in trace if "create" in name]


async def test_a_before_hook_that_sets_the_result_spares_the_method() -> None:
    trace: Trace = []
    hooks = Hooks()

    def answer(context: HookContext) -> None:
        context.result = None

    hooks.add({"before": {"all": [answer, step(trace, "later")]}, "after": {"all": [step(trace, "after")]}})
    context = a_context()
    await compile_chain([hooks], "create", fail)(context)
    assert context.result is None
    assert trace == ["later", "after"]


async def test_an_around_hook_that_does_not_go_on_ends_the_chain() -> None:
    hooks = Hooks()

    async def cached(context: HookContext, next: Next) -> None:
        context.result = "cached"

    hooks.add([cached])
    context = a_context()
    await compile_chain([hooks], "create", fail)(context)
    assert context.result == "cached"


async def test_an_error_hook_may_swallow_the_error() -> None:
    hooks = Hooks()

    def swallow(context: HookContext) -> None:
        assert isinstance(context.error, Conflict)
        context.result = "instead"

    hooks.add({"error": {"create": [swallow]}})
    context = a_context()
    await compile_chain([hooks], "create", fail)(context)
    assert (context.result, context.error) == ("instead", None)


async def test_an_error_hook_may_change_the_error_and_the_cause_is_kept() -> None:
    hooks = Hooks()

    def reword(context: HookContext) -> None:
        context.error = BadRequest("better")

    hooks.add({"error": {"all": [reword]}})
    with pytest.raises(BadRequest, match="better") as caught:
        await compile_chain([hooks], "create", fail)(a_context())
    assert isinstance(caught.value.__cause__, Conflict)


async def test_a_failed_call_has_no_result() -> None:
    hooks = Hooks()
    seen: list[Any] = []

    def late(context: HookContext) -> None:
        raise Conflict()

    hooks.add({"after": {"create": [late]}, "error": {"create": [lambda context: seen.append(context.result)]}})
    with pytest.raises(Conflict):
        await compile_chain([hooks], "create", succeed)(a_context())
    assert seen == [UNSET]


async def test_async_hooks_are_awaited_and_returned_values_are_taken_over() -> None:
    hooks = Hooks()

    async def stamp(context: HookContext) -> dict[str, Any]:
        return {"data": {"text": "hi"}}

    hooks.add({"before": {"create": [stamp]}})
    context = a_context()
    await compile_chain([hooks], "create", succeed)(context)
    assert context.data == {"text": "hi"}


async def test_a_hook_that_returns_nonsense_is_told_so() -> None:
    hooks = Hooks()
    hooks.add({"before": {"create": [lambda context: 5]}})
    with pytest.raises(TypeError, match="must return"):
        await compile_chain([hooks], "create", succeed)(a_context())


async def test_the_three_forms_of_registration() -> None:
    trace: Trace = []
    hooks = Hooks()
    hooks.add([around(trace, "list")])
    hooks.add({"create": [around(trace, "method")]})
    hooks.add({"before": [step(trace, "bare")]})
    await compile_chain([hooks], "create", succeed)(a_context())
    assert trace == ["list >", "method >", "bare", "< method", "< list"]


def test_registration_refuses_what_could_not_run() -> None:
    hooks = Hooks()
    with pytest.raises(TypeError, match="callable"):
        hooks.add({"before": {"all": [5]}})
    with pytest.raises(TypeError, match="async"):
        hooks.add([lambda context, next: None])  # type: ignore[list-item, return-value]
    with pytest.raises(ValueError, match="not a method"):
        hooks.add({"before": {"creat": []}}, ["create"])
