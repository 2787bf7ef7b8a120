"""Databases of servers under test, emptied and used again: to make one costs more than what most tests do with it.

A database that is taken is what a first start leaves behind, without its documents: the same collections with the same
validators and indexes, as `$listCatalog` shows them. Whatever else a test has left there is dropped.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient, WriteConcern
from pymongo.database import Database

from services.control.nodes import COLLECTION as NODES
from services.control.tenants import control_database

Shape = dict[str, Any]
"""Options and indexes of a collection."""
Catalog = dict[tuple[str, str], Shape]
"""The collections of a pair of databases, by what follows the pair's name, and by their own."""

_FOR_ALL = WriteConcern(w="majority")


class Recycling:
    """Names of databases on one mongod: those of a server, and of its control plane, come and go as a pair."""

    def __init__(self) -> None:
        self._client: MongoClient[dict[str, Any]] | None = None
        self._uri = ""
        self._wanted: Catalog = {}
        self._lent: set[str] = set()
        self._free: list[str] = []

    @contextmanager
    def of(self, uri: str, sample: str) -> Iterator[None]:
        """Databases of this mongod are used again as long as the block lasts; `sample` is what a first start has made."""
        with MongoClient[dict[str, Any]](uri, w=1) as client:
            self._client, self._uri = client, uri
            self._wanted = self._catalog(client, sample)
            self._free = [sample]
            try:
                yield
            finally:
                self._client, self._uri = None, ""
                self._lent.clear()
                self._free.clear()

    def take(self, uri: str) -> str:
        """The name of an empty database: one that was given back, or one that is still to be made."""
        while self._client is not None and self._uri == uri and self._free:
            name = self._free.pop()
            if self._empty(self._client, name):
                break
        else:
            name = new_name()
        self._lent.add(name)
        return name

    def has_lent(self, name: str) -> bool:
        """Whether the database was taken here, and not given back."""
        return name in self._lent

    def give_back(self, name: str) -> None:
        """Lets the database be taken again: its server is stopped."""
        self._lent.remove(name)
        self._free.append(name)

    def _empty(self, client: MongoClient[dict[str, Any]], name: str) -> bool:
        """Leaves what is wanted, without documents; drops all when somebody still works there, and then returns False."""
        if client[control_database(name)][NODES].find_one() is not None:
            for database in _pair(name):
                client.drop_database(database)
            return False
        found = self._catalog(client, name)
        kept = {place for place, shape in found.items() if self._wanted.get(place) == shape}
        for suffix, collection in found.keys() - kept:
            client[name + suffix][collection].drop()
        for database in _pair(name):
            for collection in _filled(client[database], [own for suffix, own in kept if name + suffix == database]):
                client[database][collection].delete_many({})
        # By then a majority has all of it.
        client[control_database(name)][NODES].with_options(write_concern=_FOR_ALL).delete_many({})
        return True

    def _catalog(self, client: MongoClient[dict[str, Any]], name: str) -> Catalog:
        entries = client.admin.aggregate([{"$listCatalog": {}}, {"$match": {"db": {"$in": _pair(name)}}}])
        return {(entry["db"].removeprefix(name), entry["name"]): _shape(entry) for entry in entries}


RECYCLING = Recycling()


def new_name() -> str:
    """The name of a database that nobody else uses."""
    return f"t{secrets.token_hex(6)}"


def _filled(database: Database[dict[str, Any]], names: list[str]) -> list[str]:
    """Those of some collections that have documents."""
    each = ({"coll": name, "pipeline": [{"$limit": 1}, {"$project": {"_id": {"$literal": name}}}]} for name in names)
    return [found["_id"] for found in database.aggregate([{"$documents": []}, *({"$unionWith": one} for one in each)])]


def _pair(name: str) -> list[str]:
    return [name, control_database(name)]


def _shape(entry: dict[str, Any]) -> Shape:
    described = entry.get("md", {})
    options = {key: value for key, value in described.get("options", {}).items() if key != "uuid"}
    return {
        "type": entry["type"],
        "options": options,
        "indexes": {
            index["spec"]["name"]: (index["spec"], index["multikey"]) for index in described.get("indexes", ())
        },
    }
