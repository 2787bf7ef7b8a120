"""Anonymous users: made without a name where the tenant wants it, and upgraded to full ones that keep id and records."""

from __future__ import annotations

from typing import Any

import pytest

from server.main import Roost
from tests.integration.authentication.people import is_in, log_in, refresh, refused, sign_up, status
from tests.support.client import PASSWORD, connect, fresh, rest
from tests.support.placed import database_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANONYMOUS = {"strategy": "anonymous"}


async def test_an_anonymous_user_has_an_id_and_nothing_else(served: Roost) -> None:
    async with connect(served, "acme") as ada, connect(served, "acme") as bob:
        sent = {**ANONYMOUS, "username": "admin", "permissions": ["admin"], "_id": "0" * 24, "user": {"verified": True}}
        answer = await ada.call("create", "authentication", sent, {})
        assert set(answer) == {"accessToken", "authentication", "user"}
        assert answer["user"] == {"_id": answer["user"]["_id"], "anonymous": True}
        assert answer["authentication"]["strategy"] == "anonymous"
        assert await is_in(ada)
        other = await bob.call("create", "authentication", ANONYMOUS, {})
        assert other["user"]["_id"] != answer["user"]["_id"]


async def test_a_tenant_that_does_not_list_it_makes_no_anonymous_users(served: Roost) -> None:
    async with rest(served, "globex") as http:
        error = await refused(http, "create", "authentication", ANONYMOUS)
        assert (error.code, error.message) == (
            401,
            "Invalid authentication information (strategy not allowed in authStrategies)",
        )
        users = database_of(served)["users"]
        assert await users.count_documents({"app_id": "globex", "anonymous": True}) == 0


async def test_a_full_user_keeps_id_records_and_session(served: Roost) -> None:
    async with connect(served, "acme") as ada, rest(served, "acme") as http:
        answer = await ada.call("create", "authentication", {**ANONYMOUS, "refresh": True}, {})
        id = answer["user"]["_id"]
        await ada.call("patch", "users", id, {"colour": "red"}, {})
        note = await ada.call("create", "notes", {"owner_id": id}, {})
        name = fresh("ada")
        full = await ada.call("patch", "users", id, {"username": name, "password": PASSWORD}, {})
        assert full == {"_id": id, "username": name, "anonymous": False, "colour": "red"}
        assert await is_in(ada)
        assert (await refresh(http, answer["refreshToken"]))["user"]["_id"] == id
        logged_in = await log_in(http, name)
        assert logged_in["user"] == full
        assert await ada.call("get", "notes", note["_id"], {}) == note
        await ada.call("patch", "users", id, {"username": fresh("ada")}, {})


@pytest.mark.parametrize("data", [{"username": "NAME"}, {"password": PASSWORD}])
@pytest.mark.parametrize("method", ["patch", "update"])
async def test_a_name_and_a_password_come_together(served: Roost, method: str, data: dict[str, Any]) -> None:
    async with connect(served, "acme") as ada:
        answer = await ada.call("create", "authentication", ANONYMOUS, {})
        sent = {key: fresh() if value == "NAME" else value for key, value in data.items()}
        error = await refused(ada, method, "users", answer["user"]["_id"], sent, {})
        assert error.code == 400
        assert (await ada.call("get", "users", answer["user"]["_id"], {}))["anonymous"] is True


async def test_a_taken_name_upgrades_nobody(served: Roost) -> None:
    async with connect(served, "acme") as ada:
        name, _ = await sign_up(ada)
        answer = await ada.call("create", "authentication", ANONYMOUS, {})
        data = {"username": name.upper(), "password": "another horse"}
        assert (await refused(ada, "patch", "users", answer["user"]["_id"], data, {})).code == 409
        assert (await ada.call("get", "users", answer["user"]["_id"], {})) == answer["user"]


@pytest.mark.parametrize("value", [True, False, None])
async def test_a_client_cannot_write_who_is_anonymous(served: Roost, value: Any) -> None:
    async with connect(served, "acme") as ada:
        user = await ada.sign_up(fresh())
        assert (await refused(ada, "patch", "users", user["_id"], {"anonymous": value}, {})).code == 400
        data = {"username": fresh(), "password": PASSWORD, "anonymous": value}
        assert (await refused(ada, "create", "users", data, {})).code == 400


async def test_an_anonymous_user_cannot_be_logged_in_by_password(served: Roost) -> None:
    async with rest(served, "acme") as http:
        answer = await http.call("create", "authentication", ANONYMOUS)
        for name in ("", answer["user"]["_id"], None):
            data = {"strategy": "local", "username": name, "password": ""}
            assert (await refused(http, "create", "authentication", data)).message == "Invalid login"
        assert await status(http, answer) == 200
