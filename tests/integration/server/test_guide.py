"""The code of the guide does what the guide says: its blocks are taken out of the chapters and run on a real server."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import StartRoost
from tests.support.client import Event, connect, fresh, outcome, rest
from tests.support.placed import database_of

GUIDE = Path(__file__).parents[3] / "docs" / "guide"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Load = Callable[[str], ModuleType]


def blocks(chapter: str, language: str) -> list[str]:
    """The code of a chapter in one language."""
    text = (GUIDE / f"{chapter}.md").read_text(encoding="utf-8")
    return [code for found, code in _BLOCK.findall(text) if found == language]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Writes the Python files of a chapter, each of which begins with its name, and imports the first of them."""
    names: list[str] = []

    def write(chapter: str) -> ModuleType:
        for code in blocks(chapter, "python"):
            named = re.match(r"# (\w+)\.py\n", code)
            assert named is not None, "a block of Python begins with the name of its file"
            names.append(named[1])
            (tmp_path / f"{named[1]}.py").write_text(code, encoding="utf-8")
        return importlib.import_module(names[0])

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in names:
        sys.modules.pop(name, None)


async def test_the_chapter_on_plugins_builds_a_service_in_sixty_lines(load: Load) -> None:
    load("plugins")
    lines = [line for code in blocks("plugins", "python") for line in code.splitlines() if line.strip()]
    written = [line for line in lines if not line.startswith(("from ", "import ", "#"))]
    assert 30 < len(written) <= 60
    test = importlib.import_module("test_tickets")
    try:
        await test.test_a_ticket_is_closed_once()
    finally:
        sys.modules.pop("test_tickets")


async def test_the_service_of_the_chapter_on_plugins_runs_on_a_server(load: Load, roosts: StartRoost) -> None:
    roost = await roosts(modules=(load("plugins").__name__,))
    async with connect(roost, "acme") as ada, connect(roost, "globex") as eve, connect(roost, "acme") as stranger:
        name = fresh("ada")
        await ada.sign_up(name)
        await eve.sign_up(f"{fresh('eve')}@globex.example", field="email")
        await ada.take_events()
        await eve.take_events()
        ticket = await ada.call("create", "tickets", {"text": "It does not print"}, {})
        assert (ticket["state"], ticket["by"]) == ("open", name)
        closed = await ada.call("close", "tickets", {"id": ticket["_id"]}, {})
        assert closed == {**ticket, "state": "closed"}
        assert await ada.take_events() == [
            Event("tickets created", (ticket,)),
            Event("tickets patched", (closed,)),
            Event("tickets closed", (closed,)),
        ]
        assert (await outcome(ada, "close", "tickets", {"id": ticket["_id"]}, {})).code == 409
        assert (await outcome(ada, "close", "tickets", {}, {})).code == 400
        assert (await outcome(ada, "create", "tickets", {"text": 5}, {})).code == 400
        assert (await outcome(ada, "patch", "tickets", ticket["_id"], {"state": "open"}, {})).code == 405
        assert (await outcome(eve, "close", "tickets", {"id": ticket["_id"]}, {})).code == 404
        assert (await outcome(stranger, "find", "tickets", {})).code == 401
        assert (await ada.call("find", "tickets", {"state": "closed"}))["data"] == [closed]
        await eve.quiet()
        await stranger.quiet()


async def test_the_declared_schema_of_the_chapter_on_schemas(roosts: StartRoost) -> None:
    (declared,) = blocks("schemas", "yaml")
    roost = await roosts(declared)
    async with connect(roost, "acme") as ada, rest(roost, "acme") as client:
        one, two = (article["_id"] for article in await ada.call("create", "articles", [{"n": 1}, {"n": 2}], {}))
        await ada.take_events()
        order = {"article": one, "count": 3, "paid": False, "lines": [{"part": two}], "due": "2026-01-01T00:00:00.000Z"}
        made = await ada.call("create", "orders", order, {})
        assert made == {**order, "_id": made["_id"]}
        assert await ada.next_event() == Event("orders created", (made,))
        other = await ada.call("create", "orders", {"article": two, "count": 1, "paid": True}, {})

        stored = database_of(roost)["orders"]
        kept = await stored.find_one({"app_id": "acme", "count": 3})
        assert kept is not None
        assert (str(kept["article"]), type(kept["article"]).__name__) == (one, "ObjectId")
        assert (str(kept["lines"][0]["part"]), type(kept["lines"][0]["part"]).__name__) == (two, "ObjectId")
        assert kept["due"] == order["due"]

        for caller in (ada, client):
            for query, expected in [
                ({"article": one}, [made]),
                ({"article": {"$in": [one, "nonsense"]}}, [made]),
                ({"lines.part": two}, [made]),
                ({"$or": [{"article": two}, {"count": 99}]}, [other]),
                ({"article": {"$ne": one}}, [other]),
            ]:
                assert (await caller.call("find", "orders", query))["data"] == expected, query
        assert (await client.call("find", "orders", {"count": {"$gt": 2}, "paid": False}))["data"] == [made]

        patched = await ada.call("patch", "orders", made["_id"], {"article": two}, {})
        assert patched["article"] == two
        for data, path in [
            ({"count": 1}, "/"),
            ({"article": "x"}, "/article"),
            ({"article": one, "lines": [{"part": "x"}]}, "/lines/0/part"),
            ({"article": one, "due": "tomorrow"}, "/due"),
            ({"article": one, "colour": "red"}, "/"),
            ([{"article": one}, {"article": one, "count": 0}], "/1/count"),
        ]:
            refused = await outcome(ada, "create", "orders", data, {})
            assert (refused.code, refused.message) == (400, "validation failed")
            assert [fault["path"] for fault in refused.data] in ([path], [path.rstrip("/")])


