"""The users service: open sign-up, one's own profile, and names that are unique inside the tenant."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, MethodNotAllowed, NotFound
from hooks.password import Hasher, hash_password
from hooks.protect import protect
from hooks.rules import Rule
from hooks.tenant import Tenant
from hooks.unique import unique, unique_error
from services.authentication.identities import Identities
from services.authentication.ledger import KEPT, VALID_AFTER, Ledger
from services.authentication.names import check_name, name_key
from services.authentication.policy import check_new_password
from services.database.schema import CollectionSchema, Index
from services.isolation import Isolation
from services.mail.addresses import is_address
from services.mongo import MongoService, ServiceOptions
from services.query import Paginate
from services.registration import HooksByKind
from services.update import check_value

COLLECTION = "users"
KEY = "username_key"
"""Holds the normal form of the name. The unique index `(app_id, username_key)` is what keeps names unique."""
ANONYMOUS = "anonymous"
"""True for a user who has neither name nor password, and logs in by the session that came with him alone."""
HIDDEN = ("password", KEY, VALID_AFTER, KEPT)
"""Fields that never leave the server, and by which no client may filter, sort or select."""
PAGES = Paginate(default=10, max=50)
GUARDED = frozenset({KEY, VALID_AFTER, KEPT, ANONYMOUS, "roles", "permissions", "is_system", "verified"})
"""Fields that only the server itself may write, besides `app_id`, which is refused for all services alike."""

COLLECTIONS = (CollectionSchema(COLLECTION, (Index((("app_id", 1), (KEY, 1)), unique=True),)),)

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_UNASSIGNED = frozenset({*HIDDEN, ANONYMOUS, "app_id", "is_system", "permissions", "username", "email", "verified"})
_PERMISSION = re.compile(r"[A-Za-z][A-Za-z0-9._:-]{0,63}")

_OWN: Rule = {"_id": "$user._id"}
USERS_RULES: Mapping[str, Rule] = {
    "find": "authenticated",
    "get": "authenticated",
    "create": "public",
    "update": _OWN,
    "patch": _OWN,
    "remove": _OWN,
}


class UsersService(MongoService):
    """The users of each tenant: `{_id, username or email, password, ...}`, with any other fields as a profile."""

    def __init__(
        self, isolation: Isolation, asked: Callable[[Tenant], frozenset[str]] = lambda tenant: frozenset()
    ) -> None:
        """`asked` names the fields that the tenant's access rules ask for: clients may not write those either."""
        super().__init__(isolation, ServiceOptions(COLLECTION, paginate=PAGES, hidden=frozenset(HIDDEN)))
        self.asked = asked

    async def update(self, id: Any, data: Any, params: Params) -> Record:
        """Replaces a user. From outside the visible profile is replaced, and what a client cannot read or write stays.

        Raises:
            NotFound: no user has the id and matches the query.
        """
        if params.provider is None or id is None or not isinstance(data, dict):
            return await super().update(id, data, params)
        collection = self._collection(params)
        own = self._identified(self._parse(params).filter, id)
        profile = self._without_id(data, params.tenant.id)
        found = await collection.find(own, limit=1)
        stays = {*profile, *GUARDED, *self.asked(params.tenant), *HIDDEN, "_id"}
        gone = {field: "" for record in found for field in record if field not in stays}
        changes = {"$set": profile, "$unset": gone} if gone else {"$set": profile}
        updated = await collection.find_one_and_update(own, changes)
        if updated is None:
            raise NotFound(f"No record found for id '{id}'")
        return updated


async def enter(
    isolation: Isolation, tenant: Tenant, name: str, password_hash: str, permissions: Sequence[str] = ()
) -> Record:
    """Makes a user whom nobody has signed up: one who is there before there are clients.

    Raises:
        BadRequest: that is no name. Conflict: it is taken.
    """
    field = tenant.auth.username_field
    user: Record = {field: check_name(name, field), KEY: name_key(name), "password": password_hash}
    user["permissions"] = [*permissions]
    await isolation.collection(tenant, COLLECTION).insert([user])
    return user


async def grant(isolation: Isolation, tenant: Tenant, name: str, permission: str, *, withdraw: bool = False) -> Record:
    """Gives a user a permission, or takes it away: clients never can. Live connections of running servers hear of it.

    Raises:
        BadRequest: that is no permission. NotFound: the tenant has no user of this name.
    """
    if not _PERMISSION.fullmatch(permission):
        raise BadRequest("A permission is a word of letters, digits and . : _ - that begins with a letter")
    change = {"$pull" if withdraw else "$addToSet": {"permissions": permission}}
    users = isolation.collection(tenant, COLLECTION)
    found = await users.find_one_and_update({KEY: name_key(name)}, change)
    if found is None:
        raise NotFound(f"The app '{tenant.id}' has no user '{name}'")
    return found


async def assign(isolation: Isolation, tenant: Tenant, name: str, field: str, value: Any) -> Record:
    """Gives a user's field a value, as access rules ask for it; None takes the field away. Live connections hear of it.

    Raises:
        BadRequest: a field that is not given like this. NotFound: the tenant has no user of this name.
    """
    if not _FIELD.fullmatch(field) or field in _UNASSIGNED or field == tenant.auth.username_field:
        raise BadRequest(f"'{field}' cannot be set")
    check_value(value)
    change = {"$unset": {field: ""}} if value is None else {"$set": {field: value}}
    found = await isolation.collection(tenant, COLLECTION).find_one_and_update({KEY: name_key(name)}, change)
    if found is None:
        raise NotFound(f"The app '{tenant.id}' has no user '{name}'")
    return found


