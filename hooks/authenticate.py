"""Who is calling: takes the login of the connection, or verifies the token that came with the request."""

from __future__ import annotations

from hooks.context import HookContext
from hooks.errors import Forbidden, NotAuthenticated
from hooks.scopes import LOGIN, check_scopes


async def authenticate(context: HookContext) -> None:
    """Around or before: lets in internal calls and calls with a valid login, and refuses all others.

    Raises:
        NotAuthenticated: there is no login, or its token is not valid. Forbidden: it is for another app, or has scopes
            that do not name this call.
    """
    params = context.params
    if params.authenticated or params.provider is None:
        return
    if params.token is None:
        raise NotAuthenticated()
    await _verify(context)


async def identify(context: HookContext) -> None:
    """Before: like `authenticate`, for methods that are open to all: a caller without a valid login is a stranger."""
    params = context.params
    if params.authenticated or params.token is None:
        return
    try:
        await _verify(context)
    except NotAuthenticated:
        params.token = None
    except Forbidden:
        if context.path != LOGIN:
            raise
        # Whoever logs in need not have a login that is still good here.
        params.token = None


async def _verify(context: HookContext) -> None:
    await context.app.authenticate(context.params)
    if context.params.authentication is not None:
        check_scopes(context, context.params.authentication)