async def test_the_plugin_of_the_chapter_on_schemas(load: Load, roosts: StartRoost) -> None:
    (declared,) = blocks("schemas", "yaml")
    roost = await roosts(declared, modules=(load("schemas").__name__,))
    async with connect(roost, "acme") as ada, connect(roost, "acme") as bob, rest(roost, "acme") as client:
        user = await ada.sign_up(fresh("ada"))
        await bob.sign_up(fresh("bob"))
        client.headers["Authorization"] = str(ada.token)
        article = await ada.call("create", "articles", {"n": 1}, {})
        await ada.take_events()
        sent = {"article": article["_id"], "count": "2", "due": "2026-01-01T00:00:00Z"}
        made = await ada.call("create", "my-orders", sent, {})
        assert made == {
            "_id": made["_id"],
            "article": article["_id"],
            "count": 2,
            "due": "2026-01-01T00:00:00.000Z",
            "details": article,
        }
        assert await ada.next_event() == Event("my-orders created", (made,))
        stored = database_of(roost)["plugin.orders"]
        kept = await stored.find_one({"app_id": "acme"})
        assert kept is not None
        assert (str(kept["by"]), "details" in kept) == (user["_id"], False)

        assert await client.call("find", "my-orders", {"due": {"$lt": "2026-06-01"}, "count": {"$in": [2]}}) == [made]
        assert await client.call("find", "my-orders", {"due": {"$lt": "2025-06-01"}}) == []
        assert await ada.call("find", "my-orders", {"$select": ["count"]}) == [{"_id": made["_id"], "count": 2}]
        assert await ada.call("find", "my-orders", {"$select": ["details"]}) == [
            {"_id": made["_id"], "details": article}
        ]
        assert await bob.call("find", "my-orders", {"by": user["_id"]}) == []
        assert (await outcome(bob, "get", "my-orders", made["_id"], {})).code == 404
        refused = await outcome(client, "find", "my-orders", {"count": {"$gt": "many"}})
        assert (refused.code, refused.data[0]["path"]) == (400, "/count/$gt")
        unknown = {"article": "0" * 24}
        failed = await outcome(ada, "create", "my-orders", unknown, {})
        assert (failed.code, failed.message, failed.data["details"]["code"]) == (400, "Error resolving data", 404)


async def test_the_chapter_on_channels(load: Load, roosts: StartRoost) -> None:
    roost = await roosts(modules=(load("channels").__name__,))
    async with (
        connect(roost, "acme") as ada,
        connect(roost, "acme") as bob,
        connect(roost, "acme") as stranger,
        rest(roost, "acme") as client,
    ):
        user = await ada.sign_up(fresh("ada"))
        await bob.sign_up(fresh("bob"))
        await ada.call("patch", "users", user["_id"], {"badge": True}, {})
        for person in (ada, bob, stranger):
            await person.take_events()
        await client.call("create", "notes", {"text": "hello", "n": 1})
        await client.call("create", "notes", {"text": "psst", "internal": True})
        assert [event.record["text"] for event in await ada.take_events()] == ["hello", "psst"]
        assert [event.record["text"] for event in await bob.take_events()] == ["hello"]
        assert [event.record for event in await stranger.take_events()] == [{"text": "hello"}]


async def test_the_rooms_of_the_chapter_on_channels(roosts: StartRoost) -> None:
    (declared,) = blocks("channels", "yaml")
    roost = await roosts(declared)
    async with connect(roost, "acme") as ada, connect(roost, "acme") as bob:
        await ada.sign_up(fresh("ada"))
        await bob.sign_up(fresh("bob"))
        await ada.call("create", "rooms", {"service": "messages", "room": "kitchen"}, {})
        await bob.take_events()
        await ada.take_events()
        made = await bob.call("create", "messages", {"text": "hot", "room": "kitchen"}, {})
        assert await ada.next_event() == Event("messages created", (made,))
        assert [room["_id"] for room in await ada.call("find", "rooms", {})] == ["messages/kitchen"]
        await ada.call("remove", "rooms", "messages/kitchen", {})
        await bob.call("create", "messages", {"text": "cold", "room": "kitchen"}, {})
        await ada.quiet()
        await bob.quiet()


async def test_the_plugin_of_the_chapter_on_apps(load: Load, roosts: StartRoost) -> None:
    """SD-5."""
    roost = await roosts(modules=(load("tenants").__name__,), base_hosts=("example.com",))
    for host, status in (("shop.example.org", 200), ("globex.example.com", 200), ("other.example.org", 404)):
        async with rest(roost, None, Host=host) as client:
            assert (await client.request("GET", "/notes")).status == status
