"""Sessions: each login is one, they are listed for their owner alone, and what ends them reaches live sockets and tokens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from hooks.context import Params
from hooks.errors import NotAuthenticated
from hooks.tenant import Tenant
from server.main import Roost
from services.authentication.directory import Directory
from services.authentication.local import LocalStrategy
from services.authentication.service import AuthenticationService
from services.authentication.strategy import Proof
from services.authentication.tokens import Payload, Tokens
from tests.integration.authentication.people import (
    ENDED,
    bearer,
    by_refresh,
    is_in,
    is_out,
    log_in,
    refresh,
    refused,
    sign_up,
    status,
    tenant_of,
)
from tests.support.client import PASSWORD, connect, fresh, rest, until
from tests.support.placed import database_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_plain_login_keeps_the_three_keys_and_has_a_session(served: Roost) -> None:
    async with connect(served, "acme", headers={"User-Agent": "Test\tPhone 7" + " long" * 200}) as ada:
        name, user = await sign_up(ada)
        answer = await log_in(ada, name)
        assert set(answer) == {"accessToken", "authentication", "user"}
        payload = answer["authentication"]["payload"]
        [session] = await ada.call("find", "sessions", {})
        assert session == {
            "_id": payload["sid"],
            "device": {
                "agent": ("Test\tPhone 7" + " long" * 200)[:256].replace("\t", ""),
                "network": "127.0.0.0/24",
            },
            "created_at": session["created_at"],
            "last_use": session["created_at"],
            "expires_at": session["expires_at"],
            "persistent": False,
            "current": True,
        }
        assert abs(datetime.fromisoformat(session["expires_at"]).timestamp() - payload["exp"]) <= 1
        assert payload["sub"] == user["_id"]


@pytest.mark.parametrize("wish", [False, None, 1, "true", [True]])
async def test_only_true_asks_for_a_refresh_token(served: Roost, wish: Any) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        assert "refreshToken" not in await log_in(http, name, refresh=wish)
        assert "refreshToken" in await log_in(http, name, refresh=True)


async def test_an_access_token_cannot_be_made_into_a_refresh_token(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        answer = await log_in(http, name)
        data = {"strategy": "jwt", "accessToken": answer["accessToken"], "refresh": True}
        assert set(await http.call("create", "authentication", data)) == {"accessToken", "authentication", "user"}


async def test_sessions_are_their_owners_alone(served: Roost) -> None:
    async with rest(served, "acme") as ada, rest(served, "acme") as bob, rest(served, "globex") as eve:
        for http, field in ((ada, "username"), (bob, "username"), (eve, "username")):
            await http.sign_up(fresh(), field=field)
        [mine] = await ada.call("find", "sessions")
        for other in (bob, eve):
            assert mine["_id"] not in str(await other.call("find", "sessions"))
            assert (await refused(other, "remove", "sessions", mine["_id"])).code == 404
        assert (await ada.call("find", "sessions"))[0]["_id"] == mine["_id"]
        async with rest(served, "acme") as stranger:
            assert (await refused(stranger, "find", "sessions")).code == 401
            assert (await refused(stranger, "remove", "sessions", None)).code == 401
        for method, arguments in (("create", ({},)), ("get", (mine["_id"],)), ("patch", (None, {}))):
            assert (await refused(ada, method, "sessions", *arguments)).code == 405


@pytest.mark.parametrize("id", ["x", "0" * 24, "a/b", "$ne"])
async def test_what_is_no_session_is_not_found(served: Roost, id: str) -> None:
    async with rest(served, "acme") as http:
        await http.sign_up(fresh())
        assert (await refused(http, "remove", "sessions", id)).code == 404


@pytest.mark.parametrize("id", [{"$ne": ""}, [], 7, True, ""])
async def test_an_id_that_is_no_text_ends_nothing(served: Roost, id: Any) -> None:
    async with connect(served, "acme") as ada:
        await ada.sign_up(fresh())
        assert (await refused(ada, "remove", "sessions", id, {})).code in (400, 404)
        assert await is_in(ada)


async def test_one_is_logged_out_and_the_others_stay(served: Roost) -> None:
    async with connect(served, "acme") as phone, connect(served, "acme") as desk, rest(served, "acme") as http:
        name, _ = await sign_up(http)
        gone = await log_in(phone, name, refresh=True)
        kept = await log_in(desk, name, refresh=True)
        listed = {session["_id"]: session["current"] for session in await desk.call("find", "sessions", {})}
        id = gone["authentication"]["payload"]["sid"]
        assert listed == {id: False, kept["authentication"]["payload"]["sid"]: True}

        removed = await desk.call("remove", "sessions", id, {})
        assert (removed["_id"], removed["persistent"], "refresh" in removed) == (id, True, False)
        assert await is_out(phone), "in the moment of the answer (A9: within a second)"
        assert phone.connected
        assert await status(http, gone) == 401
        assert (
            await refused(http, "create", "authentication", {"strategy": "jwt", "accessToken": gone["accessToken"]})
        ).data == ENDED
        assert (await refused(http, "create", "authentication", by_refresh(gone))).code == 401
        assert await is_in(desk)
        assert await status(http, kept) == 200
        assert await refresh(http, kept["refreshToken"])


async def test_everywhere_is_everywhere_the_callers_own_too(served: Roost) -> None:
    async with (
        connect(served, "acme") as phone,
        connect(served, "acme") as desk,
        connect(served, "acme") as other,
        rest(served, "acme") as http,
    ):
        name, _ = await sign_up(http)
        await other.sign_up(fresh())
        answers = [await log_in(phone, name, refresh=True), await log_in(desk, name), await log_in(http, name)]
        began = time.monotonic()
        removed = await desk.call("remove", "sessions", None, {})
        assert {session["_id"] for session in removed} == {
            answer["authentication"]["payload"]["sid"] for answer in answers
        }
        assert await is_out(phone)
        assert await is_out(desk)
        assert time.monotonic() - began < 1.0, "A9"
        assert [await status(http, answer) for answer in answers] == [401, 401, 401]
        assert (await refused(http, "create", "authentication", by_refresh(answers[0]))).code == 401
        assert await is_in(other), "who is somebody else"
        again = await log_in(desk, name)
        assert await is_in(desk), "one may log in again at once"
        assert await status(http, again) == 200


async def test_logged_out_sockets_hear_no_more_events(served: Roost) -> None:
    async with connect(served, "acme") as phone, connect(served, "acme") as desk, connect(served, "acme") as bob:
        name, _ = await sign_up(bob)
        await log_in(phone, name)
        await log_in(desk, name)
        await bob.sign_up(fresh())
        await desk.call("remove", "sessions", None, {})
        await bob.call("create", "notes", {"text": "secret"}, {})
        assert (await bob.next_event()).name == "notes created"
        for client in (phone, desk):
            assert "notes created" not in [event.name for event in await client.take_events()]


async def test_who_is_logged_out_by_others_is_told_and_nobody_else(served: Roost) -> None:
    async with connect(served, "acme") as phone, connect(served, "acme") as desk, connect(served, "acme") as bob:
        name, _ = await sign_up(bob)
        await bob.sign_up(fresh())
        answer = await log_in(phone, name)
        await log_in(desk, name)
        await desk.call("remove", "sessions", answer["authentication"]["payload"]["sid"], {})
        told = await phone.next_event()
        assert (told.name, told.record) == ("authentication removed", {"reason": "ended"})
        await log_in(phone, name)
        await desk.call("remove", "sessions", None, {})
        for client in (phone, desk):
            told = await client.next_event()
            assert (told.name, told.record) == ("authentication removed", {"reason": "ended"})
        await log_in(desk, name)
        await desk.logout()
        for client in (phone, desk, bob):
            await client.fence()
            assert await client.take_events() == [], "who logs out needs no telling, and others hear nothing of it"


@pytest.mark.parametrize("id", ["null", "token"])
async def test_logging_out_ends_the_session_on_all_its_sockets(served: Roost, id: str) -> None:
    async with connect(served, "acme") as one, connect(served, "acme") as same, rest(served, "acme") as http:
        name, _ = await sign_up(http)
        answer = await log_in(one, name, refresh=True)
        other = await log_in(http, name)
        await same.login_by(answer["accessToken"])
        await one.call("remove", "authentication", None if id == "null" else answer["accessToken"], {})
        assert await is_out(same)
        assert await status(http, answer) == 401
        assert (await refused(http, "create", "authentication", by_refresh(answer))).code == 401
        assert await status(http, other) == 200


async def test_logging_out_over_rest_ends_the_token(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        answer = await log_in(http, name)
        assert (await http.request("DELETE", "/authentication", headers=bearer(answer))).status == 200
        assert await status(http, answer) == 401


@pytest.mark.parametrize("method", ["patch", "update"])
async def test_a_new_password_ends_all_other_sessions(served: Roost, method: str) -> None:
    async with connect(served, "acme") as phone, connect(served, "acme") as desk, rest(served, "acme") as http:
        name, user = await sign_up(http)
        gone = await log_in(phone, name, refresh=True)
        kept = await log_in(desk, name, refresh=True)
        await desk.call(method, "users", user["_id"], {"username": name, "password": "another horse"}, {})
        assert await is_out(phone)
        assert await status(http, gone) == 401
        assert (await refused(http, "create", "authentication", by_refresh(gone))).code == 401
        assert await is_in(desk), "who changes it stays"
        assert await status(http, kept) == 200
        renewed = await refresh(http, kept["refreshToken"])
        assert await status(http, renewed) == 200
        assert len(await desk.call("find", "sessions", {})) == 1
        await log_in(phone, name, "another horse")
        assert await is_in(phone)


async def test_a_password_that_the_server_sets_ends_every_session(served: Roost) -> None:
    async with connect(served, "acme") as phone, rest(served, "acme") as http:
        name, user = await sign_up(http)
        answer = await log_in(phone, name)
        await served.app.call("users", "patch", own_params(served), id=user["_id"], data={"password": "another horse"})
        assert await is_out(phone)
        assert await status(http, answer) == 401


def own_params(roost: Roost) -> Params:
    """The params of a call of the server's own."""
    return Params(tenant=tenant_of(roost, "acme"))


