"""Traces by OpenTelemetry, where it is installed (the extra `tracing`) and wanted: a span for each call and each command.

Where they go is for the program to say that configures the SDK, such as `opentelemetry-instrument`. Nothing is taken from
clients or handed on to other servers: trace context and baggage stay inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hooks.context import HookContext
from hooks.errors import FeathersError
from hooks.tenant import Tenant, current_tenant

NAME = "roost"


class NoTracing(Exception):
    """OpenTelemetry is not installed."""


class Traces:
    """Makes spans that carry their tenant."""

    def __init__(self, provider: Any = None) -> None:
        """`provider` is a `TracerProvider`; without one the global one is used.

        Raises:
            NoTracing: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise NoTracing("Traces need OpenTelemetry: install the extra 'tracing'") from error
        self._trace = trace
        self._tracer = trace.get_tracer(NAME, tracer_provider=provider)

    @contextmanager
    def call(self, context: HookContext) -> Iterator[None]:
        """A span around a call from outside, a root of its own."""
        tenant = context.params.tenant
        attributes = {
            **_of(tenant),
            "rpc.system": "feathers",
            "rpc.service": context.path,
            "rpc.method": context.method,
        }
        name = f"{context.path} {context.method}"
        kind = self._trace.SpanKind.SERVER
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                code = error.code if isinstance(error, FeathersError) else 500
                span.set_attribute("roost.error_code", code)
                if code >= 500:
                    # The type alone: messages may hold what belongs in no trace.
                    span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, type(error).__name__))
                raise

    def begin(self, name: str, **attributes: str) -> Any:
        """A span inside of the current one, for a command of the database."""
        with suppress(LookupError):
            attributes |= _of(current_tenant())
        return self._tracer.start_span(name, kind=self._trace.SpanKind.CLIENT, attributes=attributes)

    def end(self, span: Any, failed: str | None) -> None:
        """Ends such a span."""
        if failed is not None:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, failed))
        span.end()


def _of(tenant: Tenant) -> dict[str, Any]:
    return {"tenant.id": tenant.id, "app.epoch": tenant.epoch}
