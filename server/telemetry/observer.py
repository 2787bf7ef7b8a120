"""The observer: runs each call from outside, and tells metrics, traces and tails of it."""

from __future__ import annotations

import time

from hooks.context import HookContext
from hooks.timing import watched
from server.telemetry.metrics import Metrics
from server.telemetry.tail import Tail
from server.telemetry.traces import Traces
from services.application import Event
from services.registration import Registration


class Observer:
    """`Application.observe`, and what hears of events."""

    def __init__(self, metrics: Metrics, tail: Tail, traces: Traces | None = None) -> None:
        """`traces` is None where none are wanted."""
        self._metrics = metrics
        self._tail = tail
        self._traces = traces

    async def __call__(self, context: HookContext, registration: Registration) -> None:
        """Runs the call; what it raises goes on."""
        if context.params.tenant.id in self._tail.watched:
            await self._watch(context, registration)
        else:
            await self._run(context, registration)

    def event(self, event: Event, sockets: int) -> None:
        """An event has gone to so many sockets."""
        self._metrics.event(event.tenant, sockets)
        self._tail.event(event, sockets)

    async def _run(self, context: HookContext, registration: Registration, *, timed: bool = False) -> None:
        chain = registration.timed_chain(context.method) if timed else registration.chain(context.method)
        began = time.perf_counter()
        try:
            if self._traces is None:
                await chain(context)
            else:
                with self._traces.call(context):
                    await chain(context)
        except BaseException as error:
            self._metrics.call(context, time.perf_counter() - began, error)
            raise
        self._metrics.call(context, time.perf_counter() - began, None)

    async def _watch(self, context: HookContext, registration: Registration) -> None:
        began = time.perf_counter()
        error: BaseException | None = None
        with watched() as timings:
            try:
                await self._run(context, registration, timed=True)
            except BaseException as raised:
                error = raised
                raise
            finally:
                self._tail.call(context, time.perf_counter() - began, error, timings)