async def test_another_change_of_a_user_ends_nothing(served: Roost) -> None:
    async with connect(served, "acme") as phone, connect(served, "acme") as desk:
        name, user = await sign_up(desk)
        await log_in(phone, name)
        await log_in(desk, name)
        await desk.call("patch", "users", user["_id"], {"colour": "red"}, {})
        assert await is_in(phone)
        assert await is_in(desk)


async def test_a_removed_user_is_logged_out_everywhere(served: Roost) -> None:
    async with connect(served, "acme") as phone, connect(served, "acme") as desk, rest(served, "acme") as http:
        name, user = await sign_up(http)
        await log_in(phone, name)
        answer = await log_in(desk, name, refresh=True)
        await desk.call("remove", "users", user["_id"], {})
        assert await is_out(phone)
        assert await is_out(desk)
        assert await status(http, answer) == 401
        assert (await refused(http, "create", "authentication", by_refresh(answer))).code == 401
        sessions = database_of(served)["sessions"]
        assert await sessions.count_documents({"app_id": "acme", "user_id": user["_id"]}) == 0


async def test_a_login_that_began_before_the_new_password_does_not_outlive_it(served: Roost) -> None:
    """The old password was right when it was looked at; by the time the session is there, it is no more."""
    async with connect(served, "acme") as phone, connect(served, "acme") as desk:
        name, user = await sign_up(desk)
        await log_in(desk, name)

        class Interrupted(LocalStrategy):
            """Meets a new password between the check of the old one and its answer."""

            async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
                proof = await super().authenticate(data, params)
                await desk.call("patch", "users", user["_id"], {"password": "another horse"}, {})
                return proof

        directory = Directory(served.app)
        served.people.authentication.register("local", Interrupted(directory, served.people.passwords))
        try:
            login = {"strategy": "local", "username": name, "password": PASSWORD}
            error = await refused(phone, "create", "authentication", login, {})
        finally:
            served.people.authentication.register("local", LocalStrategy(directory, served.people.passwords))
        assert error.code == 401
        assert await is_out(phone)
        assert len(await desk.call("find", "sessions", {})) == 1


