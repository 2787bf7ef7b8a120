"""The users service: open sign-up, one's own profile, and names that are unique inside the tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, MethodNotAllowed, NotFound
from hooks.password import Hasher, hash_password
from hooks.permit import Rule
from hooks.protect import protect
from hooks.unique import unique, unique_error
from services.authentication.names import check_name, name_key
from services.isolation import Isolation
from services.mongo import MongoService, ServiceOptions
from services.query import Paginate
from services.registration import HooksByKind

COLLECTION = "users"
KEY = "username_key"
"""Holds the normal form of the name. The unique index `(app_id, username_key)` is what keeps names unique."""
HIDDEN = ("password", KEY)
"""Fields that never leave the server, and by which no client may filter, sort or select."""
PAGES = Paginate(default=10, max=50)
GUARDED = frozenset({KEY, "roles", "permissions", "is_system", "verified"})
"""Fields that only the server itself may write, besides `app_id`, which is refused for all services alike."""

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

    def __init__(self, isolation: Isolation) -> None:
        super().__init__(isolation, ServiceOptions(COLLECTION, paginate=PAGES, hidden=frozenset(HIDDEN)))

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
        stays = {*profile, *GUARDED, *HIDDEN, "_id"}
        gone = {field: "" for record in found for field in record if field not in stays}
        changes = {"$set": profile, "$unset": gone} if gone else {"$set": profile}
        updated = await collection.find_one_and_update(own, changes)
        if updated is None:
            raise NotFound(f"No record found for id '{id}'")
        return updated


def users_hooks(hasher: Hasher) -> HooksByKind:
    """The service's hooks, for `Application.use`. Cheap checks come first, the hash last."""
    name_free, hashed, reword = unique(KEY, name_field), hash_password(hasher), unique_error(name_field)
    whole = [check_record, require_login_fields, derive_key, name_free, hashed]
    return {
        "before": {"create": [*whole], "update": [*whole], "patch": [check_record, derive_key, name_free, hashed]},
        "after": {"all": [protect(*HIDDEN)]},
        "error": {"create": [reword], "update": [reword], "patch": [reword]},
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
    for field in data:
        # An id is not chosen: that of a removed user would come back with the rights of the old one.
        if field.split(".")[0] in GUARDED or field.startswith("$") or (field == "_id" and context.method == "create"):
            raise BadRequest(f"'{field}' cannot be written")


def require_login_fields(context: HookContext) -> None:
    """Before create and update: who comes from outside gives a name, and on sign-up a password.

    Raises:
        BadRequest: one is missing; the message names it.
    """
    if context.params.provider is None:
        return
    field = name_field(context)
    if field not in context.data:
        raise BadRequest(f"The {field} is missing")
    if "password" not in context.data and context.method == "create":
        raise BadRequest("The password is missing")


def derive_key(context: HookContext) -> None:
    """Before create, update and patch: a name that is sent takes its key along.

    Raises:
        BadRequest: it is no name.
    """
    field = name_field(context)
    if field in context.data:
        context.data = {**context.data, KEY: name_key(check_name(context.data[field], field))}
