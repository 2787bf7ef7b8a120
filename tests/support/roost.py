"""A whole Roost for tests: assembled, over a real mongod, on a free port."""

from __future__ import annotations

import base64
import os
import pathlib
import secrets
import tempfile
from asyncio import Runner
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from server.dropping import delete_placed
from server.main import Roost
from server.settings import Settings
from services.database.deployment import Path
from services.declaration import parse
from tests.support.placed import cluster_settings, default_model, placement
from tests.support.recycling import RECYCLING, new_name
from tests.support.tripwire import Tripwire

COMMAND_PATH: Path = "pymongo" if os.environ.get("ROOST_MONGO_PATH") == "pymongo" else "lean"
"""How servers under test reach MongoDB, unless a test says so itself: see "Tests" in the README."""
MASTER_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
CONTROL_PLANE = "control_plane"
ADMIN = ("admin", "secret-of-the-admin")
"""The name and the password of the control plane's first user."""

TWO_APPS = """
tenants:
  - id: acme
    name: Acme
    allowed_origins: ["http://localhost:3030"]
    services:
      messages:
        schema: {text: {type: string, required: true}, n: {type: number}}
        paginate: {default: 10, max: 50}
        multi: [create, patch, remove]
        rules: {default: authenticated}
      notes: {paginate: false, multi: true, rules: {default: public}}
      sealed: {rules: {find: public, default: nobody}}
  - id: globex
    name: Globex
    auth: {username_field: email}
    services:
      messages: {rules: {default: authenticated}, multi: true}
      notes: {paginate: false, multi: true, rules: {default: public}}
"""


def settings_for(uri: str, **settings: Any) -> Settings:
    """The settings of a server over the mongod at `uri`, in a database of its own."""
    values = {
        "port": 0,
        "mongodb_uri": SecretStr(uri),
        "database": new_name(),
        "mongo_path": COMMAND_PATH,
        "master_key": SecretStr(MASTER_KEY),
        "data": pathlib.Path(tempfile.gettempdir()) / f"roost-{secrets.token_hex(6)}",
        "admin_password": SecretStr(ADMIN[1]),
        # A process for each server of a test would cost more than what is hashed in it.
        "idle_hashing": False,
        "log_level": "warning",
        **settings,
    }
    return Settings(**values)


class TestedRoost(Roost):
    """A server whose database may be one that an earlier test has had, and is left to a later one."""

    async def drop(self) -> None:
        """Stops, and deletes what was kept, or has it deleted before the database is used again."""
        if RECYCLING.has_lent(self.settings.database):
            self.backend.at_end.push_async_callback(self._leave)
            await self.stop()
        else:
            await super().drop()

    async def _leave(self) -> None:
        await delete_placed(self.backend)
        RECYCLING.give_back(self.settings.database)


async def start_roost(
    uri: str, declared: str = TWO_APPS, *, tripwire: Tripwire | None = None, model: str | None = None, **settings: Any
) -> Roost:
    """Starts a server over the mongod at `uri`, in an empty database; `model` is the isolation model of its apps."""
    model = model or default_model[0]
    if model != "shared":
        settings = {**cluster_settings(), "placement": placement(model), **settings}
    if settings.keys().isdisjoint(_KEPT_BY_NAME):
        settings["database"] = RECYCLING.take(uri)
    listeners = [tripwire] if tripwire else []
    return await TestedRoost.start(settings_for(uri, **settings), parse(declared), listeners=listeners)


@contextmanager
def recycling(uri: str) -> Iterator[None]:
    """As long as the block lasts, the databases of servers over the mongod at `uri` are used again."""

    async def sample() -> str:
        roost = await Roost.start(settings_for(uri))
        await roost.stop()
        return roost.settings.database

    with Runner() as runner:
        name = runner.run(sample())
    with RECYCLING.of(uri, name):
        yield


_KEPT_BY_NAME = {"database", "bus", "rates"}
"""Settings with which a server asks for a certain database, or keeps things in Redis under the database's name."""