async def test_a_session_that_ends_while_its_login_is_answered_logs_nothing_in(served: Roost) -> None:
    """Whoever ended it has looked for live connections before this one was logged in."""
    async with connect(served, "acme") as phone:
        name, user = await sign_up(phone)
        [connection] = [found for found in served.connections.of("acme") if found.user is None]

        class Interrupted(Tokens):
            """Meets the end of all sessions while it issues a token."""

            async def issue(self, tenant: Tenant, user_id: str, *rest: Any, **more: Any) -> tuple[str, Payload]:
                issued = await super().issue(tenant, user_id, *rest, **more)
                await served.people.ledger.end_all(tenant, user_id)
                return issued

        service = AuthenticationService(
            served.app,
            Interrupted(served.backend.keys),
            served.people.passwords,
            served.people.ledger,
            served.people.api_keys,
            sessions=served.connections,
        )
        params = Params(tenant=tenant_of(served, "acme"), provider="socketio", connection=connection)
        with pytest.raises(NotAuthenticated, match="session has ended"):
            await service.create({"strategy": "local", "username": name, "password": PASSWORD}, params)
        assert connection.authentication is None
        assert served.connections.of_user("acme", user["_id"]) == []
        assert await is_out(phone)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", None),
        ("unix", None),
    ],
)
async def test_a_device_is_known_by_its_network_alone(served: Roost, address: str, network: str | None) -> None:
    user_id, params = fresh("user"), own_params(served)
    params.address = address
    await served.people.ledger.begin(params, user_id, served.people.ledger.now(), 600, keep=False)
    [session] = await served.people.ledger.find(params.tenant, user_id)
    assert session["device"] == {"agent": None, "network": network}


