"""The accounts service: `create {action, ...}`, which every Feathers client can call as it is.

Requests are answered alike whoever exists: whom they are about is looked up after the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from hooks.context import Caller, Params, Record
from hooks.errors import BadRequest, Forbidden, NotAuthenticated, NotFound, TooManyRequests
from hooks.rules import permissions_of
from hooks.tenant import Tenant
from hooks.unique import taken
from services.accounts.fields import address_of, key_of, text_of
from services.accounts.letters import Letters
from services.accounts.tokens import AccountTokens, invalid_token, mail_subject, mark_of, user_subject
from services.authentication.directory import Directory
from services.authentication.names import name_key
from services.authentication.passwords import Passwords
from services.authentication.policy import check_policy
from services.base import Service
from services.errands import Errand, Errands
from services.users import check_writable

PATH = "accounts"
USERS = "users"
INVITING = "admin"
"""The permission that inviting takes."""
MOST_ROLES = 20
ACTIONS = (
    "verify-request",
    "verify",
    "reset-request",
    "reset",
    "change-password",
    "change-email-request",
    "change-email",
    "invite",
    "accept-invitation",
    "remove-account",
)

Action = Callable[[Mapping[str, Any], Params], Awaitable[Record]]


class AccountsService(Service):
    """What people do about their own account. Answers `{action, status: "accepted" or "done", ...}`.

    Sessions end and tokens become void with a new password by the hooks of the users service, whoever sets it.
    """

    data_schema: Mapping[str, Any] = {
        "action": {"enum": [*ACTIONS], "required": True},
        "token": {"type": "string", "description": "From the link in a mail."},
        "password": {"type": "string", "format": "password", "writeOnly": True, "description": "A new one."},
        "currentPassword": {"type": "string", "format": "password", "writeOnly": True},
        "email": {"type": "string"},
    }
    schema: Mapping[str, Any] = {
        "action": {"enum": [*ACTIONS], "required": True},
        "status": {"enum": ["accepted", "done"], "required": True},
    }

    def __init__(
        self,
        app: Caller,
        tokens: AccountTokens,
        letters: Letters,
        errands: Errands,
        passwords: Passwords,
        *,
        asked: Callable[[Tenant], frozenset[str]],
    ) -> None:
        """`asked` names the fields of users that the tenant's access rules ask for, which clients may not write."""
        self._app = app
        self._asked = asked
        self._directory = Directory(app, USERS)
        self._tokens = tokens
        self._letters = letters
        self._errands = errands
        self._passwords = passwords
        self._actions: Mapping[str, Action] = {
            "verify-request": self._request_verification,
            "verify": self._verify,
            "reset-request": self._request_reset,
            "reset": self._reset,
            "change-password": self._change_password,
            "change-email-request": self._request_email,
            "change-email": self._change_email,
            "invite": self._invite,
            "accept-invitation": self._accept_invitation,
            "remove-account": self._remove,
        }

    async def create(self, data: Any, params: Params) -> Record:
        """Does what `action` names.

        Raises:
            BadRequest: no such action, a field that is missing or wrong, a token that does not work here and now, or a
                current password that is wrong. NotAuthenticated: the action is about one's own account, and there is no
                login. TooManyRequests: too much to do at this moment.
        """
        named = data.get("action") if isinstance(data, Mapping) else None
        action = self._actions.get(named) if isinstance(named, str) else None
        if action is None:
            raise BadRequest(f"The action must be one of {', '.join(self._actions)}")
        return {"action": named, "status": "done", **await action(data, params)}

    async def _request_verification(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{<username field>}`, or nothing for one's own account: mails a link that confirms the address."""
        tenant = params.tenant
        own = None if params.user is None else params.user["_id"]
        key = None if own is not None and data.get(tenant.auth.username_field) is None else key_of(data, tenant)

        async def mail_link() -> None:
            if key is not None:
                user = await self._directory.find(params, key)
            else:
                user = None if own is None else await self._load(tenant, own)
            if user is not None and user.get("verified") is not True:
                await send_verification(self._letters, tenant, user)

        return self._later(mail_link)

    async def _verify(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{token}`: the address to which the token was sent is the user's own."""
        async with self._tokens.use(params.tenant, "verify", data.get("token")) as token:
            user = await self._owner(params.tenant, token)
            await self._patch(params.tenant, user, {"verified": True}, email=token["email"])
        return {}

    async def _request_reset(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{<username field>}`: mails a link with which to choose a new password."""
        tenant, key = params.tenant, key_of(data, params.tenant)

        async def mail_link() -> None:
            user = None if key is None else await self._directory.find(params, key)
            if user is not None and isinstance(user.get("email"), str):
                name = user.get(tenant.auth.username_field)
                await self._letters.send_link(
                    tenant,
                    "reset",
                    user_subject(user["_id"]),
                    user["email"],
                    name=name if isinstance(name, str) else "",
                    user_id=str(user["_id"]),
                    mark=mark_of(user),
                )

        return self._later(mail_link)

    async def _reset(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{token, password}`: sets the password, and confirms the address, which the token has come from."""
        tenant, password = params.tenant, check_policy(data.get("password"), params.tenant.auth.password)
        async with self._tokens.use(tenant, "reset", data.get("token")) as token:
            user = await self._owner(tenant, token)
            change = {"password": password, "verified": True}
            await self._patch(tenant, user, change, email=token["email"], password=user.get("password"))
        return {}

    async def _change_password(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{currentPassword, password}`: the caller's own session goes on, the others end."""
        password = check_policy(data.get("password"), params.tenant.auth.password)
        user = await self._confirm(data, params)
        await self._patch(params.tenant, user, {"password": password}, caller=params, password=user.get("password"))
        return {}

    async def _request_email(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{email, currentPassword}`: mails a link to the new address."""
        tenant, email = params.tenant, address_of(data)
        user = await self._confirm(data, params)
        is_name = tenant.auth.username_field == "email"
        if is_name and not tenant.auth.protected and await self._is_taken(params, email, user):
            raise taken("email")

        async def mail_link() -> None:
            if is_name and await self._is_taken(params, email, user):
                await self._letters.send_notice(tenant, "taken", email)
                return
            await self._letters.send_link(
                tenant,
                "change_email",
                user_subject(user["_id"]),
                email,
                user_id=str(user["_id"]),
                mark=mark_of(user),
            )

        return self._later(mail_link)

    async def _change_email(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{token}`: the address to which the token was sent becomes the user's. The old one is told."""
        tenant = params.tenant
        async with self._tokens.use(tenant, "change_email", data.get("token")) as token:
            user = await self._owner(tenant, token)
            change = {"email": token["email"], "verified": True}
            await self._patch(tenant, user, change, password=user.get("password"))
        old = user.get("email")
        if isinstance(old, str):
            self._errands.add(lambda: self._letters.send_notice(tenant, "email_changed", old))
        return {}

    async def _invite(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{email, roles?}`: mails a link with which to sign up, confirmed and with these roles. For admins."""
        if params.provider is not None:
            if params.user is None:
                raise NotAuthenticated()
            if INVITING not in permissions_of(params.user):
                raise Forbidden(f"Inviting takes the permission '{INVITING}'")
        tenant, email, roles = params.tenant, address_of(data), _roles(data.get("roles"))
        if tenant.auth.username_field == "email" and await self._directory.find(params, name_key(email)) is not None:
            raise taken("email")
        subject = mail_subject(name_key(email))
        return self._later(lambda: self._letters.send_link(tenant, "invite", subject, email, roles=roles))

    async def _accept_invitation(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{token, password, username?, profile?}`: makes the invited user. The name is the address where it is one."""
        tenant, password = params.tenant, check_policy(data.get("password"), params.tenant.auth.password)
        profile = data.get("profile", {})
        if not isinstance(profile, Mapping):
            raise BadRequest("The profile must be an object")
        check_writable(profile, "create", self._asked(tenant))
        own = {**profile, "password": password}
        if tenant.auth.username_field != "email":
            own[tenant.auth.username_field] = text_of(data, tenant.auth.username_field)
        async with self._tokens.use(tenant, "invite", data.get("token")) as token:
            user = {**own, "email": token["email"], "verified": True}
            if token["roles"]:
                user["roles"] = token["roles"]
            made = (await self._app.call(USERS, "create", Params(tenant=tenant), data=user)).outcome
        await self._tokens.void(tenant, token["subject"])
        return {"user": made}

    async def _remove(self, data: Mapping[str, Any], params: Params) -> Record:
        """`{currentPassword}`: removes the user, and with it what Roost keeps of it."""
        user = await self._confirm(data, params)
        await self._app.call(USERS, "remove", params.internal(), id=user["_id"])
        return {}

    def _later(self, errand: Errand) -> Record:
        if not self._errands.add(errand):
            raise TooManyRequests()
        return {"status": "accepted"}

    async def _confirm(self, data: Mapping[str, Any], params: Params) -> Record:
        """The caller's whole record, after the current password has proved who asks.

        Raises:
            NotAuthenticated: nobody is logged in. BadRequest: the password is wrong.
        """
        if params.user is None:
            raise NotAuthenticated()
        password = text_of(data, "currentPassword")
        user = await self._load(params.tenant, params.user["_id"])
        if user is None:
            raise NotAuthenticated()
        hashed = user.get("password")
        # Not 401: official clients would take it for a word about their access token.
        if not isinstance(hashed, str) or not await self._passwords.verify(password, hashed):
            raise BadRequest("The current password is wrong")
        return user

    async def _owner(self, tenant: Tenant, token: Record) -> Record:
        """The user of a token, whose password is still the one that it was when the token was issued."""
        user = await self._load(tenant, token["user_id"])
        if user is None or mark_of(user) != token["mark"]:
            raise invalid_token()
        return user

    async def _load(self, tenant: Tenant, user_id: Any) -> Record | None:
        found = await self._directory.load(Params(tenant=tenant), user_id)
        return None if found is None else found[0]

    async def _patch(
        self, tenant: Tenant, user: Record, change: Record, *, caller: Params | None = None, **unchanged: Any
    ) -> None:
        """Changes a user, if it still has the values `unchanged`.

        Raises:
            BadRequest: it has others by now, and the token does not count any more.
        """
        params = Params(tenant=tenant, query=unchanged) if caller is None else caller.internal(unchanged)
        try:
            await self._app.call(USERS, "patch", params, id=user["_id"], data=change)
        except NotFound as error:
            raise invalid_token() from error

    async def _is_taken(self, params: Params, email: str, user: Record) -> bool:
        found = await self._directory.find(params, name_key(email))
        return found is not None and found["_id"] != user["_id"]


async def send_verification(letters: Letters, tenant: Tenant, user: Record) -> None:
    """Mails a user the link that confirms the address, if there is one."""
    if isinstance(user.get("email"), str):
        await letters.send_link(
            tenant,
            "verify",
            user_subject(user["_id"]),
            user["email"],
            user_id=str(user["_id"]),
            mark=mark_of(user),
        )


def _roles(value: object) -> Sequence[str]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_ROLES or not all(_is_role(role) for role in value):
        raise BadRequest(f"The roles must be a list of at most {MOST_ROLES} texts")
    return value


def _is_role(role: object) -> bool:
    return isinstance(role, str) and 0 < len(role) <= 64
