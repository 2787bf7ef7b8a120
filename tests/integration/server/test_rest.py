"""FEATHERS.md 3: the same services over HTTP; status codes, headers, bodies, origins, and the pages beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
import pytest_asyncio

from server.main import Roost
from services.authentication.tokens import Tokens
from tests.conftest import StartRoost
from tests.support.client import CallError, Rest, connect, fresh, outcome, rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRIEND = "http://localhost:3030"
ENEMY = "http://evil.example"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ada(shared: Roost) -> AsyncIterator[Rest]:
    """A logged-in user of acme."""
    async with rest(shared, "acme") as client:
        await client.sign_up(fresh("ada"))
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def nobody(shared: Roost) -> AsyncIterator[Rest]:
    """A client that names no app."""
    async with rest(shared, None) as client:
        yield client


async def test_each_verb_has_its_method_and_status(ada: Rest) -> None:
    created = await ada.request("POST", "/messages", {"text": "one", "n": 1})
    assert created.status == 201
    assert created.headers["Content-Type"].startswith("application/json")
    id = created.json["_id"]

    rows: list[tuple[str, str, Any, int, Any]] = [
        ("GET", f"/messages/{id}", None, 200, {"_id": id, "text": "one", "n": 1}),
        ("GET", f"//messages//{id}/", None, 200, {"_id": id, "text": "one", "n": 1}),
        ("GET", f"/messages/{id}?%24select%5B0%5D=n", None, 200, {"_id": id, "n": 1}),
        ("PATCH", f"/messages/{id}", {"n": 2}, 200, {"_id": id, "text": "one", "n": 2}),
        ("PUT", f"/messages/{id}", {"text": "two"}, 200, {"_id": id, "text": "two"}),
        ("DELETE", f"/messages/{id}", None, 200, {"_id": id, "text": "two"}),
        ("GET", "/messages", None, 200, {"total": 0, "limit": 10, "skip": 0, "data": []}),
        ("GET", "/messages?$limit=0", None, 200, {"total": 0, "limit": 0, "skip": 0, "data": []}),
        ("GET", "/notes", None, 200, []),
        ("DELETE", "/notes?none=1", None, 200, []),
        ("PATCH", "/notes?none=1", {"n": 1}, 200, []),
    ]
    for verb, path, body, status, expected in rows:
        reply = await ada.request(verb, path, body)
        assert (reply.status, reply.json) == (status, expected), (verb, path)


async def test_the_id_is_ignored_on_post(ada: Rest) -> None:
    reply = await ada.request("POST", "/notes/7", {"text": "x"})
    assert reply.status == 201
    assert reply.json["_id"] != "7"


async def test_lists_and_multi(ada: Rest) -> None:
    word = fresh("many")
    created = await ada.request("POST", "/notes", [{"word": word, "n": n} for n in range(3)])
    assert (created.status, len(created.json)) == (201, 3)
    assert len((await ada.request("GET", f"/notes?word={word}")).json) == 3
    assert len((await ada.request("PATCH", f"/notes?word={word}", {"n": 9})).json) == 3
    assert len((await ada.request("DELETE", f"/notes?word={word}&n[$ne]=8")).json) == 3


@pytest.mark.parametrize("id", ["a b", "a/b", "ä", "a%20b", "50%", "a+b", "a?b", "a#b", "..", "a.b", "'", "a&b=c"])
async def test_ids_in_the_path_are_decoded_once(ada: Rest, id: str) -> None:
    created = await ada.call("create", "notes", {"_id": id, "text": "odd"})
    assert created["_id"] == id
    assert await ada.call("get", "notes", id) == created
    assert await ada.call("remove", "notes", id) == created


@dataclass(frozen=True)
class Failure:
    """A request, and the code and words of its answer."""

    name: str
    verb: str
    path: str
    code: int
    words: str = ""
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


FAILURES = [
    Failure("no app", "GET", "/notes", 400, "No app is named", headers={"x-app-id": ""}),
    Failure("unknown app", "GET", "/notes", 404, "Unknown app 'nope'", headers={"x-app-id": "nope"}),
    Failure("the query names no app", "GET", "/notes?appId=globex", 400, "No app", headers={"x-app-id": ""}),
    Failure("no login", "GET", "/messages", 401, "Not authenticated", headers={"Authorization": ""}),
    Failure("another scheme", "GET", "/messages", 401, "Not auth", headers={"Authorization": "Basic YTpi"}),
    Failure("no token", "GET", "/messages", 401, "Not authenticated", headers={"Authorization": "Bearer "}),
    Failure("a bad token", "GET", "/messages", 401, "jwt malformed", headers={"Authorization": "Bearer x"}),
    Failure("unknown path", "GET", "/nothing", 404, "Path /nothing not found"),
    Failure("deep path", "GET", "/messages/1/2", 404, "Path /messages/1/2 not found"),
    Failure("prototype", "GET", "/constructor", 404, "not found"),
    Failure("proto", "GET", "/__proto__/x", 404, "not found"),
    Failure("dots", "GET", "/messages/..%2Fusers", 404, "No record found for id '../users'"),
    Failure("unknown id", "GET", "/messages/none", 404, "No record found for id 'none'"),
    Failure("unknown id to patch", "PATCH", "/messages/none", 404, "No record found", raw=b'{"text":"x"}'),
    Failure("unknown id to remove", "DELETE", "/messages/none", 404, "No record found"),
    Failure("replace all", "PUT", "/messages", 400, "Did you mean 'patch'?", raw=b'{"text":"x"}'),
    Failure("remove all users", "DELETE", "/users", 405, "multiple entries"),
    Failure("not offered", "GET", "/authentication", 405, "Method `find` is not supported by this endpoint."),
    Failure("forbidden by rule", "POST", "/sealed", 405, "not allowed on service 'sealed'", raw=b"{}"),
    Failure("a bare OPTIONS", "OPTIONS", "/messages", 405, "OPTIONS"),
    Failure("another verb", "TRACE", "/messages", 405, "TRACE"),
    Failure("a slash in a path", "GET", "/messages/a%2Fb/c", 404, "not found"),
    Failure("a slash in a service", "GET", "/messages%2Fa", 404, "not found"),
    Failure("a slash below an id", "GET", "/messages/a/b%2Fc", 404, "not found"),
    Failure("not JSON", "POST", "/messages", 400, "not valid JSON", raw=b'{"text":'),
    Failure("JSON and more", "POST", "/messages", 400, "not valid JSON", raw=b'{"text":"x"} {}'),
    Failure("not UTF-8", "POST", "/messages", 400, "not valid JSON", raw=b'{"text":"\xff"}'),
    Failure("NaN", "POST", "/messages", 400, "not valid JSON", raw=b'{"text":"x","n":NaN}'),
    Failure("a lone surrogate", "POST", "/notes", 400, raw=b'{"text":"\\ud800"}'),
    Failure("far too deep", "POST", "/notes", 400, raw=b"[" * 100_000 + b"]" * 100_000),
    Failure("too deep", "POST", "/notes", 400, "Nested too deeply", raw=b'{"a":' * 40 + b"1" + b"}" * 40),
    Failure("infinity", "POST", "/notes", 400, "", raw=b'{"n":1e400}'),
    Failure("a bare scalar", "POST", "/notes", 400, "must be an object", raw=b"5"),
    Failure("a bare null", "POST", "/notes", 400, "must be an object", raw=b"null"),
    Failure("nothing", "POST", "/notes", 400, "must be an object", raw=b""),
    Failure("invalid", "POST", "/messages", 400, "validation failed", raw=b"{}"),
    Failure("an operator", "GET", "/messages?text[$where]=1", 400, "Invalid query parameter $where"),
    Failure("a filter", "GET", "/messages?$where=1", 400, "Invalid filter value $where"),
    Failure("a long query", "GET", "/messages?a=" + "x" * 17_000, 400, "too long"),
    Failure("many parameters", "GET", "/messages?" + "&".join(f"a{n}=1" for n in range(1001)), 400, "Too many query"),
    Failure("a deep query", "GET", "/messages?a" + "[b]" * 40 + "=1", 400, "nested too deeply"),
    Failure("a broken query", "GET", "/messages?a=%ff", 400, "not UTF-8"),
    Failure("a standard method", "POST", "/notes", 405, "`find`", raw=b"{}", headers={"X-Service-Method": "find"}),
    Failure("another one", "POST", "/notes", 405, "`remove`", raw=b"{}", headers={"X-Service-Method": "remove"}),
    Failure("an unknown method", "POST", "/notes", 405, "`fly`", raw=b"{}", headers={"X-Service-Method": "fly"}),
    Failure("an inner method", "POST", "/notes", 405, "", raw=b"{}", headers={"X-Service-Method": "_parse"}),
    Failure("a foreign origin", "GET", "/notes", 403, "origin", headers={"Origin": ENEMY}),
    Failure("the origin of nobody", "GET", "/notes", 403, "origin", headers={"Origin": "null"}),
]


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.name)
async def test_failures_are_json_with_their_own_status(ada: Rest, row: Failure) -> None:
    reply = await ada.request(row.verb, row.path, raw=row.raw, headers=row.headers)

    error = reply.json
    assert (reply.status, error["code"]) == (row.code, row.code), error
    assert reply.headers["Content-Type"].startswith("application/json")
    assert row.words in error["message"]
    assert set(error) <= {"name", "message", "code", "className", "data", "errors"}
    assert error["message"].strip()


async def test_a_request_without_the_header_is_told_so(nobody: Rest) -> None:
    reply = await nobody.request("GET", "/notes")
    assert (reply.status, reply.json["name"]) == (400, "BadRequest")
    assert "x-app-id" in reply.json["message"]


async def test_bodies_are_bounded(ada: Rest) -> None:
    frame = len(b'{"text":""}')
    fits = await ada.request("POST", "/notes", raw=b'{"text":"%s"}' % (b"x" * (1_000_000 - frame)))
    assert fits.status == 201
    large = await ada.request("POST", "/notes", raw=b'{"text":"%s"}' % (b"x" * (1_000_001 - frame)))
    assert (large.status, large.json["name"]) == (413, "PayloadTooLarge")
    await ada.call("remove", "notes", fits.json["_id"])


async def test_the_bearer_token_may_be_written_in_several_ways(ada: Rest) -> None:
    token = ada.headers["Authorization"].removeprefix("Bearer ")
    for written in (f"Bearer {token}", f"bearer {token}", f"BEARER   {token} ", f"JWT {token}", f"jwt {token}", token):
        assert (await ada.request("GET", "/messages", headers={"Authorization": written})).status == 200, written


async def test_a_token_is_good_for_its_app_and_its_time_alone(shared: Roost, ada: Rest) -> None:
    async with rest(shared, "globex", Authorization=ada.headers["Authorization"]) as elsewhere:
        for path in ("/messages", "/notes"):
            refused = await elsewhere.request("GET", path)
            assert (refused.status, refused.json["data"]) == (403, {"reason": "TenantMismatch"})
    async with rest(shared, "globex", Authorization=ada.headers["Authorization"][:-2]) as forger:
        assert (await forger.request("GET", "/messages")).status == 401
        # Where no login is needed a token that proves nothing is no token.
        assert (await forger.request("GET", "/notes")).status == 200
    tenant = shared.catalogue.peek("acme")
    assert tenant is not None
    user = (await ada.call("find", "users", {"$limit": 1}))["data"][0]
    old, _ = await Tokens(shared.backend.keys, lifetime=60, clock=lambda: 1e9).issue(tenant, user["_id"])
    expired = await ada.request("GET", "/messages", headers={"Authorization": f"Bearer {old}"})
    assert (expired.status, expired.json["message"]) == (401, "jwt expired")
    assert expired.json["data"]["name"] == "TokenExpiredError"


async def test_login_and_logout(shared: Roost) -> None:
    async with rest(shared, "acme") as client:
        name = fresh()
        user = await client.call("create", "users", {"username": name, "password": "secret-123"})
        reply = await client.request(
            "POST", "/authentication", {"strategy": "local", "username": name, "password": "secret-123"}
        )
        assert reply.status == 201
        assert reply.json["user"] == user
        token = reply.json["accessToken"]
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.request("DELETE", "/authentication/other", headers=headers)).status == 401
        assert (await client.request("GET", "/messages", headers=headers)).status == 200
        assert (await client.request("DELETE", f"/authentication/{token}", headers=headers)).json[
            "accessToken"
        ] == token
        assert (await client.request("GET", "/messages", headers=headers)).status == 401
        assert (await client.request("DELETE", "/authentication")).status == 401


async def test_head_is_get_without_a_body(ada: Rest) -> None:
    for path in ("/notes", "/health", "/ready"):
        head, get = await ada.request("HEAD", path), await ada.request("GET", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert (await ada.request("HEAD", "/notes/none")).status == 404


async def test_forms_are_understood(ada: Rest) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = await ada.request("POST", "/notes", raw=b"text=a+b&n=1", headers=headers)
    assert reply.status == 201
    assert reply.json == {"_id": reply.json["_id"], "text": "a b", "n": "1"}
    assert (await ada.request("POST", "/notes", raw=b"app_id=globex", headers=headers)).status == 400


async def test_answers_name_the_origin_that_may_read_them(ada: Rest) -> None:
    for path, status in (("/notes", 200), ("/notes/none", 404), ("/nothing", 404), ("/notes?$where=1", 400)):
        reply = await ada.request("GET", path, headers={"Origin": FRIEND})
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (status, FRIEND)
        assert "Origin" in reply.headers["Vary"]
    assert "Access-Control-Allow-Origin" not in (await ada.request("GET", "/notes")).headers


async def test_a_foreign_origin_reaches_no_handler(shared: Roost, ada: Rest) -> None:
    word = fresh("never")
    async with connect(shared, "acme") as listener:
        for origin in (ENEMY, "null"):
            reply = await ada.request("POST", "/notes", {"word": word}, headers={"Origin": origin})
            assert reply.status == 403
            assert reply.json["data"] == {"reason": "OriginNotAllowed"}
            assert "Access-Control-Allow-Origin" not in reply.headers
        await listener.quiet()
    assert await ada.call("find", "notes", {"word": word}) == []
    async with rest(shared, "globex") as other:
        assert (await other.request("GET", "/notes", headers={"Origin": FRIEND})).status == 403


async def test_probes_and_pages(shared: Roost, nobody: Rest) -> None:
    health = await nobody.request("GET", "/health")
    assert (health.status, health.json["status"], health.json["connections"]) == (200, "ok", shared.connections.count())
    ready = await nobody.request("GET", "/ready")
    assert (ready.status, ready.json) == (200, {"status": "ready", "mongodb": "up"})
    assert (await nobody.request("GET", "/")).status == 200
    moved = await nobody.request("GET", "/example")
    assert (moved.status, moved.headers["Location"]) == (302, "/example/")
    for path in ("/example/../server/main.py", "/example/%2e%2e/server/main.py", "/example/..%2fserver/main.py"):
        assert (await nobody.request("GET", path)).status in (400, 403, 404), path


async def test_the_public_keys_verify_the_tokens_of_their_app(shared: Roost, ada: Rest, nobody: Rest) -> None:
    reply = await nobody.request("GET", "/.well-known/jwks.json?appId=acme")
    assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert all("d" not in key and key["alg"] == "ES256" for key in reply.json["keys"])

    token = ada.headers["Authorization"].removeprefix("Bearer ")
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(reply.json).keys}
    payload = jwt.decode(
        token, keys[jwt.get_unverified_header(token)["kid"]], algorithms=["ES256"], options={"verify_aud": False}
    )
    assert payload["app_id"] == "acme"
    other = (await nobody.request("GET", "/.well-known/jwks.json?appId=globex")).json["keys"]
    assert keys.keys().isdisjoint(key["kid"] for key in other)
    for query, code in (("", 400), ("?appId=nope", 404), ("?appId=acme&appId=globex", 400)):
        assert (await nobody.request("GET", f"/.well-known/jwks.json{query}")).status == code


@pytest.mark.asyncio(loop_scope="function")
async def test_the_example_is_served_once_its_packages_are_there(roosts: StartRoost, tmp_path: Any) -> None:
    bare = await roosts(example=tmp_path)
    async with rest(bare, None) as client:
        reply = await client.request("GET", "/example/")
        assert (reply.status, b"npm ci" in reply.body) == (404, True)
    (tmp_path / "index.html").write_text("the example")
    (tmp_path / "chat.js").write_text("// script")
    (tmp_path / "node_modules").mkdir()
    full = await roosts(example=tmp_path)
    async with rest(full, None) as client:
        assert (await client.request("GET", "/example/")).body == b"the example"
        assert (await client.request("GET", "/example/chat.js")).status == 200
        assert (await client.request("GET", "/example/none.js")).status == 404


@pytest.mark.asyncio(loop_scope="function")
async def test_a_suspended_app_is_refused(roosts: StartRoost) -> None:
    roost = await roosts()
    tenants = roost.backend.deployment.client[f"{roost.settings.database}_control"]["tenants"]
    async with rest(roost, "acme") as client:
        await tenants.update_one({"_id": "acme"}, {"$set": {"status": "suspended"}, "$inc": {"epoch": 1}})

        async def is_refused() -> bool:
            return isinstance(await outcome(client, "find", "notes"), CallError)

        await until(is_refused)
        found = await outcome(client, "find", "notes")
        assert (found.code, found.data["state"]) == (403, "suspended")
