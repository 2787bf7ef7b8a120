"""A model of the sync: what managers, apps, workers and failures may do in any order, and what is true once all is quiet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hooks.context import Params, Record
from hooks.errors import FeathersError
from hooks.tenant import Tenant
from server.main import Roost
from services.control.sync.engine import Sync
from services.control.sync.model import NAMES, copied, qualifies
from services.control.sync.source import Source
from services.control.sync.worker import SyncWorker
from services.entities.giving import management_of
from tests.integration.control.managers import control_collection
from tests.integration.control.managers import make as make_app
from tests.integration.sync.people import CONTROL_PLANE, NORTH, SOUTH, tenant
from tests.support.placed import raw

NEW: Final = "newcomer"
NOWHERE: Final = {"model": "cluster", "cluster": "gone", "database": "t_gone", "credentials_ref": None, "region": None}
PATHS: Final[Mapping[str, str]] = {
    "roles": "roles",
    "resource_servers": "resource-servers",
    "connections": "connections",
}
WORDS: Final = ("read:users", "read:roles", "read:tenants")


class World:
    """One server whose own worker is stopped, and two workers that work when they are told to."""

    def __init__(self, roost: Roost) -> None:
        self.roost = roost
        self.isolation = roost.backend.isolation
        sync = self.sync
        self.workers = [
            SyncWorker(self.isolation, sync.mending, sync.outbox, sync.state, sync.targets) for _ in range(2)
        ]
        self.snapshots: list[Source] = []
        self.placements: dict[str, Any] = {}
        self.own: dict[tuple[str, str], Record] = {}
        """What apps have made themselves, by app and name."""
        self.freed = False
        """Whether an app has given up a name by itself, of which the control plane does not hear."""

    @property
    def sync(self) -> Sync:
        """The engine."""
        return self.roost.backend.sync

    async def begin(self) -> None:
        """An empty world with two apps that opt out of nothing."""
        self.own.clear()
        self.snapshots.clear()
        self.freed = False
        for app in [CONTROL_PLANE, *await self.apps()]:
            async with raw(self.roost, app) as database:
                for collection in ("roles", "role_permissions", "resource_servers", "connections"):
                    await database[collection].delete_many({"app_id": app})
        for collection in ("sync_events", "sync_state", "sync_runs"):
            await control_collection(self.roost, collection).delete_many({})
        for app in await self.apps():
            await self.exclude(app, [])
        await self.workers[0].bring()

    async def apps(self) -> list[str]:
        """The ids of the apps."""
        return [target.id async for target in self.sync.targets.all()]

    async def call(self, app: str, path: str, method: str, **arguments: Any) -> Any:
        """A call by the server itself; None where it is refused."""
        try:
            context = await self.roost.app.call(path, method, Params(tenant=await tenant(self.roost, app)), **arguments)
        except FeathersError:
            return None
        return context.result

    async def originals(self, collection: str) -> list[Record]:
        """What the control plane has."""
        plane = await tenant(self.roost, CONTROL_PLANE)
        return await self.isolation.collection(plane, collection).find({}, sort=[("_id", 1)])

    async def pick(self, collection: str, number: int) -> Record | None:
        """One of them."""
        found = await self.originals(collection)
        return found[number % len(found)] if found else None

    async def create(self, collection: str, name: str) -> None:
        """Something new in the control plane."""
        data: Record = {NAMES[collection]: name}
        if collection == "connections":
            data |= {"strategy": "oidc", "options": {"client_id": "private", "scopes": ["openid"]}}
        if collection == "resource_servers":
            data |= {"scopes": [{"value": "go"}]}
        await self.call(CONTROL_PLANE, PATHS[collection], "create", data=data)

    async def patch(self, collection: str, number: int, changes: Record) -> None:
        """Changes one of the originals."""
        chosen = await self.pick(collection, number)
        if chosen is not None and not (collection == "resource_servers" and "identifier" in changes):
            await self.call(CONTROL_PLANE, PATHS[collection], "patch", id=str(chosen["_id"]), data=changes)

    async def remove(self, collection: str, number: int) -> None:
        """Removes one of them."""
        chosen = await self.pick(collection, number)
        if chosen is not None:
            await self.call(CONTROL_PLANE, PATHS[collection], "remove", id=str(chosen["_id"]))

    async def allow(self, number: int, word: str) -> None:
        """Gives a role a permission: a word, or whatever the first resource server has."""
        role = await self.pick("roles", number)
        server = await self.pick("resource_servers", number)
        if role is None or (word == "go" and server is None):
            return
        identifier = server["identifier"] if word == "go" and server is not None else "management"
        triple = {"rs_identifier": identifier, "permission": word}
        await self.call(CONTROL_PLANE, f"roles/{role['_id']}/permissions", "create", data=triple)

    async def forbid(self, number: int) -> None:
        """Takes a permission from its role."""
        triple = await self.pick("role_permissions", number)
        if triple is not None:
            path = f"roles/{triple['role_id']}/permissions"
            await self.call(CONTROL_PLANE, path, "remove", id=str(triple["_id"]))

    async def exclude(self, app: str, words: list[str]) -> None:
        """An app's opt-out list."""
        await self.roost.backend.configuration.change(app, {"sync_exclude": words})

    async def make_own(self, app: str, name: str) -> None:
        """An app makes a role of its own."""
        if app not in self.placements:
            made = await self.call(app, "roles", "create", data={"name": name, "description": "own"})
            if made is not None:
                self.own[app, name] = {"_id": str(made["_id"]), "description": "own"}

    async def remove_own(self, app: str, name: str) -> None:
        """It removes it."""
        if (app, name) in self.own and app not in self.placements:
            await self.call(app, "roles", "remove", id=self.own.pop((app, name))["_id"])
            self.freed = True

    async def go_away(self, app: str) -> None:
        """An app's database cannot be reached any more."""
        if app not in self.placements:
            tenants = control_collection(self.roost, "tenants")
            self.placements[app] = (await tenants.find_one({"_id": app}))["placement"]
            await tenants.update_one({"_id": app}, {"$set": {"placement": NOWHERE}})

    async def come_back(self, app: str) -> None:
        """It can again."""
        if app in self.placements:
            placement = self.placements.pop(app)
            await control_collection(self.roost, "tenants").update_one({"_id": app}, {"$set": {"placement": placement}})

    async def make_app(self) -> None:
        """A new app, at most one in the life of the server."""
        if NEW not in await self.apps():
            await make_app(self.roost, NEW)

    async def work(self, *numbers: int) -> None:
        """Workers do a round, several of them at once."""
        await asyncio.gather(*(self.workers[number].bring() for number in numbers))

    async def hear_again(self) -> None:
        """All that was ever told is told again."""
        events = control_collection(self.roost, "sync_events")
        await events.update_many({}, {"$set": {"state": "pending", "next_at": datetime.now(UTC)}})

    async def keep_snapshot(self) -> None:
        """A worker reads the control plane, and falls asleep."""
        plane = await self.sync.targets.control_plane()
        source = Source(self.isolation, plane)
        for collection in NAMES:
            for record in await source.all(collection):
                if collection == "roles":
                    await source.triples(str(record["_id"]))
        self.snapshots.append(source)

    async def wake_up(self) -> None:
        """It does what it wanted to do."""
        if not self.snapshots:
            return
        source = self.snapshots.pop(0)
        items = [(name, str(record["_id"])) for name in NAMES for record in await source.all(name)]
        items += [("role_permissions", id) for name, id in items if name == "roles"]
        for app in await self.apps():
            target = await self.sync.targets.get(app)
            assert target is not None
            await self.sync.mending.some(source, target, items, patience=20)

    async def settle(self) -> None:
        """Nothing more happens from outside, and all workers do all that there is to do."""
        for app in [*self.placements]:
            await self.come_back(app)
        while self.snapshots:
            await self.wake_up()
        rows = control_collection(self.roost, "sync_state")
        for _ in range(10):
            await rows.update_many({"next_at": {"$exists": True}}, {"$set": {"next_at": datetime.now(UTC)}})
            brought, retried = await self.workers[0].bring(), await self.workers[1].retry()
            if not brought and not retried:
                return
        left = await self.sync.state.find({"status": {"$in": ["pending", "failed", "deferred"]}})
        raise AssertionError(f"it never gets quiet: {left}")

    async def check(self) -> None:
        """Each app has what it is to have, and what is its own is as it was."""
        for app in await self.apps():
            target = await self.sync.targets.get(app)
            assert target is not None
            mine = {name for owner, name in self.own if owner == app}
            for collection in NAMES:
                await self._check_copies(target, collection, mine if collection == "roles" else set())
            roles = self.isolation.collection(target, "roles")
            own = {role["name"]: role for role in await roles.find({"is_system": {"$ne": True}})}
            assert own.keys() == mine, (app, own.keys(), mine)
            for name, role in own.items():
                assert {**self.own[app, name]} == {"_id": str(role["_id"]), "description": role["description"]}

    async def _check_copies(self, target: Tenant, collection: str, mine: set[str]) -> None:
        found = await self.isolation.collection(target, collection).find({"is_system": True})
        copies = {copy["source_id"]: copy for copy in found}
        assert len(copies) == len(found)
        wanted = {
            str(original["_id"]): original
            for original in await self.originals(collection)
            if qualifies(self.sync.switches, target, collection, original)
        }
        blocked = {id for id, original in wanted.items() if original[NAMES[collection]] in mine}
        assert copies.keys() - blocked == wanted.keys() - blocked, (target.id, collection)
        for id in wanted.keys() - blocked:
            expected = copied(collection, wanted[id])
            assert {field: copies[id].get(field) for field in expected} == expected, (target.id, collection)
            if collection == "roles":
                await self._check_permissions(target, id, copies[id])

    async def _check_permissions(self, target: Tenant, id: str, copy: Record) -> None:
        servers = {
            server["identifier"]
            for server in await self.originals("resource_servers")
            if qualifies(self.sync.switches, target, "resource_servers", server)
        }
        own = management_of(target)
        expected = {
            (triple["rs_identifier"], triple["permission"])
            for triple in await self.originals("role_permissions")
            if triple["role_id"] == id
            and (
                triple["rs_identifier"] in servers
                or (triple["rs_identifier"] == "management" and triple["permission"] in own)
            )
        }
        triples = self.isolation.collection(target, "role_permissions")
        found = await triples.find({"role_id": str(copy["_id"])})
        assert {(triple["rs_identifier"], triple["permission"]) for triple in found} == expected, target.id
        assert all(triple["is_system"] for triple in found)


APPS_OF_WORLD: Final = (NORTH, SOUTH)
