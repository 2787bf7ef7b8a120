"""Grants: what somebody may do, by the roles that he has, in exactly one scope (TK-10).

Without an organization it is what he has everywhere: his own permissions and the roles given to him globally. In an
organization it is what the roles of his membership allow. Whatever a role holds counts as far as the resource servers of the
tenant define it now; Roost's own permissions are the scopes of `management` and come from nowhere else (TK-11).

All of it is kept in memory, within bounds, until somebody tells of a change: then it is found anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from hooks.context import Record
from hooks.errors import Forbidden, NotAuthenticated
from hooks.permission import ADMIN_ORGANIZATIONS, PLATFORM, PRINCIPAL_PREFIX, TENANT_ADMIN, effective
from hooks.rules import permissions_of
from hooks.tenant import Tenant
from services.authentication.principals import Grant, not_a_member, unavailable
from services.authentication.tokens import Issuers, Scope, effective_tenant, mismatch
from services.entities.giving import MANAGEMENT_SERVER, OWN_WORDS, management_of
from services.entities.names import canonical
from services.entities.records import Entities
from services.entities.registry import GLOBAL, MEMBERS, ORGANIZATIONS, RESOURCE_SERVERS, ROLE_PERMISSIONS, USER_ROLES

MOST: Final = 20_000
"""People, with the organization in which they act, whose permissions are remembered."""
HEAVIEST: Final = 1_000_000
"""Words and ids that are remembered of all of them together."""
NOBODY: Final = "0" * 24
"""An organization's id that is nobody's: who asks for one that there is not is looked for in it."""

_Key = tuple[str, str, str]
"""The tenant's id, the user's, and that of the organization or `GLOBAL`."""


@dataclass(slots=True, eq=False)
class Held:
    """What somebody holds in one scope."""

    words: frozenset[str]
    """What his roles allow."""
    rests_on: frozenset[str] = frozenset()
    """The ids of the records by which he has roles, and of the roles."""
    version: str = ""
    """Of the membership: another one whenever the membership or what it allows is another."""
    member: bool = True
    org_name: str = ""
    tenant_id: str | None = None
    """The tenant that the organization stands for."""
    is_stale: bool = False
    """Set when something that it rests on has changed."""

    @property
    def weight(self) -> int:
        """What it takes to remember."""
        return 1 + len(self.words) + len(self.rests_on)


class Grants:
    """Implements `services.authentication.principals.Principals`."""

    def __init__(self, entities: Entities, tenants: Issuers, *, most: int = MOST, heaviest: int = HEAVIEST) -> None:
        """`tenants` finds tenants by their ids."""
        self._entities = entities
        self._tenants = tenants
        self._most = most
        self._heaviest = heaviest
        self._weight = 0
        self._kept: OrderedDict[_Key, Held] = OrderedDict()
        self._by_tenant: dict[str, set[_Key]] = {}
        self._loading: dict[_Key, list[Held]] = {}
        self._incomplete: set[str] = set()
        """The tenants of which somebody may be logged in whose permissions are not kept."""

    async def grant(self, tenant: Tenant, issuer: Tenant, claims: Mapping[str, Any]) -> Grant:
        """See `Principals`. Claims without `mv` are those of a live connection, which follows what changes.

        Raises:
            NotAuthenticated: what the token says of the membership holds no more. Forbidden: no member any more.
        """
        sub, org_id = str(claims["sub"]), claims.get("org_id")
        if org_id is None:
            held = await self._held(issuer, sub, GLOBAL)
            if effective_tenant(claims) == tenant.id:
                return _Everywhere(held)
            return _Administrator(held, sub)
        held = await self._held(issuer, sub, str(org_id))
        if not held.member:
            raise not_a_member()
        if held.version != claims.get("mv", held.version) or (held.tenant_id or issuer.id) != tenant.id:
            raise NotAuthenticated(
                "Your rights have changed: get a new token", data={"name": "StaleTokenError", "reason": "token_stale"}
            )
        inherited = await self._held(issuer, sub, GLOBAL) if _inherits(issuer) else None
        return _Inside(held, inherited, PRINCIPAL_PREFIX + sub if tenant.id != issuer.id else None)

    async def enter(self, issuer: Tenant, user_id: str, named: str) -> Scope | Forbidden:
        """See `Principals`. That there is no such organization takes as long to say as that one is no member."""
        found = await self._entities.get(issuer, ORGANIZATIONS, named)
        if found is None:
            found = await self._entities.first(issuer, ORGANIZATIONS, {"name": canonical(named)})
        else:
            await self._entities.first(issuer, ORGANIZATIONS, {"name": canonical(named)})
        return await self._enter(issuer, user_id, found)

    async def enter_tenant(self, issuer: Tenant, user_id: str, tenant: Tenant) -> Scope | Forbidden:
        """See `Principals`."""
        found = await self._entities.first(issuer, ORGANIZATIONS, {"tenant_id": tenant.id})
        return await self._enter(issuer, user_id, found if issuer.is_control_plane else None)

    async def _enter(self, issuer: Tenant, user_id: str, found: Record | None) -> Scope | Forbidden:
        org_id = NOBODY if found is None else str(found["_id"])
        member = await self._entities.first(issuer, MEMBERS, {"org_id": org_id, "user_id": user_id})
        if found is None or member is None:
            return not_a_member()
        # What is remembered may be older than the membership.
        self.forget_user(issuer.id, user_id)
        held = await self._held(issuer, user_id, org_id)
        if not held.member or (issuer.is_control_plane and held.tenant_id is None):
            return not_a_member()
        tenant = issuer if held.tenant_id is None else await self._tenants(held.tenant_id)
        if tenant is None or not tenant.is_serving:
            return unavailable()
        return Scope(tenant, org_id, held.org_name, sorted(held.words), held.version)

    async def permissions(self, tenant: Tenant, user_id: str, org_id: str | None = None) -> frozenset[str] | None:
        """What the roles of a user allow now, in an organization or everywhere; None when he is no member there."""
        held = await self._held(tenant, user_id, org_id or GLOBAL)
        return effective(held.words) if held.member else None

    def forget_user(self, tenant_id: str, user_id: str) -> set[str] | None:
        """Somebody's roles or memberships have changed. Like all of these it answers with those whom it concerns."""
        self._drop(key for key in self._of(tenant_id) if key[1] == user_id)
        return {user_id}

    def forget_record(self, tenant_id: str, id: str) -> set[str] | None:
        """A membership, an organization, a role or what gives one has changed or gone. None is: perhaps everybody."""
        return self._forget(tenant_id, lambda key, held: key[2] == id or id in held.rests_on)

    def forget_roles(self, tenant_id: str) -> set[str] | None:
        """What the roles of a tenant allow has changed: whoever has none need not be looked at."""
        return self._forget(tenant_id, lambda key, held: bool(held.rests_on))

    def forget_tenant(self, tenant_id: str) -> None:
        """Changes of one tenant may have been missed."""
        self._drop(self._of(tenant_id))

    def forget_all(self) -> None:
        """Changes may have been missed."""
        self._drop([*self._kept, *self._loading])

    def _forget(self, tenant_id: str, concerns: Callable[[_Key, Held], bool]) -> set[str] | None:
        found = [key for key in self._by_tenant.get(tenant_id, ()) if concerns(key, self._kept[key])]
        # Of those who are being looked for nobody knows yet what they rest on.
        found += [key for key in self._loading if key[0] == tenant_id]
        self._drop(found)
        if tenant_id in self._incomplete:
            self._incomplete.discard(tenant_id)
            return None
        return {key[1] for key in found}

    def _of(self, tenant_id: str) -> list[_Key]:
        return [*self._by_tenant.get(tenant_id, ()), *(key for key in self._loading if key[0] == tenant_id)]

    def _drop(self, keys: Iterable[_Key]) -> None:
        for key in [*keys]:
            kept = self._kept.pop(key, None)
            self._weight -= 0 if kept is None else kept.weight
            self._leave(key)
            for held in (*([] if kept is None else [kept]), *self._loading.get(key, ())):
                held.is_stale = True

    def _leave(self, key: _Key) -> None:
        own = self._by_tenant.get(key[0])
        if own is not None:
            own.discard(key)
            if not own:
                del self._by_tenant[key[0]]

    async def _held(self, tenant: Tenant, user_id: str, org_id: str) -> Held:
        key = (tenant.id, user_id, org_id)
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
            return known
        held = Held(frozenset())
        loading = self._loading.setdefault(key, [])
        loading.append(held)
        try:
            await (self._read_global(tenant, user_id, held) if org_id == GLOBAL else self._read(tenant, key, held))
        finally:
            loading.remove(held)
            if not loading:
                self._loading.pop(key, None)
        if held.is_stale:
            self._incomplete.add(tenant.id)
            return held
        # Somebody else may have looked for the same at the same time: one of the two is told of changes.
        known = self._kept.get(key)
        if known is None:
            self._remember(key, held)
        return known or held

    def _remember(self, key: _Key, held: Held) -> None:
        self._weight += held.weight
        self._kept[key] = held
        self._by_tenant.setdefault(key[0], set()).add(key)
        while len(self._kept) > self._most or self._weight > self._heaviest:
            oldest, gone = self._kept.popitem(last=False)
            self._weight -= gone.weight
            self._leave(oldest)
            self._incomplete.add(oldest[0])

    async def _read_global(self, tenant: Tenant, user_id: str, held: Held) -> None:
        given = await self._entities.find(tenant, USER_ROLES, {"user_id": user_id, "org_id": GLOBAL})
        roles = [one["role_id"] for one in given]
        held.rests_on = frozenset((*roles, *(str(one["_id"]) for one in given)))
        held.words = await self._words(tenant, roles, management_of(tenant))

    async def _read(self, tenant: Tenant, key: _Key, held: Held) -> None:
        _, user_id, org_id = key
        member = await self._entities.first(tenant, MEMBERS, {"org_id": org_id, "user_id": user_id})
        organization = None if member is None else await self._entities.get(tenant, ORGANIZATIONS, org_id)
        if member is None or organization is None:
            held.member = False
            return
        given = await self._entities.find(tenant, USER_ROLES, {"user_id": user_id, "org_id": org_id})
        roles = [*member.get("roles", ()), *(one["role_id"] for one in given)]
        held.rests_on = frozenset((str(member["_id"]), *roles, *(str(one["_id"]) for one in given)))
        # What is done to tenants is never done from inside an organization (TK-11).
        held.words = await self._words(tenant, roles, management_of(tenant) - PLATFORM)
        held.org_name = organization["name"]
        # An organization of a child stands for nobody, whatever its record says (CP-4).
        held.tenant_id = organization.get("tenant_id") if tenant.is_control_plane else None
        told = "\n".join((str(member["_id"]), str(member.get("rev")), str(held.tenant_id), *sorted(held.words)))
        held.version = sha256(told.encode()).hexdigest()[:24]

    async def _words(self, tenant: Tenant, role_ids: Iterable[str], management: frozenset[str]) -> frozenset[str]:
        """What roles allow, as far as the resource servers define it now."""
        ids = [*dict.fromkeys(role_ids)]
        if not ids:
            return frozenset()
        triples = await self._entities.find(tenant, ROLE_PERMISSIONS, {"role_id": {"$in": ids}})
        named = {triple["rs_identifier"] for triple in triples} - {MANAGEMENT_SERVER}
        scopes: dict[str, frozenset[str]] = {MANAGEMENT_SERVER: management}
        if named:
            for server in await self._entities.find(tenant, RESOURCE_SERVERS, {"identifier": {"$in": [*named]}}):
                defined = frozenset(scope["value"] for scope in server.get("scopes", ()))
                scopes[server["identifier"]] = defined - OWN_WORDS
        return frozenset(
            triple["permission"]
            for triple in triples
            if triple["permission"] in scopes.get(triple["rs_identifier"], frozenset())
        )


