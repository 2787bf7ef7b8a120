"""LIMITS A11: canaries through 500 calls of all services, by both transports, and a look at all that comes out."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import secrets
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from pymongo import AsyncMongoClient

from tests.integration.server.command import environment, run, serving
from tests.support.client import Caller, CallError, connect, handshake, outcome, rest, until
from tests.support.placed import served

APPS = """
tenants:
  - id: north
    auth:
      username_field: email
      strategies: [local, jwt, refresh, anonymous, api_key]
      email: {url: "https://app.example/#/confirm"}
    services:
      notes:
        schema: &fields {text: {type: string}, n: {type: number}, additionalProperties: false}
        multi: true
        rules: {default: public}
      drafts: {collection: notes, schema: *fields, paginate: false, rules: {default: authenticated}}
"""
CALLS = 500
PASSWORD, NEXT, WRONG = "canary-one-horse", "canary-two-horses", "canary-wrong-horse"
"""Never told, logged, or kept as they are."""
TEXT = "canary-in-a-record"
"""What people write: told to those who may read it, and in no line of the log."""
ADA = "ada@a.example"
METHODS: dict[str, tuple[str, ...]] = {
    "find": (),
    "get": ("id",),
    "create": ("data",),
    "update": ("id", "data"),
    "patch": ("id", "data"),
    "remove": ("id",),
    "fly": ("data",),
}


class Everything:
    """What has come out, and the tokens that were given to their owners and are nobody else's business."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.tokens: list[str] = []
        self.calls = 0

    async def ask(self, caller: Caller, method: str, path: str, *arguments: Any) -> Any:
        """A call, whose answer is kept, but for the tokens in it."""
        self.calls += 1
        answer = await outcome(caller, method, path, *arguments)
        self.told.append(json.dumps(answer.wire if isinstance(answer, CallError) else self.without_tokens(answer)))
        return answer

    def without_tokens(self, answer: Any) -> Any:
        """An answer without what it hands over: `accessToken`, `refreshToken` and `key`, which are kept as canaries."""
        if isinstance(answer, list):
            return [self.without_tokens(item) for item in answer]
        if not isinstance(answer, dict):
            return answer
        rest = {}
        for field, value in answer.items():
            if field in ("accessToken", "refreshToken", "key") and isinstance(value, str):
                self.tokens.append(value)
            else:
                rest[field] = self.without_tokens(value)
        return rest


@pytest.mark.timeout(240)
async def test_a11_no_canary_comes_out(mongod: str, tmp_path: Path) -> None:
    """A11: secrets never in logs, errors, events, metrics or documents: canary strings through 500 calls."""
    file = tmp_path / "apps.yaml"
    file.write_text(APPS)
    database = f"t{secrets.token_hex(6)}"
    env = environment(
        mongod,
        database,
        ROOST_LOG_LEVEL="debug",
        ROOST_DATA=str(tmp_path),
        ROOST_NAME_FAILURES="1000",
        ROOST_ADDRESS_FAILURES="100000",
    )
    all_of_it = Everything()
    ask, told = all_of_it.ask, all_of_it.told
    async with serving("--apply", file, env=env) as server:
        async with (
            connect(server, "north") as ada,
            connect(server, "north") as stranger,
            rest(server, "north") as http,
            rest(server, "north") as nobody,
        ):
            login = {"strategy": "local", "email": ADA, "password": PASSWORD}
            user = await ask(ada, "create", "users", {"email": ADA, "password": PASSWORD})
            assert (await run("users", "grant", "north", ADA, "admin", env=env)).code == 0
            for caller in (ada, http):
                answer = await ask(caller, "create", "authentication", {**login, "refresh": True})
                await ask(
                    caller, "create", "authentication", {"strategy": "refresh", "refreshToken": answer["refreshToken"]}
                )
            access = [token for token in all_of_it.tokens if token.count(".") == 2][-1]
            http.headers["Authorization"] = f"Bearer {access}"
            key = await ask(http, "create", "api-keys", {"name": "shop", "scopes": ["*"]})
            for action in ("reset-request", "verify-request", "invite"):
                email = "bob@b.example" if action == "invite" else ADA
                assert (await ask(ada, "create", "accounts", {"action": action, "email": email}))[
                    "status"
                ] == "accepted"

            services = await offered(http)
            assert {"users", "authentication", "accounts", "sessions", "api-keys", "audit-log", "notes"} <= services
            callers: tuple[Caller, ...] = (ada, stranger, http, nobody)
            rounds = itertools.product(sorted(services), METHODS, callers, range(9))
            for service, method, asking, round in random.Random(4711).sample([*rounds], CALLS):
                data, query = bait(round, [*all_of_it.tokens, key["key"]])
                if method in ("remove", "patch", "update") and service in ("users", "sessions", "authentication"):
                    query = {**query, "email": TEXT}  # Ada is to stay, and logged in.
                given = {"id": TEXT, "data": data}
                await ask(asking, method, service, *(given[name] for name in METHODS[method]), query)

            forged = [access[:-9] + WRONG[:9], f"{key['key'][:-9]}{WRONG[:9]}", WRONG]
            for token in (*forged, access):
                told.append(json.dumps(await handshake(server, "appId=globex", headers={"Authorization": token})))
                reply = await nobody.request("GET", "/users", headers={"Authorization": token, "X-Api-Key": token})
                told.append(reply.body.decode())
            change = {"action": "change-password", "currentPassword": PASSWORD, "password": NEXT}
            assert (await ask(ada, "create", "accounts", change))["status"] == "done"
            for path in (
                "/openapi.json",
                "/asyncapi.json",
                "/docs",
                "/docs/types.d.ts",
                "/health",
                "/ready",
                "/metrics",
            ):
                told.append((await http.request("GET", f"{path}?appId=north")).body.decode())
            await until(lambda: len([*(tmp_path / "mail").glob("*.eml")]) >= 3)
            mails = await asyncio.to_thread(tokens_in_mails, tmp_path / "mail")
            told += [json.dumps(event) for event in [*await ada.take_events(), *await stranger.take_events()]]
            assert user["_id"] in "".join(told)
        assert await server.stop() == 0
    log = "".join(server.err) + "".join(server.out)
    async with served(mongod, database, "north") as own:
        kept = await texts_of(own) + await dump(mongod, database)

    assert all_of_it.calls >= CALLS
    assert "notes created" in "".join(told), "events were heard"
    assert TEXT in "".join(told)
    assert TEXT in kept
    assert len(log.splitlines()) > 10, "and there is a log to look into"
    outputs = {"told": "".join(told), "log": log, "database": kept}
    tokens = {*all_of_it.tokens, *mails, env["ROOST_MASTER_KEY"]}
    assert len(mails) >= 3
    assert len(tokens) > 12
    for name, text in outputs.items():
        for canary in (PASSWORD, NEXT, WRONG, "PRIVATE KEY", *(part for token in tokens for part in parts(token))):
            at = text.find(canary)
            assert at < 0, (name, text[max(0, at - 300) : at + 100])
    for canary in (TEXT, "$argon2"):
        assert canary not in log, "records and hashes are not logged"
    assert "$argon2" not in outputs["told"]