async def test_tokens_without_a_session_end_with_the_user_s_logins_too(served: Roost) -> None:
    async with rest(served, "acme") as http:
        _, user = await sign_up(http)
        tenant = tenant_of(served, "acme")
        early = Tokens(served.backend.keys, clock=lambda: time.time() - 5)
        token, payload = await early.issue(tenant, user["_id"])
        assert "sid" not in payload
        assert await status(http, {"accessToken": token}) == 200
        await served.people.ledger.end_all(tenant, user["_id"])
        assert await status(http, {"accessToken": token}) == 401
        token, _ = await Tokens(served.backend.keys).issue(tenant, user["_id"])
        assert await status(http, {"accessToken": token}) == 200


async def test_a_session_is_good_for_its_own_user_and_app_alone(served: Roost) -> None:
    async with rest(served, "acme") as http, rest(served, "globex") as elsewhere:
        name, _ = await sign_up(http)
        _, eve = await sign_up(http)
        sid = (await log_in(http, name))["authentication"]["payload"]["sid"]
        tokens = Tokens(served.backend.keys)
        stolen, _ = await tokens.issue(tenant_of(served, "acme"), eve["_id"], sid)
        assert await status(http, {"accessToken": stolen}) == 401
        _, other = await sign_up(elsewhere)
        foreign, _ = await tokens.issue(tenant_of(served, "globex"), other["_id"], sid)
        assert await status(elsewhere, {"accessToken": foreign}) == 401


