"""Plug-ins: modules that add services and hooks to the server without a fork."""

from __future__ import annotations

import importlib
import inspect

from server.backend import StartError
from services.application import Application
from services.composition import CompositionError


async def configure(app: Application, module: str) -> None:
    """Lets a module add its services and hooks by its `configure(app)`, which may be async.

    Raises:
        StartError: it cannot be imported, or has no such function, or asks for what there is not.
    """
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise StartError(f"ROOST_MODULES: '{module}' cannot be imported: {error}") from error
    if not callable(getattr(found, "configure", None)):
        raise StartError(f"ROOST_MODULES: '{module}' does not define configure(app)")
    try:
        outcome = found.configure(app)
        if inspect.isawaitable(outcome):
            await outcome
    except CompositionError as error:
        raise StartError(f"ROOST_MODULES: '{module}': {error}") from error
