"""Sign-up, login, reconnect and logout with the official client."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.javascript import failed, run
from tests.acceptance.transports import each_transport


@each_transport
@pytest.mark.parametrize("app", ["acme", "globex"])
async def test_an_account_from_sign_up_to_logout(url: str, app: str, transports: list[str]) -> None:
    found = await run("account", url=url, appId=app, transports=transports)

    user = found["signUp"]["result"]
    assert user["username"] == "alice"
    assert isinstance(user["_id"], str)
    assert failed(found["before"], 401, "NotAuthenticated")
    assert failed(found["again"], 409, "Conflict")

    session = found["login"]["result"]
    assert session.keys() == {"accessToken", "authentication", "user"}
    assert session["user"] == user
    assert session["authentication"]["strategy"] == "local"
    assert session["authentication"]["payload"]["sub"] == user["_id"]
    assert found["stored"]
    assert found["users"]["result"]["data"] == [user]
    assert found["self"]["result"] == user
    assert found["renamed"]["result"] == {**user, "nickname": "Al", **_changed(found["renamed"]["result"], user)}

    assert found["logout"]["result"]["user"]["_id"] == user["_id"]
    assert found["forgotten"] is None
    assert failed(found["after"], 401, "NotAuthenticated")
    assert found["stillConnected"]
    assert "password" not in json.dumps(found).lower()


def _changed(now: dict[str, object], before: dict[str, object]) -> dict[str, object]:
    return {key: now[key] for key in before.keys() & now.keys() if key.endswith("_at")}


@each_transport
async def test_a_login_that_fails_says_the_same_whatever_was_wrong(url: str, transports: list[str]) -> None:
    found = await run("account", url=url, appId="acme", transports=transports)

    assert failed(found["wrong"], 401, "NotAuthenticated", "Invalid login")
    assert found["nobody"] == found["wrong"]
    assert failed(found["operator"], 400, "BadRequest"), "an operator is never a name"
    assert failed(found["strategy"], 401, "NotAuthenticated")


@each_transport
async def test_a_client_logs_in_again_by_itself_after_its_connection_broke(url: str, transports: list[str]) -> None:
    found = await run("reconnect", url=url, appId="acme", transports=transports)

    assert found["firstId"] != found["secondId"]
    assert found["session"]["result"]["user"]["username"] == "alice"
    assert found["call"]["result"]["text"] == "still me"
    assert found["event"]["text"] == "welcome back"


async def test_a_stored_token_restores_a_session_and_a_forged_one_is_dropped(url: str) -> None:
    found = await run("reconnect", url=url, appId="acme")

    assert found["restored"]["result"]["authentication"]["strategy"] == "jwt"
    assert found["sameToken"]
    assert failed(found["forged"], 401, "NotAuthenticated")
    assert found["forgedStored"] is None
    assert found["forgerConnected"]