def users_hooks(hasher: Hasher) -> HooksByKind:
    """The service's hooks, for `Application.use`. Cheap checks come first, the hash last."""
    reword = unique_error(name_field)
    checked = [derive_key, check_email, check_new_password, tell_taken(unique(KEY, name_field)), hash_password(hasher)]
    whole = [check_record, require_login_fields, make_full, *checked]
    changed = [check_record, make_full, *checked]
    return {
        "before": {"create": [*whole], "update": [*whole], "patch": changed},
        "after": {"all": [protect(*HIDDEN)]},
        "error": {"create": [reword], "update": [reword], "patch": [reword]},
    }


def session_hooks(ledger: Ledger, identities: Identities) -> HooksByKind:
    """What a user's sessions have to do with the user: a new password ends all but the caller's own, removal ends all."""

    def stamp(context: HookContext) -> None:
        if isinstance(context.data, dict) and "password" in context.data:
            # In the same write as the password, so that no login with the old one can come between.
            context.data = {**context.data, VALID_AFTER: ledger.now(), KEPT: _own_session(context)}

    async def end_others(context: HookContext) -> None:
        if isinstance(context.data, dict) and VALID_AFTER in context.data:
            await ledger.clear(context.tenant, str(context.result["_id"]), but=context.data.get(KEPT))

    async def end_all(context: HookContext) -> None:
        user_id = str(context.result["_id"])
        await identities.unlink_all(context.tenant, user_id)
        await ledger.clear(context.tenant, user_id)

    return {
        "before": {"update": [stamp], "patch": [stamp]},
        "after": {"update": [end_others], "patch": [end_others], "remove": [end_all]},
    }


def name_field(context: HookContext) -> str:
    """What the tenant calls a user's name: `username` or `email`."""
    return context.tenant.auth.username_field


def check_record(context: HookContext) -> None:
    """Before: lets through one record at a time, and from outside only fields that a client may write.

    Raises:
        MethodNotAllowed: several users at once. BadRequest: no object, or a guarded field; the message names it.
    """
    data = context.data
    if isinstance(data, list) or (context.method == "patch" and context.id is None):
        raise MethodNotAllowed(f"Can not {context.method} multiple entries")
    if not isinstance(data, dict):
        raise BadRequest("A user must be an object")
    if context.params.provider is None:
        return
    asked = context.service.asked(context.tenant) if isinstance(context.service, UsersService) else frozenset[str]()
    check_writable(data, context.method, asked)


def check_writable(data: Mapping[str, Any], method: str, asked: frozenset[str]) -> None:
    """Lets through what a client may write of a user. `asked` are the fields that the tenant's access rules ask for.

    Raises:
        BadRequest: a guarded field; the message names it.
    """
    for field in data:
        # An id is not chosen: that of a removed user would come back with the rights of the old one.
        name = field.split(".")[0]
        if name in GUARDED or name in asked or field.startswith("$") or (field == "_id" and method == "create"):
            raise BadRequest(f"'{field}' cannot be written")


def require_login_fields(context: HookContext) -> None:
    """Before create and update: who comes from outside gives a name, and on sign-up a password and what to confirm.

    Raises:
        BadRequest: one is missing; the message names it.
    """
    if context.params.provider is None:
        return
    field = name_field(context)
    if field not in context.data:
        raise BadRequest(f"The {field} is missing")
    if context.method != "create":
        return
    if "password" not in context.data:
        raise BadRequest("The password is missing")
    if context.tenant.auth.must_verify and context.data.get("email") is None:
        raise BadRequest("The email is missing")


def make_full(context: HookContext) -> None:
    """Before update and patch: an anonymous user who takes a name and a password is a full one from then on.

    Raises:
        BadRequest: one of the two is missing: such a user could never log in again.
    """
    user = context.params.user
    if context.params.provider is None or context.method == "create" or not user or not user.get(ANONYMOUS):
        return
    field = name_field(context)
    if (field in context.data) != ("password" in context.data):
        raise BadRequest(f"An anonymous user takes the {field} and the password together")
    if "password" in context.data:
        context.data = {**context.data, ANONYMOUS: False}


def derive_key(context: HookContext) -> None:
    """Before create, update and patch: a name that is sent takes its key along.

    Raises:
        BadRequest: it is no name.
    """
    field = name_field(context)
    if field in context.data:
        context.data = {**context.data, KEY: name_key(check_name(context.data[field], field))}


def check_email(context: HookContext) -> None:
    """Before create, update and patch: what is sent as `email` is an e-mail address, or null where it is not the name.

    Raises:
        BadRequest: it is not.
    """
    if "email" not in context.data:
        return
    email = context.data["email"]
    if not is_address(email) and (email is not None or name_field(context) == "email"):
        raise BadRequest("The email must be an e-mail address such as ada@example.com")


def tell_taken(check: Callable[[HookContext], Awaitable[None]]) -> Callable[[HookContext], Awaitable[None]]:
    """The friendly check for taken names, without which protected tenants leave it to the database alone."""

    async def tell(context: HookContext) -> None:
        if context.params.provider is None or not context.tenant.auth.protected:
            await check(context)

    return tell


def _own_session(context: HookContext) -> str | None:
    """The session of the call, if it is the user's own who is changed."""
    params = context.params
    if params.authentication is None or params.user is None or str(params.user["_id"]) != str(context.id):
        return None
    session = params.authentication.payload.get("sid")
    return session if isinstance(session, str) else None
