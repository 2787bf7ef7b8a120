"""The permissions of a copied role: they are replaced as a whole, in one transaction, so that nobody sees half of them."""

from __future__ import annotations

from datetime import UTC, datetime

from bson import ObjectId

from hooks.context import Record
from hooks.tenant import Tenant
from services.control.sync.copies import SAME, Copies, Outcome, marks
from services.control.sync.source import Source, revision
from services.control.sync.state import Status
from services.entities.giving import MANAGEMENT_SERVER, management_of
from services.entities.registry import RESOURCE_SERVERS, REVISION, ROLE_PERMISSIONS, ROLES
from services.isolation import Isolation

_Key = tuple[str, str]
"""A resource server's identifier and a permission."""


class PermissionSets:
    """Mends the permissions of copied roles."""

    def __init__(self, isolation: Isolation, copies: Copies) -> None:
        self._isolation = isolation
        self._copies = copies

    async def mend(self, source: Source, target: Tenant, role_id: str, *, dry_run: bool = False) -> Outcome:
        """Brings what a copied role allows to what the original allows, as far as its resource servers are there (SY-7)."""
        original = await source.get(ROLES.collection, role_id)
        if original is None or not self._copies.wants(target, ROLES.collection, original):
            return Outcome(Status.WITHDRAWN)
        roles = self._copies.of(target, ROLES.collection)
        (role,) = await roles.find({"source_id": role_id, "is_system": True}, limit=1) or (None,)
        if role is None:
            if await roles.count({"name": original["name"], "is_system": {"$ne": True}}):
                return Outcome(Status.CONFLICT, error="The app has a role of its own by this name")
            return Outcome(Status.DEFERRED, error="The role is not there yet")
        wanted, missing = await self._wanted(source, target, role_id)
        rev = revision(original)
        outcome = SAME
        if role["source_rev"] <= rev:
            outcome = await self._compare(target, role, wanted, rev, dry_run=dry_run)
        if missing and role["source_rev"] <= rev:
            if await self._is_own(target, missing):
                return Outcome(Status.CONFLICT, outcome.done, rev, f"The app has '{missing}' itself")
            return Outcome(Status.DEFERRED, outcome.done, rev, f"The resource server '{missing}' is not there yet")
        return outcome

    async def _is_own(self, target: Tenant, identifier: str) -> bool:
        servers = self._copies.of(target, RESOURCE_SERVERS.collection)
        return await servers.count({"identifier": identifier, "is_system": {"$ne": True}}) > 0

    async def _wanted(self, source: Source, target: Tenant, role_id: str) -> tuple[dict[_Key, Record], str | None]:
        """The originals by what they allow; and a resource server that should be there, and is not yet."""
        triples = await source.triples(role_id)
        identifiers = {triple["rs_identifier"] for triple in triples} - {MANAGEMENT_SERVER}
        servers = self._copies.of(target, RESOURCE_SERVERS.collection)
        chosen = {"identifier": {"$in": sorted(identifiers)}, "is_system": True}
        present = {server["identifier"] for server in await servers.find(chosen)} if identifiers else set()
        missing = None
        for identifier in sorted(identifiers - present):
            server = await source.server(identifier)
            if self._copies.switches.resource_servers and self._copies.wants(
                target, RESOURCE_SERVERS.collection, server
            ):
                missing = identifier
        own = management_of(target)
        wanted = {
            (triple["rs_identifier"], triple["permission"]): triple
            for triple in triples
            if triple["rs_identifier"] in present
            # What is done to tenants as such is the control plane's alone.
            or (triple["rs_identifier"] == MANAGEMENT_SERVER and triple["permission"] in own)
        }
        return wanted, missing

    async def _compare(
        self, target: Tenant, role: Record, wanted: dict[_Key, Record], rev: int, *, dry_run: bool
    ) -> Outcome:
        have = await self._copies.of(target, ROLE_PERMISSIONS.collection).find({"role_id": str(role["_id"])})
        present = {_key(triple) for triple in have if triple.get("is_system")}
        same = present == wanted.keys() and len(have) == len(present)
        if same and not dry_run and role["source_rev"] < rev:
            await self._copies.of(target, ROLES.collection).find_one_and_update(*_touch(role, rev))
        if same:
            return Outcome(Status.SYNCED, rev=rev)
        if dry_run or await self._replace(target, role, wanted, rev):
            return Outcome(Status.SYNCED, "updated", rev)
        return SAME

    async def _replace(self, target: Tenant, role: Record, wanted: dict[_Key, Record], rev: int) -> bool:
        """Replaces the permissions; False when a newer revision is there already."""
        roles, id = self._copies.of(target, ROLES.collection), str(role["_id"])
        made: list[Record] = []
        gone: list[Record] = []

        async def replace() -> bool:
            made.clear()
            gone.clear()
            # The role is written too: of two who do this at once, one comes after the other.
            if await roles.find_one_and_update(*_touch(role, rev)) is None:
                return False
            triples = self._copies.of(target, ROLE_PERMISSIONS.collection)
            kept: set[_Key] = set()
            for triple in await triples.find({"role_id": id}):
                if _key(triple) in wanted and triple.get("is_system"):
                    kept.add(_key(triple))
                else:
                    gone.append(triple)
            made.extend(_copy(id, triple, rev) for key, triple in wanted.items() if key not in kept)
            if gone:
                await triples.delete_many({"_id": {"$in": [triple["_id"] for triple in gone]}})
            if made:
                await triples.delete_many({"source_id": {"$in": [triple["source_id"] for triple in made]}})
                await triples.insert(made)
            return True

        if not await self._isolation.transaction(target, replace):
            return False
        for event, triples in (("removed", gone), ("created", made)):
            for triple in triples:
                await self._copies.tell(target, ROLE_PERMISSIONS.collection, event, triple)
        return True


def _touch(role: Record, rev: int) -> tuple[Record, Record]:
    """The condition that a role's copy is not newer, and the note that it is as new."""
    guard = {"_id": role["_id"], "source_rev": {"$lte": rev}}
    return guard, {"$set": {"source_rev": rev, "synced_at": datetime.now(UTC)}}


def _key(triple: Record) -> _Key:
    return triple["rs_identifier"], triple["permission"]


def _copy(role_id: str, triple: Record, rev: int) -> Record:
    now = datetime.now(UTC)
    return {
        "_id": ObjectId(),
        "role_id": role_id,
        "rs_identifier": triple["rs_identifier"],
        "permission": triple["permission"],
        **marks(str(triple["_id"]), rev),
        REVISION: 1,
        "created_at": now,
        "updated_at": now,
    }
