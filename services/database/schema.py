"""What a collection of tenant data must be in the database itself: its validator and its indexes.

This is the third guard: it holds when every line of Python above it is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo import IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from services import search
from services.database.faults import DRIVER_ERRORS, from_driver
from services.store import Document

_log = logging.getLogger(__name__)

_NAMESPACE_EXISTS = 48

#: A document belongs to the tenant that its `_id` is bound to; comparing whole objects fixes the key order as well.
VALIDATOR: Mapping[str, Any] = {
    "$jsonSchema": {
        "bsonType": "object",
        "required": ["_id", "app_id"],
        "properties": {
            "app_id": {"bsonType": "string", "minLength": 1},
            "_id": {
                "bsonType": "object",
                "required": ["a", "i"],
                "additionalProperties": False,
                "properties": {
                    "a": {"bsonType": "string", "minLength": 1},
                    "i": {"bsonType": ["string", "objectId"], "minLength": 1},
                },
            },
        },
    },
    "$expr": {"$eq": ["$_id", {"a": "$app_id", "i": "$_id.i"}]},
}
GUARD: Mapping[str, Any] = {"validator": VALIDATOR, "validationLevel": "strict", "validationAction": "error"}
"""What every such collection is made with."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index of tenant data: `keys` are `(field, 1 or -1)` pairs, the first of them `app_id`.

    A unique index holds for documents that have all its fields, unless `complete` says that every document must.
    """

    keys: tuple[tuple[str, int], ...]
    unique: bool = False
    complete: bool = False

    def __post_init__(self) -> None:
        if not self.keys or self.keys[0][0] != "app_id":
            raise ValueError("an index of tenant data begins with app_id")

    @property
    def name(self) -> str:
        """A name that says all that the index is, so that a changed index is another index."""
        fields = "_".join(f"{field}_{order}" for field, order in self.keys)
        return fields + ("_unique" if self.unique else "") + ("_complete" if self.unique and self.complete else "")

    def model(self) -> IndexModel:
        """The index as PyMongo wants it."""
        if not self.unique:
            return IndexModel(list(self.keys), name=self.name)
        optional = {field: {"$exists": True} for field, _ in self.keys[1:]}
        if self.complete or not optional:
            return IndexModel(list(self.keys), name=self.name, unique=True)
        return IndexModel(list(self.keys), name=self.name, unique=True, partialFilterExpression=optional)


@dataclass(frozen=True, slots=True)
class Expiry:
    """A documents' field with the moment from which the database deletes it, within about a minute.

    It does not begin with `app_id`: it answers no query, and MongoDB expires by a single field only.
    """

    field: str

    @property
    def name(self) -> str:
        """As of an index."""
        return f"{self.field}_expiry"

    def model(self) -> IndexModel:
        """The index as PyMongo wants it."""
        return IndexModel([(self.field, 1)], name=self.name, expireAfterSeconds=0)


@dataclass(frozen=True, slots=True)
class Words:
    """The index for `$search` over the slots of `services/search.py`: a collection has at most one text index."""

    @property
    def name(self) -> str:
        """As of an index."""
        return f"app_id_1_{search.FIELD}_text"

    def model(self) -> IndexModel:
        """The index as PyMongo wants it."""
        keys: list[tuple[str, int | str]] = [("app_id", 1)]
        keys += [(f"{search.FIELD}.{slot}", "text") for slot in search.SLOTS]
        return IndexModel(keys, name=self.name, default_language=search.LANGUAGE, language_override=search.OVERRIDE)


#: Counts a tenant's documents and lists them in order of id.
LISTING = Index((("app_id", 1), ("_id", 1)))


@dataclass(frozen=True, slots=True)
class CollectionSchema:
    """A collection of tenant data. It always has the validator and the `LISTING` index; `indexes` come on top."""

    name: str
    indexes: tuple[Index | Expiry | Words, ...] = ()


Listing = Mapping[str, Mapping[str, Any]]
"""The options of the collections that there are, by name."""


async def listed(database: AsyncDatabase[Document], names: Iterable[str]) -> Listing:
    """Those of some collections that there are."""
    cursor = await database.list_collections(filter={"name": {"$in": [*names]}})
    return {entry["name"]: entry["options"] async for entry in cursor}


async def ensure_indexes(collection: AsyncCollection[Document], *indexes: IndexModel) -> None:
    """Creates those indexes of a collection that are missing, in one command.

    Raises:
        FeathersError: As `services.store.Collection`.
    """
    try:
        await collection.create_indexes([*indexes])
    except DRIVER_ERRORS as error:
        _log.error("indexes of %s cannot be made: %s", collection.name, type(error).__name__)
        raise from_driver(error) from error


async def ensure(database: AsyncDatabase[Document], schema: CollectionSchema, listing: Awaitable[Listing]) -> None:
    """Creates the collection or mends its validator, and creates missing indexes. Many processes may do so at once.

    `listing` is what there was lately, and may be out of date.

    Raises:
        FeathersError: As `services.store.Collection`.
    """
    try:
        await _ensure_validator(database, schema.name, await listing)
        models = [index.model() for index in dict.fromkeys((LISTING, *schema.indexes))]
        await database[schema.name].create_indexes(models)
    except DRIVER_ERRORS as error:
        _log.error("the collection %s cannot be prepared: %s", schema.name, type(error).__name__)
        raise from_driver(error) from error


async def are_guarded(database: AsyncDatabase[Document], names: Iterable[str]) -> bool:
    """Whether these collections are all there, with the validator that they have to have.

    Raises:
        FeathersError: As `services.store.Collection`.
    """
    wanted = [*names]
    try:
        there = await listed(database, wanted)
    except DRIVER_ERRORS as error:
        raise from_driver(error) from error
    return all(_is_guarded(there.get(name, {})) for name in wanted)


async def _ensure_validator(database: AsyncDatabase[Document], name: str, listing: Listing) -> None:
    if name not in listing:
        try:
            await database.command({"create": name, **GUARD})
            return
        except OperationFailure as error:
            if error.code != _NAMESPACE_EXISTS:
                raise
        # Somebody was faster.
        listing = await listed(database, [name])
    # collMod locks the collection: only when it changes something.
    if not _is_guarded(listing.get(name, {})):
        await database.command({"collMod": name, **GUARD})


def _is_guarded(options: Mapping[str, Any]) -> bool:
    return all(options.get(key) == value for key, value in GUARD.items())
