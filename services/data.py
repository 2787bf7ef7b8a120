"""DataService: records of a plug-in's own, in the server's database, with validator and indexes brought about at the start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from services.application import Application, Storage
from services.database.schema import CollectionSchema, Index, Words
from services.isolation import Isolation
from services.mongo import MongoService, ServiceOptions

Fields = str | Sequence[str]
"""One field, or several; `-field` is in descending order."""
PREFIX = "plugin."
"""Stands before the names of plug-ins' collections: no tenant can declare a service over one, for it has a dot."""


class DataService(MongoService):
    """A `MongoService` for plug-ins: `app.use("notes", DataService(app, ServiceOptions("notes"), indexes=["room"]))`.

    Each tenant has records of its own in the collection `plugin.notes` and reaches no other's. A class that extends it and
    has a `setup` of its own calls this one as well.
    """

    def __init__(
        self,
        app: Application,
        options: ServiceOptions,
        *,
        indexes: Iterable[Fields] = (),
        unique: Iterable[Fields] = (),
    ) -> None:
        """`indexes` are the fields to find and sort by; of `unique` ones no two records of a tenant have the same values."""
        storage = storage_of(app)
        collection = PREFIX + options.collection
        isolation = Isolation(storage.store) if storage.isolation is None else storage.isolation
        super().__init__(isolation, replace(options, collection=collection))
        own = () if options.id == "_id" else (_index((options.id,), unique=True),)
        wanted = [_index(fields) for fields in indexes], [_index(fields, unique=True) for fields in unique]
        self._ensure = storage.ensure
        words = (Words(),) if options.search else ()
        indexes_of_all = (*dict.fromkeys((*own, *wanted[0], *wanted[1])), *words)
        self._schema = CollectionSchema(collection, indexes_of_all)

    async def setup(self, app: Application, path: str) -> None:
        """Brings the collection about.

        Raises:
            FeathersError: the database refuses.
        """
        await self._ensure(self._schema)


def storage_of(app: Application) -> Storage:
    """Where the application keeps records.

    Raises:
        LookupError: nowhere: it is not a server's, and nobody has set `app.storage`.
    """
    if app.storage is None:
        raise LookupError("This application keeps no records yet: set app.storage = Storage(MemoryStore()) in tests")
    return app.storage


def _index(fields: Fields, *, unique: bool = False) -> Index:
    names = (fields,) if isinstance(fields, str) else fields
    keys = [(name[1:], -1) if name.startswith("-") else (name, 1) for name in names]
    return Index((("app_id", 1), *keys), unique=unique)
