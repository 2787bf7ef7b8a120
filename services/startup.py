"""The start and the end of all services, and the hooks around them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypedDict

import structlog

from hooks.chain import Next
from services.registration import Registration

log = structlog.get_logger()

KINDS: Final = ("setup", "teardown")
LifecycleHook = Callable[[Any, Next], Awaitable[None]]
"""`async (app, next)`: around the set-up or the end of all services."""


class LifecycleHooks(TypedDict, total=False):
    """What runs when the server starts and ends."""

    setup: Sequence[LifecycleHook]
    teardown: Sequence[LifecycleHook]


class Startup:
    """Sets services up and takes those down again that it has set up, inside the hooks of an application."""

    def __init__(self) -> None:
        self._hooks: dict[str, list[LifecycleHook]] = {kind: [] for kind in KINDS}
        self._ready: list[Registration] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it is too late to have a service set up."""
        return self._ready is not None

    def add(self, kind: str, hooks: Any) -> None:
        """Adds hooks, as plug-ins give them, around one of `KINDS`.

        Raises:
            TypeError: something that is no hook.
        """
        for hook in [*hooks]:
            if not inspect.iscoroutinefunction(hook):
                raise TypeError(f"The setup or teardown hook {hook!r} must be an async function of (app, next)")
            self._hooks[kind].append(hook)

    async def set_up(self, app: Any, services: Mapping[str, Registration]) -> None:
        """See `Application.setup`."""

        async def run() -> None:
            for registration in [*services.values()]:
                if hasattr(registration.service, "setup"):
                    await settle(registration.service.setup(app, registration.path))
                ready.append(registration)

        ready = self._ready = []
        try:
            await self._run("setup", app, run)
        except BaseException:
            await self.tear_down(app)
            raise

    async def tear_down(self, app: Any) -> None:
        """See `Application.teardown`."""

        async def run() -> None:
            for registration in reversed(ready):
                if hasattr(registration.service, "teardown"):
                    try:
                        await settle(registration.service.teardown(app, registration.path))
                    except Exception:
                        log.exception("teardown failed", service=registration.path)

        ready, self._ready = self._ready or [], None
        try:
            await self._run("teardown", app, run)
        except Exception:
            log.exception("teardown failed")

    async def _run(self, kind: str, app: Any, run: Next) -> None:
        for hook in reversed(self._hooks[kind]):
            run = partial(hook, app, run)
        await run()


async def settle(outcome: Awaitable[None] | None) -> None:
    """Awaits what a function that may be async has given."""
    if inspect.isawaitable(outcome):
        await outcome
