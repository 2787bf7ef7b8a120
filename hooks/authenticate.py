"""Who is calling: takes the login of the connection, or verifies the token that came with the request."""

from __future__ import annotations

from hooks.context import HookContext
from hooks.errors import NotAuthenticated


async def authenticate(context: HookContext) -> None:
    """Around or before: lets in internal calls and calls with a valid login, and refuses all others.

    Raises:
        NotAuthenticated: there is no login, or its token is not valid.
    """
    params = context.params
    if params.authenticated or params.provider is None:
        return
    if params.token is None:
        raise NotAuthenticated()
    await context.app.authenticate(params)


async def identify(context: HookContext) -> None:
    """Before: like `authenticate`, for methods that are open to all: a caller without a valid login is a stranger."""
    params = context.params
    if params.authenticated or params.token is None:
        return
    try:
        await context.app.authenticate(params)
    except NotAuthenticated:
        params.token = None
