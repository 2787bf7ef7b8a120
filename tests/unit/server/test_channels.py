"""Channels belong to one tenant; the same name in another tenant is another channel."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest

from hooks.context import Authentication
from hooks.tenant import Tenant
from server.connection import Connection
from server.connections import Connections
from services.channels import AUTHENTICATED, EVERYONE, Channels
from services.readers import Readers

ACME, GLOBEX = Tenant("acme", "Acme"), Tenant("globex", "Globex")
LOGIN = Authentication("jwt", "x.y.z", {"exp": 4_000_000_000})


class Plug:
    """A socket that is closed by hand."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.closed = False

    def dismiss(self) -> None:
        self.closed = True


def a_connection(id: str, tenant: Tenant = ACME) -> Connection:
    socket: Any = Plug(id)
    return Connection(socket, tenant, {})


@pytest.fixture
def channels() -> Channels:
    return Channels()


@pytest.fixture
def connections(channels: Channels) -> Connections:
    return Connections(channels, Readers(channels))


def test_a_name_in_two_tenants_is_two_channels(channels: Channels) -> None:
    here, there = a_connection("1"), a_connection("1", GLOBEX)
    channels.join(here, "room")
    channels.join(there, "room")
    assert [*channels.members("acme", ["room"])] == [here]
    assert [*channels.members("globex", ["room"])] == [there]
    assert [*channels.members("initech", ["room"])] == []


def test_a_refusal_that_comes_after_its_connection_is_remembered_by_nobody(connections: Connections) -> None:
    """Calls that run when a socket goes end after it: each would keep a connection in memory for good."""
    here = a_connection("1")
    connections.add(here)
    connections.note_refusal(here)
    connections.remove(here)
    connections.note_refusal(here)
    gone = weakref.ref(here.socket)
    del here
    gc.collect()
    assert gone() is None


def test_members_come_once_and_empty_channels_disappear(channels: Channels) -> None:
    one, two = a_connection("1"), a_connection("2")
    for name in ("a", "b"):
        channels.join(one, name)
        channels.join(one, name)
    channels.join(two, "b")
    assert [*channels.members("acme", ["a", "b", "none"])] == [one, two]
    channels.leave(one, "none")
    channels.leave_all(one)
    assert channels.names("acme") == ["b"]
    channels.leave(two, "b")
    assert channels.names("acme") == []


async def test_a_login_joins_and_a_logout_leaves(connections: Connections, channels: Channels) -> None:
    connection = a_connection("1")
    connections.add(connection)
    await connections.login(connection, LOGIN, {"_id": 1}, connection.tenant)
    assert connection.params({}).authenticated
    assert {*channels.names("acme")} == {EVERYONE, AUTHENTICATED}
    channels.join(connection, "room")
    await connections.logout(connection)
    assert channels.names("acme") == [EVERYONE]
    assert connection.params({}).user is None
    connections.remove(connection)
    assert (channels.names("acme"), connections.count()) == ([], 0)


async def test_an_older_login_ends_no_newer_one(connections: Connections) -> None:
    """What is found out about a login late, when the connection has another one."""
    connection = a_connection("1")
    connections.add(connection)
    newer = replace(LOGIN, access_token="newer")
    await connections.login(connection, newer, {"_id": 1}, connection.tenant)
    await connections.logout(connection, LOGIN)
    assert connection.authentication == newer
    await connections.logout(connection, newer)
    assert connection.authentication is None


async def test_who_has_gone_is_not_logged_in(connections: Connections, channels: Channels) -> None:
    connection = a_connection("1")
    connections.add(connection)
    connections.remove(connection)
    await connections.login(connection, LOGIN, {"_id": 1}, connection.tenant)
    assert channels.names("acme") == []
    assert connection.authentication is None


def test_an_app_that_is_not_ready_closes_its_sockets_alone(connections: Connections) -> None:
    ours, theirs = a_connection("1"), a_connection("2", GLOBEX)
    for connection in (ours, theirs):
        connections.add(connection)
    connections.refresh(Tenant("acme", "Acme", epoch=2))
    assert (ours.tenant.epoch, theirs.tenant.epoch) == (2, 1)
    connections.refresh(Tenant("acme", "Acme", status="suspended", epoch=3))
    sockets: list[Any] = [ours.socket, theirs.socket]
    assert [socket.closed for socket in sockets] == [True, False]