async def test_a_handshake_with_the_token_of_an_ended_session_makes_a_stranger(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        answer = await log_in(http, name)
        async with connect(served, "acme", headers=bearer(answer)) as before:
            assert await is_in(before)
            await http.request("DELETE", "/sessions", headers=bearer(answer))
            assert await is_out(before)
        async with connect(served, "acme", headers=bearer(answer)) as after:
            assert await is_out(after)


async def test_the_indices_of_live_logins_are_left_empty(served: Roost) -> None:
    async with connect(served, "acme") as ada:
        user = await ada.sign_up(fresh())
        [session] = await ada.call("find", "sessions", {})
        assert len(served.connections.of_user("acme", user["_id"])) == 1
        assert len(served.connections.of_session("acme", session["_id"])) == 1
        assert served.connections.of_session("globex", session["_id"]) == []
        await ada.login(user["username"])
        assert served.connections.of_session("acme", session["_id"]) == []
        assert len(served.connections.of_user("acme", user["_id"])) == 1
    await until(lambda: not served.connections.of_user("acme", user["_id"]))
    await until(lambda: not served.connections.logged_in())
    assert served.connections._by_user == {}
    assert served.connections._by_session == {}


async def test_no_refresh_token_is_kept_or_shown(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, user = await sign_up(http)
        answer = await log_in(http, name, refresh=True)
        sessions = database_of(served)["sessions"]
        stored = await sessions.find_one({"app_id": "acme", "user_id": user["_id"]})
        _, id, family, secret = answer["refreshToken"].split("_")
        assert stored is not None
        assert stored["_id"] == {"a": "acme", "i": id}
        assert (len(family), len(secret)) == (32, 64)
        for part in (family, secret):
            assert part not in str(stored)
        http.headers.update(bearer(answer))
        listed = str(await http.call("find", "sessions"))
        for hidden in (*stored["refresh"].values(), family, secret, "refresh", "valid_from"):
            assert hidden not in listed


async def test_the_list_is_bounded(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, user = await sign_up(http)
        tenant = tenant_of(served, "acme")
        for _ in range(105):
            await served.people.ledger.begin(
                own_params(served), user["_id"], served.people.ledger.now(), 600, keep=False
            )
        assert len(await served.people.ledger.find(tenant, user["_id"])) == 100
        answer = await log_in(http, name)
        removed = await http.request("DELETE", "/sessions", headers=bearer(answer))
        assert len(removed.json) == 100


async def test_an_expired_session_is_no_more(served: Roost) -> None:
    async with connect(served, "acme") as ada, rest(served, "acme") as http:
        name, user = await sign_up(http)
        answer = await log_in(ada, name)
        session = await served.people.ledger.begin(
            own_params(served), user["_id"], served.people.ledger.now(), -1, keep=False
        )
        assert session.id not in str(await ada.call("find", "sessions", {}))
        token, _ = await Tokens(served.backend.keys).issue(tenant_of(served, "acme"), user["_id"], session.id)
        served.people.ledger._recent.drop(("acme", session.id))
        assert await status(http, {"accessToken": token}) == 401
        assert await status(http, answer) == 200


async def test_use_is_noted_once_a_minute(served: Roost) -> None:
    async with rest(served, "acme") as http:
        name, _ = await sign_up(http)
        answer = await log_in(http, name)
        id = answer["authentication"]["payload"]["sid"]
        sessions = database_of(served)["sessions"]
        key = {"_id": {"a": "acme", "i": id}}

        async def used() -> Any:
            served.people.ledger._recent.drop(("acme", id))
            assert await status(http, answer) == 200
            return (await sessions.find_one(key) or {})["last_use"]

        begun = await used()
        assert await used() == begun
        long_ago = datetime.fromtimestamp(begun.timestamp() - 120, begun.tzinfo)
        await sessions.update_one(key, {"$set": {"last_use": long_ago}})
        assert await used() > begun
