"""Identities: which user of a tenant is whom at an identity provider.

An identity is a record `{_id: <hash of issuer and subject>, issuer, subject, user_id, created_at}`: so one subject has one
user, however many of its first logins come at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable

from bson import ObjectId

from hooks.context import Params, Record
from hooks.errors import Conflict, NotAuthenticated, NotFound
from hooks.tenant import Tenant
from services.authentication.directory import Directory
from services.authentication.ledger import moment
from services.database.schema import CollectionSchema, Index
from services.isolation import Isolation, ScopedCollection

COLLECTION = "identities"
COLLECTIONS = (CollectionSchema(COLLECTION, (Index((("app_id", 1), ("user_id", 1))),)),)

USERS = "users"
MOST_LISTED = 100
ATTEMPTS = 3
"""How often a login starts again when its user was removed meanwhile."""


class Identities:
    """The links between providers' subjects and the users of whichever tenant is named."""

    def __init__(self, isolation: Isolation, directory: Directory, *, clock: Callable[[], float] = time.time) -> None:
        self._isolation = isolation
        self._directory = directory
        self._clock = clock

    async def user_of(self, params: Params, issuer: str, subject: str, profile: Record | None = None) -> Record:
        """The user whom a provider calls `subject`, as its owner may see it; made of `profile` at the first time.

        Raises:
            NotAuthenticated: the user is removed again and again while this looks.
        """
        for _ in range(ATTEMPTS):
            user_id = await self._claim(params.tenant, issuer, subject)
            if user_id is None:
                continue
            user = await self._directory.show(params, user_id)
            if user is not None:
                return user
            with contextlib.suppress(Conflict):
                # The link came first, so only one of several logins at once makes the user, under the id that all know.
                return await self._directory.add(params, {**(profile or {}), "_id": user_id})
        raise NotAuthenticated("The account is being removed: try again")

    async def link(self, tenant: Tenant, issuer: str, subject: str, user_id: str) -> None:
        """Makes the subject a way to log in as this user, if it is not yet.

        Raises:
            Conflict: it is one of another user.
        """
        try:
            await self._links(tenant).insert([self._record(issuer, subject, user_id)])
        except Conflict as error:
            found = await self._links(tenant).find({"_id": _key(issuer, subject)}, limit=1)
            if not found or found[0]["user_id"] != user_id:
                raise Conflict("This sign-in belongs to another account: log in by it instead") from error

    async def find(self, tenant: Tenant, user_id: str) -> list[Record]:
        """The identities of a user, the oldest first, at most 100."""
        found = await self._links(tenant).find(
            {"user_id": user_id}, sort=[("created_at", 1), ("_id", 1)], limit=MOST_LISTED
        )
        return [_shown(record) for record in found]

    async def unlink(self, tenant: Tenant, id: str, user_id: str) -> Record:
        """Ends one identity of a user.

        Raises:
            NotFound: he has no such one. Conflict: it is his last way to sign in.
        """

        async def work() -> Record:
            links = self._links(tenant)
            # All of them are written to: of two calls that would each rely on what the other takes, one has to look again.
            await links.update_many({"user_id": user_id}, {"$inc": {"rev": 1}})
            others = await links.count({"user_id": user_id, "_id": {"$ne": id}})
            found = await links.find_one_and_delete({"_id": id, "user_id": user_id})
            if found is None:
                raise NotFound(f"No record found for id '{id[:256]}'")
            if not others and not await self._has_password(tenant, user_id):
                raise Conflict(
                    "This is the only way to sign in to the account: set a password, or link another one first"
                )
            return _shown(found)

        return await self._isolation.transaction(tenant, work)

    async def _has_password(self, tenant: Tenant, user_id: str) -> bool:
        if "local" not in tenant.auth.strategies:
            return False
        chosen = {"_id": user_id, "password": {"$gt": ""}}
        return await self._isolation.collection(tenant, USERS).count(chosen) > 0

    async def unlink_all(self, tenant: Tenant, user_id: str) -> None:
        """Forgets the identities of a user who is gone."""
        await self._links(tenant).delete_many({"user_id": user_id})

    async def _claim(self, tenant: Tenant, issuer: str, subject: str) -> str | None:
        """The id of the user, new for a subject that is; None when the link went while this looked."""
        key = {"_id": _key(issuer, subject)}
        links = self._links(tenant)
        found = await links.find(key, limit=1)
        if not found:
            try:
                made = self._record(issuer, subject, str(ObjectId()))
                await links.insert([made])
                return str(made["user_id"])
            except Conflict:
                found = await links.find(key, limit=1)
        return str(found[0]["user_id"]) if found else None

    def _record(self, issuer: str, subject: str, user_id: str) -> Record:
        return {
            "_id": _key(issuer, subject),
            "issuer": issuer,
            "subject": subject,
            "user_id": user_id,
            "created_at": moment(self._clock()),
        }

    def _links(self, tenant: Tenant) -> ScopedCollection:
        return self._isolation.collection(tenant, COLLECTION)


def _shown(record: Record) -> Record:
    return {field: record[field] for field in ("_id", "issuer", "subject", "created_at")}


def _key(issuer: str, subject: str) -> str:
    return hashlib.sha256(json.dumps([issuer, subject]).encode()).hexdigest()
