"""Scopes: an API key calls what its scopes name and nothing else.

A scope is `"<service>:<method>"`, where `*` stands for every service or method, or `"*"` alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from hooks.context import Authentication, HookContext, Params
from hooks.errors import Forbidden, NotAuthenticated

KEY_PREFIX = "rk_"
"""How the text of every API key begins."""
PRINCIPAL_PREFIX = "key:"
"""How the id of a key begins where a user's id would stand. No user logs in under such an id."""
STRATEGY = "api_key"
LOGIN = "authentication"
"""The service that a key may always call: to log in, and out again."""


def enforce_scopes(context: HookContext) -> Awaitable[None] | None:
    """Before all: verifies the API key that came with a request, and refuses what is outside of a key's scopes.

    Raises:
        NotAuthenticated: the key is not valid. Forbidden: its scopes do not name this call.
    """
    params = context.params
    if params.provider is None:
        return None
    if params.token is not None and not params.authenticated and params.token.startswith(KEY_PREFIX):
        return _verify(context)
    if params.authentication is not None:
        check_scopes(context, params.authentication)
    return None


async def _verify(context: HookContext) -> None:
    await context.app.authenticate(context.params)
    if context.params.authentication is not None:
        check_scopes(context, context.params.authentication)


def check_scopes(context: HookContext, login: Authentication) -> None:
    """Refuses what is outside of the scopes of a login that has any.

    Raises:
        Forbidden: they do not name this call.
    """
    # A token that a key has got in an organization has the key's scopes (TK-14).
    scopes = login.payload.get("scopes")
    if scopes is None or context.path == LOGIN:
        return
    if not is_within(scopes, context.path, context.method):
        raise Forbidden(f"This API key may not call '{context.method}' on '{context.path}'")


def person(params: Params) -> str:
    """The id of the user who calls: whoever it is, he is no program.

    Raises:
        NotAuthenticated: nobody is logged in. Forbidden: an API key calls.
    """
    if params.user is None:
        raise NotAuthenticated()
    user_id = str(params.user["_id"])
    if user_id.startswith(PRINCIPAL_PREFIX):
        raise Forbidden("An API key is no user: only users may do this")
    return user_id


def is_within(scopes: Iterable[str], path: str, method: str) -> bool:
    """Whether one of the scopes names this method of the service."""
    for scope in scopes:
        service, colon, name = scope.rpartition(":")
        if scope == "*" or (colon and service in ("*", path) and name in ("*", method)):
            return True
    return False
