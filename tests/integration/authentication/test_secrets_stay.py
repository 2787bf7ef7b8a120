"""Refresh tokens, API keys and what they are kept as are in no log, error, event or list (LIMITS A11)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.api_keys import ADMIN
from services.users import grant
from tests.conftest import StartRoost
from tests.integration.authentication.people import OPEN, by_refresh, log_in, refresh, sign_up, tenant_of
from tests.support.client import connect, outcome, rest
from tests.support.placed import database_of


async def test_no_token_or_key_is_told_to_anybody_else(roosts: StartRoost, capfd: pytest.CaptureFixture[str]) -> None:
    roost = await roosts(OPEN, log_level="debug")
    told: list[Any] = []
    for path in ("sessions", "api-keys", "authentication", "users"):
        for event in ("created", "updated", "patched", "removed"):
            roost.app.service(path).on(event, lambda record, context: told.append(record))
    async with connect(roost, "acme") as other, rest(roost, "acme") as http:
        await other.sign_up("other")
        name, _ = await sign_up(http)
        await grant(roost.backend.isolation, tenant_of(roost, "acme"), name, ADMIN)
        first = await log_in(http, name, refresh=True)
        second = await refresh(http, first["refreshToken"])
        http.headers["Authorization"] = f"Bearer {second['accessToken']}"
        made = await http.call("create", "api-keys", {"name": "shop", "scopes": ["notes:find"]})
        database = database_of(roost)
        kept = [*await database["sessions"].find({"app_id": "acme"}).to_list()]
        kept += await database["api_keys"].find({"app_id": "acme"}).to_list()
        by_key = {"X-Api-Key": made["key"]}
        told.append((await http.request("GET", "/notes", headers=by_key)).json)
        told.append((await http.request("GET", "/users", headers=by_key)).json)
        told.append(await http.call("find", "api-keys"))
        told.append(await http.call("find", "sessions"))
        told.append(await http.call("find", "users"))
        told.append(await http.call("remove", "api-keys", made["_id"]))
        told.append(str(await outcome(http, "create", "authentication", {"strategy": "api_key", "key": made["key"]})))
        told.append(str(await outcome(http, "create", "authentication", by_refresh(first))))
        told += await other.take_events()

    secrets = [part for answer in (first, second) for part in answer["refreshToken"].split("_")[2:]]
    secrets += [made["key"].split("_")[3], first["accessToken"], second["accessToken"]]
    at_rest = json.dumps(kept, default=str)
    everywhere = json.dumps(told, default=str) + at_rest + "".join(capfd.readouterr())
    assert "shop" in everywhere
    for secret in secrets:
        assert secret not in everywhere
    for word in ("refresh.secret", '"family"', '"hash"', "tokens_valid_after"):
        assert word not in json.dumps(told, default=str)
