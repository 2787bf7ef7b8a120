"""Rooms: which of a service's events a client hears of, by rooms that it joins and leaves itself.

A service declares `rooms: {by: <field>, join: <rule>}`. Its events then reach the connections that have joined the room
which the record's field names, and that the service's read rule admits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bson import ObjectId

from hooks.context import Connection, Params, Record
from hooks.errors import BadRequest, Forbidden, NotAuthenticated, NotFound
from services.application import Application
from services.base import Service
from services.channels import MAX_ROOM, ROOM_PREFIX, room_channel
from services.registration import Registration

PATH = "rooms"
MAX_ROOMS = 100
"""Rooms that one connection is in at a time."""
_NO_ROOM = f"A room is a text of 1 to {MAX_ROOM} characters or an integer"


class RoomsService(Service):
    """The rooms of the calling connection, as records `{_id: "<service>/<room>", service, room}`."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def find(self, params: Params) -> list[Record]:
        """The rooms that the connection has joined, in order of their ids."""
        return sorted(_joined(_socket(params)), key=lambda record: str(record["_id"]))

    async def create(self, data: Any, params: Params) -> Record:
        """Joins the room `{service, room}`. Who is in it stays in it.

        Raises:
            NotFound: no such service. BadRequest: it has no rooms, no socket, or too many rooms.
            NotAuthenticated: a login is needed. Forbidden: nobody may join from outside.
        """
        connection = _socket(params)
        if not isinstance(data, dict) or not isinstance(data.get("service"), str):
            raise BadRequest('A room is named by {"service": ..., "room": ...}')
        registration, route = self._app.lookup(params.tenant, data["service"])
        if "__id" in route:
            raise NotFound(f"Service '{data['service'][:100]}' not found")
        if registration.rooms is None:
            raise BadRequest(f"The service '{registration.path}' has no rooms")
        _check_rule(registration, params)
        channel = room_channel(registration.path, data.get("room"))
        if channel is None:
            raise BadRequest(_NO_ROOM)
        if connection.tenant.id != params.tenant.id:
            raise BadRequest("The connection has gone on in another app since this was asked")
        if channel not in connection.channels:
            if sum(1 for _ in _joined(connection)) >= MAX_ROOMS:
                raise BadRequest(f"A connection can be in at most {MAX_ROOMS} rooms: leave one first")
            self._app.channels.join(connection, channel)
        return _record(channel)

    async def remove(self, id: Any, params: Params) -> Record:
        """Leaves the room `<service>/<room>`.

        Raises:
            NotFound: the connection is not in it. BadRequest: no socket.
        """
        connection = _socket(params)
        for record in _joined(connection):
            if record["_id"] == id:
                leave(self._app, connection, record["service"], record["room"])
                return record
        raise NotFound(f"No record found for id '{id}'")


def join(app: Application, connection: Connection, service: str, room: str | int | ObjectId) -> None:
    """Lets a connection into a room on the server's own behalf, whatever the rule says.

    Raises:
        ValueError: that is no room.
    """
    app.channels.join(connection, _channel(service, room))


def leave(app: Application, connection: Connection, service: str, room: str | int | ObjectId) -> None:
    """Takes a connection out of a room; one that is not in it stays as it is.

    Raises:
        ValueError: that is no room.
    """
    app.channels.leave(connection, _channel(service, room))


def _channel(service: str, room: object) -> str:
    channel = room_channel(service.strip("/"), room)
    if channel is None:
        raise ValueError(_NO_ROOM)
    return channel


def _check_rule(registration: Registration, params: Params) -> None:
    rule = registration.rooms.join if registration.rooms is not None else "nobody"
    if rule == "authenticated" and not params.authenticated:
        raise NotAuthenticated()
    if rule not in ("authenticated", "public"):
        raise Forbidden(f"The rooms of '{registration.path}' cannot be joined")


def _socket(params: Params) -> Connection:
    if params.connection is None:
        raise BadRequest("Rooms belong to a connection: join them over a socket")
    return params.connection


def _joined(connection: Connection) -> Iterator[Record]:
    return (_record(channel) for channel in [*connection.channels] if channel.startswith(ROOM_PREFIX))


def _record(channel: str) -> Record:
    service, _, room = channel.removeprefix(ROOM_PREFIX).partition(" ")
    return {"_id": f"{service}/{room}", "service": service, "room": room}
