"""LIMITS A11: passwords, hashes and tokens in a whole session: in no result, event or error, and in no line of the log."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from tests.integration.server.command import environment, serving
from tests.support.client import CallError, connect, handshake, outcome, rest
from tests.support.placed import served
from tests.support.roost import TWO_APPS

FIRST, SECOND, WRONG = "canary-first-pw", "canary-second-pw", "canary-wrong-pw"


@pytest.mark.parametrize("format", ["json", "console"])
async def test_nothing_that_is_secret_is_told_or_logged(mongod: str, tmp_path: Path, format: str) -> None:
    file = tmp_path / "apps.yaml"
    file.write_text(TWO_APPS)
    database = f"t{secrets.token_hex(6)}"
    env = environment(
        mongod,
        database,
        ROOST_LOG_LEVEL="debug",
        ROOST_LOG_FORMAT=format,
        ROOST_MODULES="tests.integration.server.extension",
    )
    told: list[str] = []
    tokens: list[str] = []
    async with serving("--apply", file, env=env) as server:
        async with connect(server, "acme") as ada, connect(server, "acme") as listener, rest(server, "acme") as client:

            async def ask(caller: Any, method: str, path: str, *arguments: Any) -> Any:
                answer = await outcome(caller, method, path, *arguments)
                if path == "authentication" and isinstance(answer, dict):
                    tokens.append(answer.pop("accessToken"))
                    answer["authentication"].pop("accessToken", None)
                told.append(json.dumps(answer.wire if isinstance(answer, CallError) else answer))
                return answer

            login = {"strategy": "local", "username": "ada", "password": FIRST}
            user = await ask(ada, "create", "users", {"username": "ada", "password": FIRST, "colour": "red"}, {})
            await ask(ada, "create", "users", {"username": "ADA", "password": FIRST}, {})
            for caller in (ada, listener, client):
                await ask(caller, "create", "authentication", login, {})
                await ask(caller, "create", "authentication", {**login, "password": WRONG}, {})
            client.headers["Authorization"] = f"Bearer {tokens[-1]}"
            for caller in (ada, client):
                await ask(caller, "create", "users", {"username": fresh_name(caller), "password": FIRST}, {})
                await ask(caller, "create", "users", {"username": {"a": WRONG}, "password": FIRST}, {})
                await ask(caller, "create", "users", {"username": "short", "password": [WRONG]}, {})
                await ask(caller, "find", "users", {})
                await ask(caller, "find", "users", {"$select": ["username", "password"]})
                await ask(caller, "find", "users", {"password": {"$gt": WRONG}})
                await ask(caller, "get", "users", user["_id"], {})
                await ask(caller, "patch", "users", user["_id"], {"colour": "blue"}, {})
                await ask(caller, "patch", "users", user["_id"], {"password": SECOND}, {"$select": ["password"]})
                await ask(caller, "update", "users", user["_id"], {"username": "ada", "password": SECOND}, {})
                await ask(caller, "create", "authentication", {"strategy": "jwt", "accessToken": tokens[0]}, {})
                await ask(caller, "create", "messages", {"text": 5, "password": WRONG}, {})
                await ask(caller, "create", "nothing", {"password": WRONG}, {})
                await ask(caller, "whoami", "desk", {}, {})
                for kind in ("secret", "value", WRONG):
                    answer = await ask(caller, "fail", "desk", {"kind": kind, "password": WRONG}, {})
                    assert answer.code == 500
                await ask(caller, "unspeakable", "desk", {"password": WRONG}, {})
            for raw in (b'{"username":"ada","password":"%s"' % WRONG.encode(), b"password=" + WRONG.encode() + b"%ff"):
                for kind in ("application/json", "application/x-www-form-urlencoded"):
                    reply = await client.request("POST", "/users", raw=raw, headers={"Content-Type": kind})
                    told.append(reply.body.decode())
            forged = f"{tokens[0][:-8]}{WRONG[:8]}"
            for token in (forged, WRONG, tokens[0]):
                told.append(json.dumps(await handshake(server, "appId=globex", headers={"Authorization": token})))
                told.append((await client.request("GET", "/messages", headers={"Authorization": token})).body.decode())
            await ask(ada, "remove", "users", user["_id"], {})
            told += [json.dumps(event) for event in [*await ada.take_events(), *await listener.take_events()]]
        assert await server.stop() == 0
    log = "".join(server.err) + "".join(server.out)

    mongo: Any
    async with AsyncMongoClient(mongod) as mongo:
        async with served(mongod, database, "acme") as kept:
            hashes = [found["password"] async for found in kept.users.find({"app_id": "acme"})]
        keys = [found async for found in mongo[f"{database}_control"].signing_keys.find({})]
        await mongo.drop_database(database)
        await mongo.drop_database(f"{database}_control")
    assert hashes
    assert all(hash.startswith("$argon2id$") for hash in hashes)
    assert "PRIVATE" not in repr(keys)
    sealed = [value for key in keys for value in key.values() if isinstance(value, bytes)]
    assert len(told) > 50
    assert "call failed" in log
    canaries = {
        "first": FIRST,
        "second": SECOND,
        "hash": "$argon2",
        "key": "username_key",
        "master": env["ROOST_MASTER_KEY"],
    }
    for name, canary in canaries.items():
        # The name of a field in a query that was refused is no secret.
        spoken = [text for text in told if canary in text and "Invalid query parameter" not in text]
        assert spoken == [], name
        assert canary not in log, name
    assert WRONG not in log.replace(f"KeyError: '{WRONG}'", ""), "a password that was tried"
    assert not [token for token in tokens if token in log or token.split(".")[2] in log]
    assert not [token for token in tokens if any(token in text for text in told)]
    assert not [value for value in sealed if base64.b64encode(value).decode() in log]


def fresh_name(caller: object) -> str:
    return f"friend-{type(caller).__name__}"
