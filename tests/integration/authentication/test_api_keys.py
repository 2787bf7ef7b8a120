"""API keys: made by administrators, shown once, bound to scopes, and gone at once when they are removed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from server.main import Roost
from services.api_keys import ADMIN
from services.users import grant
from tests.integration.authentication.people import is_in, is_out, log_in, refused, sign_up, tenant_of
from tests.support.client import Rest, connect, fresh, rest, until
from tests.support.placed import database_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = {
    "name": "NotAuthenticated",
    "message": "Invalid API key",
    "code": 401,
    "className": "not-authenticated",
    "data": {"name": "ApiKeyError"},
}


async def admin_token(roost: Roost, app_id: str) -> str:
    """The access token of a new administrator."""
    async with rest(roost, app_id) as http:
        name, _ = await sign_up(http)
        await grant(roost.backend.isolation, tenant_of(roost, app_id), name, ADMIN)
        return str((await log_in(http, name))["accessToken"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(served: Roost) -> str:
    """The access token of an administrator of `acme`."""
    return await admin_token(served, "acme")


async def make_key(roost: Roost, admin: str, *scopes: str, **more: Any) -> Any:
    """A new key with its record."""
    async with rest(roost, "acme", Authorization=f"Bearer {admin}") as http:
        return await http.call("create", "api-keys", {"name": fresh("key"), "scopes": [*scopes], **more})


def by_header(http: Rest, header: str, key: str) -> dict[str, str]:
    """The headers of a request with a key, in one of the ways of sending it."""
    return {"X-Api-Key": key} if header == "X-Api-Key" else {"Authorization": f"{header} {key}".strip()}


async def test_a_key_is_given_no_more_than_its_maker_has(served: Roost) -> None:
    """TK-11: rules take scopes for permissions, so a key would be a way to what its maker may not do."""
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        acme = tenant_of(served, "acme")
        await grant(served.backend.isolation, acme, name, ADMIN)
        data = {"name": "robot", "scopes": ["roles:find", "read:roles"]}
        http.headers["Authorization"] = f"Bearer {(await log_in(http, name))['accessToken']}"
        error = await refused(http, "create", "api-keys", data)
        assert (error.code, "read:roles" in error.message) == (403, True)
        await grant(served.backend.isolation, acme, name, "tenant:admin")
        key = (await http.call("create", "api-keys", data))["key"]
        http.headers["Authorization"] = f"Bearer {key}"
        assert (await http.call("find", "roles"))["total"] == 0


async def test_a_key_is_shown_once_and_kept_as_a_hash(served: Roost, admin: str) -> None:
    async with rest(served, "acme", Authorization=f"Bearer {admin}") as http:
        made = await http.call("create", "api-keys", {"name": " Shop ", "scopes": ["notes:find"], "expires_in": 60})
        _, tenant, id, secret = made["key"].split("_")
        assert (made["key"][:8], tenant, id, len(secret)) == ("rk_acme_", "acme", made["_id"], 64)
        assert (made["name"], made["scopes"], made["last_use"]) == ("Shop", ["notes:find"], None)
        keys = database_of(served)["api_keys"]
        stored = await keys.find_one({"_id": {"a": "acme", "i": id}})
        assert stored is not None
        assert secret not in str(stored)
        [listed] = [key for key in await http.call("find", "api-keys") if key["_id"] == id]
        assert listed == {field: value for field, value in made.items() if field != "key"}
        assert stored["hash"] not in str(listed)
        assert (await refused(http, "get", "api-keys", id)).code == 405
        assert (await refused(http, "patch", "api-keys", id, {"scopes": ["*"]})).code == 405


@pytest.mark.parametrize("header", ["X-Api-Key", "ApiKey", "apikey", "Bearer", ""])
async def test_a_key_calls_within_its_scopes_over_rest(served: Roost, admin: str, header: str) -> None:
    key = (await make_key(served, admin, "notes:find", "notes:create"))["key"]
    async with rest(served, "acme") as http:
        headers = by_header(http, header, key)
        assert (await http.request("GET", "/notes", headers=headers)).status == 200
        assert (await http.request("POST", "/notes", {"text": "x"}, headers=headers)).status == 201
        refused = await http.request("DELETE", "/notes/1", headers=headers)
        assert (refused.status, refused.json["message"]) == (403, "This API key may not call 'remove' on 'notes'")
        assert (await http.request("GET", "/board", headers=headers)).status == 403, "public is not in its scopes"
        assert (await http.request("GET", "/users", headers=headers)).status == 403


SCOPES = [
    (["*"], {"notes:find", "notes:create", "board:find", "users:find"}),
    (["notes:*"], {"notes:find", "notes:create"}),
    (["*:find"], {"notes:find", "board:find", "users:find"}),
    (["board:find", "notes:create"], {"board:find", "notes:create"}),
    (["notes:get"], set()),
    (["note:find", "notes/x:find"], set()),
]


@pytest.mark.parametrize(("scopes", "allowed"), SCOPES)
@pytest.mark.parametrize("transport", ["rest", "sockets"])
async def test_scopes(served: Roost, admin: str, scopes: list[str], allowed: set[str], transport: str) -> None:
    key = (await make_key(served, admin, *scopes))["key"]
    async with rest(served, "acme", **{"X-Api-Key": key}) as http, connect(served, "acme") as socket:
        await socket.call("create", "authentication", {"strategy": "api_key", "key": key}, {})
        caller = http if transport == "rest" else socket
        for call, arguments in (
            ("notes:find", ({},)),
            ("notes:create", ({"text": "x"}, {})),
            ("board:find", ({},)),
            ("users:find", ({"$limit": 0},)),
        ):
            path, method = call.split(":")
            if call in allowed:
                await caller.call(method, path, *arguments)
            else:
                assert (await refused(caller, method, path, *arguments)).code == 403


async def test_a_key_is_its_own_access_token_on_a_socket(served: Roost, admin: str) -> None:
    made = await make_key(served, admin, "notes:find")
    async with connect(served, "acme") as one, connect(served, "acme") as two:
        answer = await one.call("create", "authentication", {"strategy": "api_key", "key": made["key"]}, {})
        assert answer == {
            "accessToken": made["key"],
            "authentication": {
                "strategy": "api_key",
                "accessToken": made["key"],
                "payload": {"sub": f"key:{made['_id']}", "app_id": "acme", "scopes": ["notes:find"]},
            },
            "user": {"_id": f"key:{made['_id']}", "permissions": ["notes:find"]},
        }
        await two.login_by(answer["accessToken"])
        assert await two.call("find", "notes", {"$limit": 0})
        gone = await two.call("remove", "authentication", None, {})
        assert gone["user"]["_id"] == f"key:{made['_id']}"
        assert (await refused(two, "find", "notes", {})).code == 401
        assert await one.call("find", "notes", {"$limit": 0}), "that was one login, not the key"


async def test_a_removed_key_ends_at_once_on_live_sockets_too(served: Roost, admin: str) -> None:
    made = await make_key(served, admin, "notes:find", "users:find")
    async with (
        connect(served, "acme") as socket,
        rest(served, "acme", **{"X-Api-Key": made["key"]}) as http,
        rest(served, "acme", Authorization=f"Bearer {admin}") as boss,
    ):
        await socket.call("create", "authentication", {"strategy": "api_key", "key": made["key"]}, {})
        assert await is_in(socket)
        assert (await http.request("GET", "/notes")).status == 200
        removed = await boss.call("remove", "api-keys", made["_id"])
        assert removed["_id"] == made["_id"]
        assert await is_out(socket)
        answer = await http.request("GET", "/notes")
        assert (answer.status, answer.json) == (401, INVALID)
        error = await refused(socket, "create", "authentication", {"strategy": "api_key", "key": made["key"]}, {})
        assert error.wire == INVALID
        assert (await refused(boss, "remove", "api-keys", made["_id"])).code == 404


async def test_a_key_expires_in_place(served: Roost, admin: str) -> None:
    made = await make_key(served, admin, "notes:find", "users:find", expires_in=600)
    async with connect(served, "acme") as socket, rest(served, "acme", **{"X-Api-Key": made["key"]}) as http:
        answer = await socket.call("create", "authentication", {"strategy": "api_key", "key": made["key"]}, {})
        assert answer["authentication"]["payload"]["exp"] == int(datetime.fromisoformat(made["expires_at"]).timestamp())
        [connection] = served.connections.of_user("acme", f"key:{made['_id']}")
        assert connection.expiry is not None
        assert (await http.request("GET", "/notes")).status == 200
        keys = database_of(served)["api_keys"]
        past = {"$set": {"expires_at": datetime.now(UTC)}}
        await keys.update_one({"_id": {"a": "acme", "i": made["_id"]}}, past)
        served.people.api_keys._recent.drop(("acme", made["_id"]))
        assert (await http.request("GET", "/notes")).json == INVALID
        served.connections._expire(connection, 0.0)
        assert await is_out(socket)


async def test_a_short_lived_key_is_logged_out_by_itself(served: Roost, admin: str) -> None:
    made = await make_key(served, admin, "*", expires_in=1)
    async with connect(served, "acme") as socket:
        await socket.call("create", "authentication", {"strategy": "api_key", "key": made["key"]}, {})
        await until(lambda: is_out(socket))
        assert socket.connected


FORGERIES: list[Any] = [
    None,
    "",
    7,
    ["KEY"],
    {"ne": ""},
    "rk_",
    "KEYx",
    "kEY",
    "rk_acme_ID_" + "0" * 64,
    "rk_globex_ID_SECRET",
    "rk_acme_" + "0" * 16 + "_SECRET",
    "rk_acme_.._SECRET",
    "rk_" + "a" * 500_000,
]


@pytest.mark.parametrize("number", range(len(FORGERIES)))
async def test_what_is_no_key_is_refused_in_one_body(served: Roost, admin: str, number: int) -> None:
    key = (await make_key(served, admin, "*"))["key"]
    _, _, id, secret = key.split("_")
    sent = FORGERIES[number]
    if isinstance(sent, str):
        sent = sent.replace("KEY", key).replace("kEY", key.upper()).replace("ID", id).replace("SECRET", secret)
    async with rest(served, "acme") as http:
        error = await refused(http, "create", "authentication", {"strategy": "api_key", "key": sent})
        assert error.wire == INVALID
        if isinstance(sent, str) and 0 < len(sent) < 1000:
            answer = await http.request("GET", "/notes", headers={"X-Api-Key": sent})
            assert (answer.status, answer.json) == (401, INVALID)
            answer = await http.request("GET", "/board", headers={"X-Api-Key": sent})
            assert (answer.status, answer.json) == (401, INVALID), "a wrong key is no stranger"


async def test_a_key_of_another_app_is_unknown(served: Roost, admin: str) -> None:
    made = await make_key(served, admin, "*")
    async with rest(served, "globex", **{"X-Api-Key": made["key"]}) as http:
        assert (await http.request("GET", "/notes")).json == INVALID
        keys = database_of(served)["api_keys"]
        stored = await keys.find_one({"_id": {"a": "acme", "i": made["_id"]}}) or {}
        await keys.insert_one({**stored, "_id": {"a": "globex", "i": made["_id"]}, "app_id": "globex"})
        assert (await http.request("GET", "/notes")).json == INVALID, "even where its record was copied to"
        renamed = made["key"].replace("rk_acme", "rk_globex")
        assert (await http.request("GET", "/notes", headers={"X-Api-Key": renamed})).json == INVALID


async def test_only_administrators_manage_keys(served: Roost, admin: str) -> None:
    data = {"name": "x", "scopes": ["*"]}
    made = await make_key(served, admin, "*")
    async with (
        rest(served, "acme") as stranger,
        rest(served, "acme") as user,
        rest(served, "acme", **{"X-Api-Key": made["key"]}) as key,
        connect(served, "acme") as socket,
    ):
        await user.sign_up(fresh())
        await socket.call("create", "authentication", {"strategy": "api_key", "key": made["key"]}, {})
        for caller, code in ((stranger, 401), (user, 403), (key, 403), (socket, 403)):
            assert (await refused(caller, "find", "api-keys")).code == code
            assert (await refused(caller, "create", "api-keys", data)).code == code
            assert (await refused(caller, "remove", "api-keys", made["_id"])).code == code


async def test_a_permission_that_was_withdrawn_counts_no_more(served: Roost) -> None:
    async with connect(served, "acme") as boss:
        user = await boss.sign_up(fresh())
        tenant, isolation = tenant_of(served, "acme"), served.backend.isolation
        assert (await refused(boss, "find", "api-keys", {})).code == 403
        await grant(isolation, tenant, user["username"], ADMIN)
        assert isinstance(await boss.call("find", "api-keys", {}), list)
        await grant(isolation, tenant, user["username"], ADMIN, withdraw=True)
        assert (await refused(boss, "find", "api-keys", {})).code == 403


async def test_a_client_cannot_give_itself_permissions(served: Roost) -> None:
    async with rest(served, "acme") as http:
        user = await http.sign_up(fresh())
        for change in ({"permissions": [ADMIN]}, {"permissions.0": ADMIN}, {"roles": [ADMIN]}):
            assert (await refused(http, "patch", "users", user["_id"], change)).code == 400
        data = {"username": fresh(), "password": "secret-123", "permissions": [ADMIN]}
        assert (await refused(http, "create", "users", data)).code == 400


BAD: list[Any] = [
    None,
    [],
    "x",
    {},
    {"name": "x"},
    {"scopes": ["*"]},
    {"name": "", "scopes": ["*"]},
    {"name": "x" * 101, "scopes": ["*"]},
    {"name": "a\nb", "scopes": ["*"]},
    {"name": 7, "scopes": ["*"]},
    {"name": "x", "scopes": []},
    {"name": "x", "scopes": "*"},
    {"name": "x", "scopes": ["notes"]},
    {"name": "x", "scopes": ["admin"]},
    {"name": "x", "scopes": [7]},
    {"name": "x", "scopes": ["notes:"]},
    {"name": "x", "scopes": ["notes:find "]},
    {"name": "x", "scopes": ["*"] * 51},
    {"name": "x", "scopes": ["*"], "expires_in": 0},
    {"name": "x", "scopes": ["*"], "expires_in": "60"},
    {"name": "x", "scopes": ["*"], "expires_in": True},
    {"name": "x", "scopes": ["*"], "expires_in": 1e12},
    {"name": "x", "scopes": ["*"], "hash": "x"},
    {"name": "x", "scopes": ["*"], "_id": "0" * 16},
]


@pytest.mark.parametrize("data", BAD)
async def test_what_makes_no_key(served: Roost, admin: str, data: Any) -> None:
    async with rest(served, "acme", Authorization=f"Bearer {admin}") as http:
        assert (await refused(http, "create", "api-keys", data)).code == 400


async def test_a_tenant_has_a_bounded_number_of_keys(served: Roost) -> None:
    async with rest(served, "globex", Authorization=f"Bearer {await admin_token(served, 'globex')}") as http:
        for _ in range(100 - len(await http.call("find", "api-keys"))):
            await served.people.api_keys.create(tenant_of(served, "globex"), {"name": "x", "scopes": ["*"]}, "test")
        assert (await refused(http, "create", "api-keys", {"name": "x", "scopes": ["*"]})).code == 400
        assert len(await http.call("find", "api-keys")) == 100


async def test_a_key_has_no_sessions_and_is_nobodys_user(served: Roost, admin: str) -> None:
    made = await make_key(served, admin, "*")
    async with rest(served, "acme", **{"X-Api-Key": made["key"]}) as http:
        assert (await refused(http, "find", "sessions")).code == 403
        assert (await refused(http, "remove", "sessions", None)).code == 403
        assert (await refused(http, "patch", "users", f"key:{made['_id']}", {"a": 1})).code == 404


async def test_no_user_logs_in_under_the_id_of_a_key(served: Roost, admin: str) -> None:
    """Even if code made a user with such an id: no token is good for it."""
    made = await make_key(served, admin, "*")
    id, tenant = f"key:{made['_id']}", tenant_of(served, "acme")
    users = served.backend.isolation.collection(tenant, "users")
    async with rest(served, "acme") as http:
        name, user = await sign_up(http)
        [record] = await users.find({"_id": user["_id"]})
        await users.find_one_and_delete({"_id": user["_id"]})
        await users.insert([{**record, "_id": id}])
        error = await refused(
            http, "create", "authentication", {"strategy": "local", "username": name, "password": "secret-123"}
        )
        assert error.code == 401
        token, _ = await served.people.logins._tokens.issue(tenant, id)
        assert (await http.request("GET", "/users", headers={"Authorization": f"Bearer {token}"})).status == 401


async def test_events_reach_a_key_only_if_its_scope_is_everything(served: Roost, admin: str) -> None:
    narrow = await make_key(served, admin, "board:*")
    wide = await make_key(served, admin, "*")
    async with connect(served, "acme") as one, connect(served, "acme") as two, connect(served, "acme") as ada:
        await one.call("create", "authentication", {"strategy": "api_key", "key": narrow["key"]}, {})
        await two.call("create", "authentication", {"strategy": "api_key", "key": wide["key"]}, {})
        await ada.sign_up(fresh())
        for client in (one, two):
            await client.take_events()
        await ada.call("create", "notes", {"text": "for those who are logged in"}, {})
        assert [event.name for event in await two.take_events()] == ["notes created"]
        await one.quiet()


async def test_use_is_noted(served: Roost, admin: str) -> None:
    made = await make_key(served, admin, "notes:find")
    async with (
        rest(served, "acme", **{"X-Api-Key": made["key"]}) as http,
        rest(served, "acme", Authorization=f"Bearer {admin}") as boss,
    ):
        assert (await http.request("GET", "/notes")).status == 200
        [key] = [key for key in await boss.call("find", "api-keys") if key["_id"] == made["_id"]]
        assert key["last_use"] >= key["created_at"]