@dataclass(frozen=True, slots=True)
class _Everywhere:
    """In no organization: his own permissions, and those of his global roles."""

    held: Held

    @property
    def is_stale(self) -> bool:
        return self.held.is_stale

    def principal(self, user: Record) -> Record:
        return _with(user, permissions_of(user), self.held.words)


@dataclass(frozen=True, slots=True)
class _Administrator:
    """In another tenant than his own, with no organization: for those who may act on any tenant (1.4)."""

    held: Held
    sub: str

    @property
    def is_stale(self) -> bool:
        return self.held.is_stale

    def principal(self, user: Record) -> Record:
        if ADMIN_ORGANIZATIONS not in self.held.words and ADMIN_ORGANIZATIONS not in permissions_of(user):
            raise mismatch()
        return {"_id": PRINCIPAL_PREFIX + self.sub, "permissions": sorted(effective([TENANT_ADMIN]))}


@dataclass(frozen=True, slots=True)
class _Inside:
    """In an organization: what the membership allows, and with the tenant's flag also what he has everywhere."""

    held: Held
    inherited: Held | None
    manager: str | None
    """The id under which he acts in the tenant that the organization stands for."""

    @property
    def is_stale(self) -> bool:
        return self.held.is_stale or (self.inherited is not None and self.inherited.is_stale)

    def principal(self, user: Record) -> Record:
        words = self.held.words
        if self.inherited is not None:
            words = words | ((self.inherited.words | frozenset(permissions_of(user))) - PLATFORM)
        if self.manager is not None:
            return {"_id": self.manager, "permissions": sorted(effective(words))}
        return {**user, "permissions": sorted(effective(words))}


def _inherits(issuer: Tenant) -> bool:
    return issuer.auth.inherit_global_permissions_in_organizations


def _with(user: Record, own: Iterable[Any], words: frozenset[str]) -> Record:
    """The user with his permissions and what they imply; the record itself where that is all the same."""
    held = frozenset(word for word in own if isinstance(word, str))
    whole = effective(held | words)
    return user if whole == held else {**user, "permissions": sorted(whole)}
