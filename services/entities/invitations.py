"""The invitations service: somebody is asked by mail to join an organization, with roles that wait for him."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, Conflict, Forbidden, NotAuthenticated, TooManyRequests
from hooks.rules import Rule
from services.accounts.letters import Letters
from services.accounts.tokens import LIFETIMES, AccountTokens, invalid_token
from services.authentication.names import name_key
from services.entities.giving import check_roles
from services.entities.members import ROLE_IDS
from services.entities.options import required
from services.entities.records import Entities
from services.entities.registry import INVITATIONS, MEMBERS, ORGANIZATIONS, ROLES
from services.entities.service import EntityService, entity_hooks
from services.errands import Errands
from services.isolation import Isolation
from services.mail.addresses import is_address
from services.registration import HooksByKind

PURPOSE: Final = "organization_invite"
RULES: Mapping[str, Rule] = {
    "find": {"permission": "read:organization_members"},
    "get": {"permission": "read:organization_members"},
    "create": {"permission": "create:organization_members"},
    "remove": {"permission": "delete:organization_members"},
    "accept": "authenticated",
}
METHODS: Final = ("find", "create", "remove", "accept")
DECLARED: Mapping[str, Any] = {
    "org_id": {"type": "string", "required": True, "maxLength": 256},
    "email": {"type": "string", "required": True, "maxLength": 320},
    "roles": ROLE_IDS,
}


class InvitationsService(EntityService):
    """Invitations `{_id, org_id, email, roles, invited_by, expires_at}`. What opens one goes out by mail and nowhere else."""

    def __init__(
        self, isolation: Isolation, entities: Entities, tokens: AccountTokens, letters: Letters, errands: Errands
    ) -> None:
        super().__init__(isolation, INVITATIONS, DECLARED, readonly=("invited_by", "expires_at"))
        self.schema = {**self.schema, "invited_by": {"type": "string"}, "expires_at": {"type": "string"}}
        self._entities = entities
        self._tokens = tokens
        self._letters = letters
        self._errands = errands

    def hooks(self) -> HooksByKind:
        """The service's hooks."""
        return entity_hooks(self, create=[self._check_new])

    async def create(self, data: Any, params: Params) -> Record:
        """Keeps an invitation, and mails the link that opens it.

        Raises:
            TooManyRequests: too many mails are waiting.
        """
        tenant = params.tenant
        organization = await required(self._entities, tenant, ORGANIZATIONS, data["org_id"])
        invited_by = "" if params.user is None else str(params.user["_id"])
        expires = datetime.now(UTC) + LIFETIMES[PURPOSE]
        made = await super().create({**data, "invited_by": invited_by, "expires_at": expires}, params)
        subject, name = _subject(made), str(organization.get("display_name") or organization["name"])

        async def mail_link() -> None:
            await self._letters.send_link(
                tenant, PURPOSE, subject, made["email"], name=name, invitation_id=str(made["_id"])
            )

        if not self._errands.add(mail_link):
            await self._entities.of(tenant, INVITATIONS).delete_many({"_id": str(made["_id"])})
            raise TooManyRequests()
        return made

    async def remove(self, id: Any, params: Params) -> Record:
        """Takes an invitation back: its link opens nothing any more."""
        removed: Any = await super().remove(id, params)
        await self._tokens.void(params.tenant, _subject(removed))
        return dict(removed)

    async def accept(self, data: Any, params: Params) -> Record:
        """`{token}`: makes the caller a member, if the invitation was sent to his address; once.

        Raises:
            BadRequest: it is no token, was used or taken back, or has expired. Forbidden: it was sent to somebody else.
        """
        user, tenant = params.user, params.tenant
        if user is None:
            raise NotAuthenticated()
        async with self._tokens.use(tenant, PURPOSE, data.get("token") if isinstance(data, Mapping) else None) as token:
            email = user.get("email")
            if not isinstance(email, str) or name_key(email) != name_key(token["email"]):
                raise Forbidden("This invitation was sent to another address than that of your account")
            invitation = await self._entities.get(tenant, INVITATIONS, token["invitation_id"])
            if invitation is None:
                raise invalid_token()
            member = await self._entities.transaction(tenant, lambda: self._join(params, invitation, str(user["_id"])))
        return {"status": "done", "organization": invitation["org_id"], "member": str(member["_id"])}

    async def _join(self, params: Params, invitation: Record, user_id: str) -> Record:
        tenant, org_id = params.tenant, invitation["org_id"]
        await required(self._entities, tenant, ORGANIZATIONS, org_id)
        roles = [*await self._entities.existing(tenant, ROLES, invitation.get("roles", ()))]
        await self._entities.of(tenant, INVITATIONS).delete_many({"_id": str(invitation["_id"])})
        place = {"org_id": org_id, "user_id": user_id}
        found = await self._entities.change(tenant, MEMBERS, place, {"$addToSet": {"roles": {"$each": roles}}})
        return found or await self._entities.add(tenant, MEMBERS, {**place, "roles": roles})

    async def _check_new(self, context: HookContext) -> None:
        """Before create: a real address, an organization and roles that are there, and the caller has what he gives."""
        data, tenant = context.data, context.tenant
        if not is_address(data["email"]):
            raise BadRequest("The email must be an e-mail address such as ada@example.com")
        await required(self._entities, tenant, ORGANIZATIONS, data["org_id"])
        roles = await check_roles(self._entities, context.params, data.get("roles", ()))
        same = {"org_id": data["org_id"], "email": data["email"]}
        if await self._entities.of(tenant, INVITATIONS).count(same):
            raise Conflict("This address is invited already", {"reason": "Invited"})
        context.data = {**data, "roles": roles}


def _subject(invitation: Record) -> str:
    return f"invitation:{invitation['_id']}"
