"""The recipes of the guide's chapter "Rules": each is applied as it stands there, and does what it promises."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.main import Roost
from services.declaration import check
from services.review import review
from services.users import assign, grant
from tests.conftest import StartRoost
from tests.integration.rules.people import make_user, sockets, tenant_of
from tests.support.client import CallError, Client, outcome, until

CHAPTER = Path(__file__).parents[3] / "docs" / "guide" / "rules.md"
Serve = Callable[[str], Awaitable[tuple[Roost, dict[str, Client]]]]


def recipe(heading: str) -> dict[str, Any]:
    """The services of the YAML block under a heading."""
    _, _, section = CHAPTER.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    found = re.search(r"^```yaml\n(.*?)^```$", section.split("\n## ")[0], re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    block: dict[str, Any] = yaml.safe_load(found[1])
    return block


@pytest.fixture
async def serve(roosts: StartRoost) -> AsyncIterator[Serve]:
    """Serves a recipe as the app acme, to Ada, Bob and a stranger."""
    async with AsyncExitStack() as stack:

        async def start(heading: str) -> tuple[Roost, dict[str, Client]]:
            roost = await roosts(json.dumps({"tenants": [{"id": "acme", **recipe(heading)}]}))
            for name in ("ada", "bob"):
                await make_user(roost, "acme", name, _id=name)
            names = {"ada": "ada", "bob": "bob", "stranger": None}
            return roost, await stack.enter_async_context(sockets(roost, "acme", names))

        yield start


async def code(client: Client, method: str, service: str, *arguments: Any) -> int:
    """The code of the answer; 0 is none."""
    answer = await outcome(client, method, service, *arguments)
    return answer.code if isinstance(answer, CallError) else 0


async def heard(people: Mapping[str, Client]) -> dict[str, list[str]]:
    found = {who: [event.name for event in await client.take_events()] for who, client in people.items()}
    return {who: names for who, names in found.items() if names}


def test_every_yaml_block_of_the_chapter_can_be_applied_and_has_no_mistakes() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", CHAPTER.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    for block in blocks[2:]:
        (tenant,) = check({"tenants": [{"id": "acme", **yaml.safe_load(block)}]}).tenants
        assert [str(one) for one in review(tenant.services) if "$user" not in one.text] == []
    for block in blocks[:2]:
        check({"tenants": [{"id": "acme", **yaml.safe_load(block)}]})


async def test_private_notes(serve: Serve) -> None:
    _, people = await serve("Private notes")
    ada, bob, stranger = people.values()
    note = await ada.call("create", "notes", {"text": "mine"})
    assert note["owner_id"] == "ada"
    assert await heard(people) == {"ada": ["notes created"]}
    assert (await bob.call("find", "notes", {}))["total"] == 0
    assert (await ada.call("find", "notes", {}))["total"] == 1
    for method, data in (("get", ()), ("patch", ({"text": "x"},)), ("update", ({"text": "x"},)), ("remove", ())):
        assert await code(bob, method, "notes", note["_id"], *data) == 404
        assert await code(stranger, method, "notes", note["_id"], *data) == 401
    assert await code(ada, "patch", "notes", note["_id"], {"owner_id": "bob"}) == 400
    assert (await ada.call("update", "notes", note["_id"], {"text": "still mine"}))["owner_id"] == "ada"
    assert await heard(people) == {"ada": ["notes updated"]}


async def test_private_until_made_public(serve: Serve) -> None:
    _, people = await serve("Private until made public")
    ada, bob, stranger = people.values()
    message = await ada.call("create", "messages", {"text": "psst"})
    assert await heard(people) == {"ada": ["messages created"]}
    assert (await bob.call("find", "messages", {}))["total"] == 0
    await ada.call("patch", "messages", message["_id"], {"public": True})
    assert await heard(people) == {"ada": ["messages patched"], "bob": ["messages patched"]}
    assert (await bob.call("get", "messages", message["_id"]))["text"] == "psst"
    assert await code(stranger, "get", "messages", message["_id"]) == 401
    assert await code(bob, "patch", "messages", message["_id"], {"public": False}) == 404
    await ada.call("patch", "messages", message["_id"], {"public": False})
    assert await heard(people) == {"ada": ["messages patched"], "bob": ["messages removed"]}
    assert await code(bob, "get", "messages", message["_id"]) == 404
    assert (await ada.call("find", "messages", {}))["total"] == 1


async def test_public_blog(serve: Serve) -> None:
    roost, people = await serve("Public blog")
    ada, bob, stranger = people.values()
    tenant = await tenant_of(roost, "acme")
    due = {"published": True, "publish_at": "2020-01-01T00:00:00Z"}
    assert await code(ada, "create", "posts", {"title": "x"}) == 403
    await grant(roost.backend.isolation, tenant, "ada", "posts:write")

    async def may_write() -> bool:
        return await code(ada, "create", "posts", {"_id": "draft", "title": "draft"}) in (0, 409)

    await until(may_write)
    await heard(people)
    later = await ada.call(
        "create", "posts", {"title": "later", "published": True, "publish_at": "2999-01-01T00:00:00Z"}
    )
    post = await ada.call("create", "posts", {"title": "out", **due})
    assert await heard(people) == {
        "ada": ["posts created"] * 2,
        "bob": ["posts created"],
        "stranger": ["posts created"],
    }
    assert [one["title"] for one in (await stranger.call("find", "posts", {}))["data"]] == ["out"]
    assert (await ada.call("find", "posts", {}))["total"] == 3
    assert await code(bob, "get", "posts", later["_id"]) == 404
    assert await code(bob, "patch", "posts", post["_id"], {"title": "mine"}) == 403
    await ada.call("patch", "posts", post["_id"], {"published": False})
    assert await heard(people) == {"ada": ["posts patched"], "bob": ["posts removed"], "stranger": ["posts removed"]}
    comment = await bob.call("create", "comments", {"post": post["_id"], "text": "well"})
    assert (comment["author"], comment["author_id"]) == ("bob", "bob")
    assert await code(stranger, "create", "comments", {"text": "x"}) == 401
    assert await code(ada, "remove", "comments", comment["_id"]) == 404
    assert (await stranger.call("get", "comments", comment["_id"]))["text"] == "well"


async def test_shared_rooms_with_members(serve: Serve) -> None:
    roost, people = await serve("Shared rooms with members")
    ada, bob, stranger = people.values()
    board = await ada.call("create", "boards", {"title": "plans", "member_ids": []})
    assert await heard(people) == {"ada": ["boards created"]}
    await ada.call("patch", "boards", board["_id"], {"$addToSet": {"member_ids": "bob"}})
    assert await heard(people) == {"ada": ["boards patched"], "bob": ["boards patched"]}
    assert (await bob.call("get", "boards", board["_id"]))["title"] == "plans"
    assert await code(bob, "patch", "boards", board["_id"], {"$addToSet": {"member_ids": "eve"}}) == 404
    await ada.call("patch", "boards", board["_id"], {"$pull": {"member_ids": "bob"}})
    assert await heard(people) == {"ada": ["boards patched"], "bob": ["boards removed"]}
    assert (await bob.call("find", "boards", {}))["total"] == 0

    assert await code(ada, "create", "talk", {"room": "lobby", "text": "hi"}) == 403
    isolation, tenant = roost.backend.isolation, await tenant_of(roost, "acme")
    for name, rooms in (("ada", ["lobby", "attic"]), ("bob", ["lobby"])):
        await assign(isolation, tenant, name, "rooms", rooms)
    for client in (ada, bob):

        async def is_in(client: Client = client) -> bool:
            return await code(client, "create", "talk", {"room": "lobby", "text": "hi"}) == 0

        await until(is_in)
        for room in ("lobby", "attic"):
            await client.call("create", "rooms", {"service": "talk", "room": room})
    await heard(people)
    said = await ada.call("create", "talk", {"room": "attic", "text": "psst"})
    assert await heard(people) == {"ada": ["talk created"]}
    assert await code(bob, "get", "talk", said["_id"]) == 404
    assert await code(bob, "create", "talk", {"room": "attic", "text": "hm"}) == 403
    open_word = await ada.call("create", "talk", {"room": "lobby", "text": "hello"})
    assert await heard(people) == {"ada": ["talk created"], "bob": ["talk created"]}
    assert await code(bob, "remove", "talk", open_word["_id"]) == 404
    assert await code(ada, "patch", "talk", said["_id"], {"room": "cellar"}) == 403
    assert await code(stranger, "find", "talk", {}) == 401


async def test_admin_only(serve: Serve) -> None:
    roost, people = await serve("Admin-only")
    ada, bob, stranger = people.values()
    assert await code(ada, "create", "flags", {"name": "color", "value": "red"}) == 403
    await grant(roost.backend.isolation, await tenant_of(roost, "acme"), "ada", "admin")

    async def is_admin() -> bool:
        return await code(ada, "find", "journal", {}) == 0

    await until(is_admin)
    await ada.call("create", "flags", {"name": "color", "value": "red"})
    assert await heard(people) == {"ada": ["flags created"], "bob": ["flags created"]}
    assert (await bob.call("get", "flags", "color"))["value"] == "red"
    assert await code(bob, "patch", "flags", "color", {"value": "blue"}) == 403
    assert await code(stranger, "get", "flags", "color") == 401
    line = await ada.call("create", "journal", {"text": "color"})
    assert line["by"] == "ada"
    assert await heard(people) == {"ada": ["journal created"]}
    assert await code(ada, "patch", "journal", line["_id"], {"text": "x"}) == 405
    assert await code(ada, "create", "journal", {"at": "1970"}) == 400
    assert await code(bob, "find", "journal", {}) == 403
    assert await code(stranger, "find", "journal", {}) == 401


async def test_per_organization(serve: Serve) -> None:
    roost, people = await serve("Per organization")
    ada, bob, stranger = people.values()
    isolation, tenant = roost.backend.isolation, await tenant_of(roost, "acme")
    assert await code(ada, "find", "projects", {}) == 403
    assert await code(ada, "patch", "users", "ada", {"org_id": "north"}) == 400
    await assign(isolation, tenant, "ada", "org_id", "north")
    await assign(isolation, tenant, "bob", "org_id", "south")
    for client in (ada, bob):

        async def belongs(client: Client = client) -> bool:
            return await code(client, "find", "projects", {}) == 0

        await until(belongs)
    await heard(people)
    project = await ada.call("create", "projects", {"name": "bridge"})
    assert project["org_id"] == "north"
    assert await heard(people) == {"ada": ["projects created"]}
    assert (await bob.call("find", "projects", {}))["total"] == 0
    assert await code(bob, "get", "projects", project["_id"]) == 404
    assert await code(ada, "patch", "projects", project["_id"], {"org_id": "south"}) == 400
    assert await code(ada, "remove", "projects", project["_id"]) == 403
    await grant(isolation, tenant, "bob", "org:admin")
    await grant(isolation, tenant, "ada", "org:admin")

    async def is_removed() -> bool:
        return await code(ada, "remove", "projects", project["_id"]) == 0

    assert await code(bob, "remove", "projects", project["_id"]) in (403, 404)
    await until(is_removed)
    assert await code(stranger, "find", "projects", {}) == 401
