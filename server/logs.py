"""Log lines: structlog to standard error, each with its tenant and call, JSON when nobody watches."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Protocol

import structlog

from hooks.context import Record
from hooks.tenant import current_tenant


class Caller(Protocol):
    """Whoever calls."""

    @property
    def user(self) -> Record | None: ...


call_id: ContextVar[str] = ContextVar("roost_call")
"""Names one call in all of its log lines."""
caller: ContextVar[Caller] = ContextVar("roost_caller")
"""The connection or the params of the call: whose `user` it is, when a line is written."""

_calls = itertools.count(1)


def current_call() -> str:
    """The name of the call that goes on; "-" where modules call as from outside, beside any transport."""
    return call_id.get("-")


def next_call_id() -> str:
    """A new name for a call, unique within this process."""
    return f"{next(_calls):x}"


def configure(level: str = "info", format: str = "auto") -> None:
    """Sets up structlog and sends the standard library's loggers the same way. May be called again."""
    as_json = format == "json" or (format == "auto" and not sys.stderr.isatty())
    renderer = structlog.processors.JSONRenderer() if as_json else _console()
    shared: list[Any] = [
        add_call,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    else:
        shared.append(escape_controls)
    threshold = getattr(logging, level.upper())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    # These two print payloads, passwords among them, at INFO.
    for name in ("engineio", "socketio", "engineio.server", "socketio.server"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("pymongo", "asyncio", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def add_call(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor: names the tenant, the call and the user of whatever goes on."""
    try:
        event.setdefault("tenant", current_tenant().id)
        event.setdefault("call", call_id.get())
        user = caller.get().user
        if user is not None:
            event.setdefault("user", str(user["_id"]))
    except LookupError:
        pass
    return event


def escape_controls(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor: what a library says about a request stays one line, and moves nobody's cursor."""
    text = event.get("event")
    if isinstance(text, str) and not text.isprintable():
        event["event"] = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return event


def _console() -> structlog.dev.ConsoleRenderer:
    # The default shows the local variables of each frame, and so passwords and tokens.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