def bait(round: int, tokens: list[str]) -> tuple[Any, dict[str, Any]]:
    """Data and a query with canaries where secrets are expected, and where they are not."""
    token = tokens[round % len(tokens)]
    datas: list[Any] = [
        {"text": TEXT, "n": round},
        {"strategy": "local", "email": ADA, "password": WRONG},
        {"strategy": "refresh", "refreshToken": f"{token[:-4]}0000", "password": WRONG},
        {"action": "reset", "token": WRONG, "password": NEXT},
        {"action": "change-password", "currentPassword": WRONG, "password": NEXT},
        {"email": f"{round}@b.example", "password": [WRONG]},
        {"n": TEXT, "password": {"$ne": WRONG}},
        [{"n": "no number", "password": WRONG}],
        {"strategy": "api_key", "key": WRONG, "accessToken": WRONG},
    ]
    queries: list[dict[str, Any]] = [{}, {"text": TEXT}, {"$limit": 1}]
    return datas[round], queries[round % 3]


async def offered(http: Any) -> set[str]:
    """The services that the app says it has."""
    document = (await http.request("GET", "/openapi.json?appId=north")).json
    return {path.split("/")[1] for path in document["paths"]} - {"oauth"}


def tokens_in_mails(folder: Path) -> set[str]:
    """The tokens that were mailed, and are in nothing else."""
    found: set[str] = set()
    for file in folder.glob("*.eml"):
        body = message_from_bytes(file.read_bytes(), policy=default).get_body(("plain",))
        assert body is not None
        found |= {word.split("token=")[1] for word in body.get_content().split() if "token=" in word}
    return found


def parts(token: str) -> list[str]:
    """What of a token is secret: the signature of an access token, the last parts of a refresh token or a key, or all."""
    if token.count(".") == 2:
        return [token.split(".")[2]]
    kinds = {"rr": 2, "rk": 3}
    kind, *_ = token.split("_")
    return token.split("_")[kinds[kind] :] if kind in kinds else [token]


async def dump(uri: str, database: str) -> str:
    """All that the databases of the server hold, as text; they are dropped."""
    texts = ""
    mongo: AsyncMongoClient[Any]
    async with AsyncMongoClient(uri) as mongo:
        for name in [name for name in await mongo.list_database_names() if name.startswith(database)]:
            texts += await texts_of(mongo[name])
            await mongo.drop_database(name)
    return texts


async def texts_of(database: Any) -> str:
    """All that a database holds, as text."""
    texts: list[str] = []
    for name in await database.list_collection_names():
        texts += [json_util.dumps(record) async for record in database[name].find({})]
    return "\n".join(texts)
