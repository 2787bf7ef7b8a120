"""Hooks of the users service for what accounts are about: confirmed addresses, void tokens, and who has an account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bson import ObjectId

from hooks.chain import Next
from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, Conflict, NotFound
from hooks.rules import permissions_of
from hooks.scopes import STRATEGY
from hooks.tenancy import FIELD
from services.accounts.letters import Letters
from services.accounts.service import INVITING, USERS, send_verification
from services.accounts.tokens import AccountTokens, user_subject
from services.application import Deliver, Event
from services.authentication.directory import Directory
from services.authentication.names import name_key
from services.errands import Errands
from services.registration import HooksByKind
from services.users import HIDDEN, KEY


def account_hooks(tokens: AccountTokens, letters: Letters, errands: Errands) -> HooksByKind:
    """The hooks, to be added to those that the users service has."""
    conceal, void = conceal_taken(letters, errands), void_tokens(tokens)
    ask = ask_to_verify(letters, errands)
    return {
        "around": {"create": [conceal]},
        "before": {
            "find": [show_oneself],
            "get": [show_oneself],
            "create": [meet_taken(tokens)],
            "update": [keep_name, doubt_address],
            "patch": [keep_name, doubt_address],
        },
        "after": {"create": [ask], "update": [void, ask], "patch": [void, ask], "remove": [void]},
    }


def meet_taken(tokens: AccountTokens) -> Callable[[HookContext], Awaitable[None]]:
    """Before create, the last: in a protected tenant a taken name costs what a free one does, a reading and a writing.

    Raises:
        Conflict: it is taken.
    """

    async def meet(context: HookContext) -> None:
        if _is_protected(context) and await _owner(context) is not None:
            await tokens.write_nothing(context.tenant)
            raise Conflict()

    return meet


def conceal_taken(letters: Letters, errands: Errands) -> Callable[[HookContext, Next], Awaitable[None]]:
    """Around create: in a protected tenant a sign-up with a taken name answers as any other, and its owner gets a mail."""

    async def conceal(context: HookContext, next: Next) -> None:
        try:
            await next()
        except Conflict:
            if not _is_protected(context):
                raise

            async def tell_owner() -> None:
                owner = await _owner(context)
                if owner is not None and isinstance(owner.get("email"), str):
                    await letters.send_notice(context.tenant, "taken", owner["email"])

            errands.add(tell_owner)
            unseen = {*HIDDEN, FIELD, "_id"}
            shown = {field: value for field, value in context.data.items() if field not in unseen}
            context.result = context.dispatch = {"_id": ObjectId(), **shown}
            context.error = context.event = None

    return conceal


def show_oneself(context: HookContext) -> None:
    """Before find and get: in a protected tenant one sees oneself; only admins and API keys see others."""
    user, login = context.params.user, context.params.authentication
    is_key = login is not None and login.strategy == STRATEGY
    if _is_protected(context) and not is_key and INVITING not in permissions_of(user):
        own = {"_id": None if user is None else user["_id"]}
        context.params.query = {**context.params.query, "$and": [*context.params.query.get("$and", []), own]}


def keep_name(context: HookContext) -> None:
    """Before update and patch: in a protected tenant a name that may be taken is not tried out.

    Raises:
        BadRequest: another name than the user has.
    """
    key = context.data.get(KEY)
    if key is None or not _is_protected(context):
        return
    field = context.tenant.auth.username_field
    own = (context.params.user or {}).get(field)
    if not isinstance(own, str) or name_key(own) != key:
        hint = ": use the action change-email-request of the service accounts" if field == "email" else ""
        raise BadRequest(f"The {field} cannot be changed here{hint}")


async def doubt_address(context: HookContext) -> None:
    """Before update and patch: an address that is new is not confirmed, in the same write."""
    if "email" not in context.data or "verified" in context.data:
        return
    try:
        found = await context.app.call(context.path, "get", Params(tenant=context.tenant), id=context.id)
    except NotFound:
        return
    if found.result.get("email") != context.data["email"]:
        context.data = {**context.data, "verified": False}


def ask_to_verify(letters: Letters, errands: Errands) -> Callable[[HookContext], None]:
    """After create, update and patch: where an address must be confirmed, one that is new is sent the link."""

    def ask(context: HookContext) -> None:
        user: Record = context.result
        fresh = context.method == "create" or context.data.get("verified") is False
        if fresh and context.params.provider is not None and context.tenant.auth.must_verify:

            async def mail_link() -> None:
                await send_verification(letters, context.tenant, user)

            errands.add(mail_link)

    return ask


def void_tokens(tokens: AccountTokens) -> Callable[[HookContext], Awaitable[None]]:
    """After update, patch and remove: with a password, an address or the user itself go all links that were mailed."""

    async def void(context: HookContext) -> None:
        changed = context.method == "remove" or "password" in context.data or "verified" in context.data
        if changed:
            await tokens.void(context.tenant, user_subject(context.result["_id"]))

    return void


def hush_users(deliver: Deliver) -> Deliver:
    """A delivery of events that keeps those of the users service inside the server where the tenant is protected."""

    def deliver_unless_hushed(event: Event) -> Awaitable[None] | None:
        return None if event.registration.path == USERS and event.tenant.auth.protected else deliver(event)

    return deliver_unless_hushed


async def _owner(context: HookContext) -> Record | None:
    return await Directory(context.app).find(Params(tenant=context.tenant), str(context.data.get(KEY)))


def _is_protected(context: HookContext) -> bool:
    return context.tenant.auth.protected and context.params.provider is not None
