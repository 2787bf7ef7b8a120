"""Two apps that are alike in everything, and what is asked of them: whatever differs in an answer is a leak."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from server.main import Roost
from tests.support.client import Client, Rest, connect, fresh, rest
from tests.support.placed import raw

NORTH, SOUTH = "north", "south"
CANARY = "north-canary"
"""Stands in all that belongs to the north; the south must never see it."""

_SERVICES = """
      messages: {multi: true, rules: {default: authenticated}}
      notes: {paginate: false, multi: true, rules: {default: public}}
      codes: {id: code, multi: true, rules: {default: public}}
      drafts: {collection: messages, multi: true, rules: {default: public}}
      lobby: {collection: notes, rules: {default: public}, rooms: {by: room, join: public}}
"""
ALIKE = f"""
tenants:
  - id: {NORTH}
    allowed_origins: ["https://north.example"]
    services: {_SERVICES}
  - id: {SOUTH}
    allowed_origins: ["https://south.example"]
    services: {_SERVICES}
"""
MULTI = ("messages", "notes", "codes", "drafts")
COLLECTIONS = ("messages", "notes", "codes", "users")


def data_for(service: str, text: str, id: str | None = None) -> dict[str, Any]:
    """A record that the service takes."""
    data: dict[str, Any] = {"text": text, "n": 1, "tags": [text]}
    if service == "users":
        return {**data, "username": fresh(text), "password": f"{text}-password"}
    if id is not None:
        data["code" if service == "codes" else "_id"] = id
    return data


def id_of(service: str, record: dict[str, Any]) -> str:
    """The record's id as calls take it."""
    return str(record["code" if service == "codes" else "_id"])


@dataclass(frozen=True)
class Side:
    """One app's people: a logged-in socket, a logged-in HTTP client, and the user they are."""

    app_id: str
    socket: Client
    http: Rest
    user: dict[str, Any]

    @property
    def token(self) -> str:
        return str(self.socket.token)

    def caller(self, transport: str) -> Client | Rest:
        return self.socket if transport == "socket" else self.http


@asynccontextmanager
async def side(roost: Roost, app_id: str) -> AsyncIterator[Side]:
    """Signs up a user and connects it over both transports."""
    async with connect(roost, app_id) as socket, rest(roost, app_id) as http:
        text = CANARY if app_id == NORTH else "south-user"
        name = fresh(text)
        user = await socket.call(
            "create", "users", {"username": name, "password": "secret-123", "text": text, "tags": [text]}, {}
        )
        await socket.login(name)
        await http.login(name)
        yield Side(app_id, socket, http, user)


async def stored(roost: Roost, app_id: str) -> dict[str, list[Any]]:
    """All that the database holds of an app, by collection."""
    async with raw(roost, app_id) as database:
        return {
            name: [found async for found in database[name].find({"app_id": app_id}, sort=[("_id", 1)])]
            for name in COLLECTIONS
        }
