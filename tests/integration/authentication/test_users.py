"""Users over a real database: sign-up, profile, unique names, and what never leaves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from bson import ObjectId

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, Conflict, FeathersError, MethodNotAllowed, NotAuthenticated, NotFound
from server.main import Roost
from tests.integration.authentication.clients import PASSWORD, Client, stored, tenant_of
from tests.support.placed import database_of

TAKEN = "This username is already taken"


@pytest.fixture
async def bob(roost: Roost) -> Client:
    """A user of `acme`, logged in."""
    client = Client(roost, "acme")
    await client.sign_up("Bob", color="red")
    await client.log_in("bob")
    return client


async def test_sign_up_keeps_a_hash_and_shows_the_profile(roost: Roost) -> None:
    created = await Client(roost, "acme").sign_up("Bob", color="red")
    assert created == {"_id": created["_id"], "username": "Bob", "color": "red"}
    kept = await stored(roost, "acme", "bob")
    assert kept == {
        "_id": {"a": "acme", "i": created["_id"]},
        "app_id": "acme",
        "username": "Bob",
        "username_key": "bob",
        "color": "red",
        "password": kept["password"],
    }
    assert kept["password"].startswith("$argon2id$")
    assert PASSWORD not in str(kept)


async def test_a_name_is_taken_once_in_an_app_in_whatever_form(roost: Roost) -> None:
    await Client(roost, "acme").sign_up("Bob")
    await Client(roost, "globex").sign_up("bob@b.example")
    await Client(roost, "acme").sign_up("bob@b.example")
    for name in ("bob", "BOB", " bob ", "\uff22\uff4f\uff42", "bo\u200bb"):
        with pytest.raises(Conflict, match=TAKEN):
            await Client(roost, "acme").sign_up(name)
    for address in ("bob@b.example", "BOB@b.example", "Bob@B.Example"):
        with pytest.raises(Conflict, match="This email is already taken"):
            await Client(roost, "globex").sign_up(address)


async def test_of_ten_sign_ups_at_once_one_succeeds(roost: Roost) -> None:
    names = ["bob", "Bob", "BOB", "bOB", "boB"] * 2
    results = await asyncio.gather(*(Client(roost, "acme").sign_up(name) for name in names), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert len(refused) == 9
    assert {(type(error), str(error)) for error in refused} == {(Conflict, "This username is already taken")}
    database = database_of(roost)
    assert await database["users"].count_documents({"app_id": "acme"}) == 1


async def test_without_the_friendly_hook_the_index_still_refuses(roost: Roost, bob: Client) -> None:
    tenant = await tenant_of(roost, "acme")
    service = roost.app.services["users"].service
    with pytest.raises(Conflict):
        await service.create({"username": "x", "username_key": "bob"}, Params(tenant=tenant))


async def test_without_the_index_the_friendly_hook_still_refuses(roost: Roost, bob: Client) -> None:
    users = database_of(roost)["users"]
    unique = [name for name, index in (await users.index_information()).items() if index.get("unique")]
    assert len(unique) == 1
    await users.drop_index(unique[0])
    await Client(roost, "acme").sign_up("Eve")
    with pytest.raises(Conflict, match=TAKEN):
        await bob.call("users", "patch", bob.id, {"username": "eve"})
    with pytest.raises(Conflict, match=TAKEN):
        await Client(roost, "acme").sign_up("bob")


async def test_finding_and_getting_users_needs_a_login(roost: Roost, bob: Client) -> None:
    stranger = Client(roost, "acme")
    for method, id in (("find", None), ("get", bob.id), ("patch", bob.id), ("update", bob.id), ("remove", bob.id)):
        with pytest.raises(NotAuthenticated):
            await stranger.call("users", method, id, {"username": "x"})
    page = await bob.call("users", "find")
    assert page == {"total": 1, "limit": 10, "skip": 0, "data": [await bob.call("users", "get", bob.id)]}


async def test_nothing_secret_leaves_by_any_method_or_event(roost: Roost, bob: Client) -> None:
    told: list[Any] = []
    for event in ("created", "updated", "patched", "removed"):
        roost.app.services["users"].on(event, lambda record, context: told.append(record))
    seen = [
        await Client(roost, "acme").sign_up("Eve"),
        await bob.call("users", "find"),
        await bob.call("users", "get", bob.id),
        await bob.call("users", "patch", bob.id, {"password": "another horse"}),
        await bob.call("users", "update", bob.id, {"username": "Bob", "password": "third horse"}),
        await bob.log_in("bob", "third horse"),
        await bob.call("authentication", "remove"),
        await bob.log_in("bob", "third horse"),
        await bob.call("users", "remove", bob.id),
    ]
    assert len(told) == 4
    text = json.dumps([seen, told], default=str)
    assert "argon2" not in text
    assert "username_key" not in text
    assert "tokens_" not in text
    assert "horse" not in text


HIDDEN_QUERIES: list[Record] = [
    {"password": {"$gt": "$argon2id"}},
    {"username_key": "bob"},
    {"$or": [{"username_key": "bob"}]},
    {"$and": [{"$or": [{"password": {"$ne": None}}]}]},
    {"password.0": "$"},
    {"$sort": {"password": 1}},
    {"$sort": {"username_key": -1}},
    {"$select": ["username", "password"]},
    {"$select": ["username_key"]},
]


async def test_no_client_asks_by_what_it_may_not_see(bob: Client) -> None:
    for query in HIDDEN_QUERIES:
        for method, id in (("find", None), ("get", bob.id)):
            with pytest.raises(BadRequest):
                await bob.call("users", method, id, query=query)


async def test_no_client_writes_what_the_server_decides(roost: Roost, bob: Client) -> None:
    before = await stored(roost, "acme", "bob")
    for field in ("username_key", "app_id", "roles", "permissions", "is_system", "verified"):
        value = "globex" if field == "app_id" else ["admin"]
        with pytest.raises(BadRequest, match=f"'{field}'"):
            await Client(roost, "acme").sign_up("Eve", **{field: value})
        for method in ("patch", "update"):
            with pytest.raises(BadRequest, match=f"'{field}'"):
                await bob.call("users", method, bob.id, {"username": "Bob", "password": PASSWORD, field: value})
    assert await stored(roost, "acme", "bob") == before


async def test_no_client_chooses_the_id_of_a_user(roost: Roost) -> None:
    with pytest.raises(BadRequest, match="'_id'"):
        await Client(roost, "acme").sign_up("Eve", _id=str(ObjectId()))


async def test_a_password_that_is_none_is_refused(roost: Roost, bob: Client) -> None:
    before = await stored(roost, "acme", "bob")
    passwords: list[Any] = [None, "short", "x" * 129, 12345678, {"$ne": ""}]
    for password in passwords:
        with pytest.raises(BadRequest, match="password"):
            await bob.call("users", "patch", bob.id, {"password": password})
        with pytest.raises(BadRequest, match="password"):
            await Client(roost, "acme").call("users", "create", data={"username": "eve", "password": password})
    assert await stored(roost, "acme", "bob") == before


async def test_a_changed_password_is_hashed_and_is_the_one_that_counts(roost: Roost, bob: Client) -> None:
    await bob.call("users", "patch", bob.id, {"password": "another horse"})
    assert (await stored(roost, "acme", "bob"))["password"].startswith("$argon2id$")
    with pytest.raises(NotAuthenticated):
        await Client(roost, "acme").log_in("bob")
    await Client(roost, "acme").log_in("bob", "another horse")


async def test_a_changed_name_takes_its_key_along(roost: Roost, bob: Client) -> None:
    await Client(roost, "acme").sign_up("Eve")
    with pytest.raises(Conflict, match=TAKEN):
        await bob.call("users", "patch", bob.id, {"username": "EVE"})
    assert (await bob.call("users", "patch", bob.id, {"username": "BOB"}))["username"] == "BOB", (
        "one's own name is free"
    )
    assert (await bob.call("users", "patch", bob.id, {"username": "Robert"}))["color"] == "red"
    assert (await stored(roost, "acme", "robert"))["username"] == "Robert"
    await Client(roost, "acme").log_in("robert")
    await Client(roost, "acme").sign_up("Bob")


async def test_of_ten_who_take_one_name_at_once_one_succeeds(roost: Roost) -> None:
    clients = [Client(roost, "acme") for _ in range(4)]
    for number, client in enumerate(clients):
        await client.sign_up(f"user{number}")
        await client.log_in(f"user{number}")
    results = await asyncio.gather(
        *(client.call("users", "patch", client.id, {"username": "Bob"}) for client in clients), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "Conflict", "Conflict", "dict"]


async def test_only_ones_own_record_is_changed_or_removed(roost: Roost, bob: Client) -> None:
    eve = Client(roost, "acme")
    await eve.sign_up("Eve")
    await eve.log_in("eve")
    before = await stored(roost, "acme", "bob")
    for method in ("patch", "update", "remove"):
        with pytest.raises(NotFound):
            await eve.call("users", method, bob.id, {"username": "mine", "password": PASSWORD})
        with pytest.raises((MethodNotAllowed, BadRequest)):
            await eve.call("users", method, None, {"username": "mine", "password": PASSWORD})
        with pytest.raises((NotFound, BadRequest)):
            await eve.call("users", method, bob.id, {"username": "mine"}, query={"$or": [{"_id": bob.id}]})
    assert await stored(roost, "acme", "bob") == before
    await eve.call("users", "remove", eve.id)
    with pytest.raises(NotAuthenticated):
        await eve.call("users", "find")


async def test_update_replaces_the_profile_and_keeps_what_the_client_cannot_see(roost: Roost, bob: Client) -> None:
    tenant = await tenant_of(roost, "acme")
    await roost.app.call(
        "users", "patch", Params(tenant=tenant), id=bob.id, data={"roles": ["editor"], "verified": True}
    )
    before = await stored(roost, "acme", "bob")
    shown = await bob.call("users", "get", bob.id)
    replaced = await bob.call("users", "update", bob.id, {"_id": bob.id, "username": "Robert", "size": 3})
    assert replaced == {"_id": shown["_id"], "username": "Robert", "size": 3, "roles": ["editor"], "verified": True}
    kept = await stored(roost, "acme", "robert")
    assert kept["password"] == before["password"]
    assert "color" not in kept
    with pytest.raises(BadRequest, match="username is missing"):
        await bob.call("users", "update", bob.id, {"size": 3})


async def test_the_same_name_in_two_apps_is_two_users(roost: Roost, bob: Client) -> None:
    await Client(roost, "acme").sign_up("Bob@b.example")
    other = Client(roost, "globex")
    await other.sign_up("Bob@b.example")
    await other.log_in("bob@b.example")
    assert other.id != bob.id
    assert [user["_id"] for user in (await other.call("users", "find"))["data"]] == [ObjectId(other.id)]
    for method in ("get", "patch", "remove"):
        with pytest.raises(FeathersError) as caught:
            await other.call("users", method, bob.id, {"size": 3})
        assert caught.value.code == 404
    with pytest.raises(Conflict):
        await Client(roost, "acme").sign_up("bob")


async def test_hooks_of_the_server_see_the_whole_record(roost: Roost, bob: Client) -> None:
    tenant = await tenant_of(roost, "acme")
    context: HookContext = await roost.app.call("users", "get", Params(tenant=tenant), id=bob.id)
    assert context.result["password"].startswith("$argon2id$")
    assert "password" not in context.outcome
