"""Logging in and out over a real database: who gets in, what they are told, and what live connections hear."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from hooks.context import Authentication, Connection, Params, Record
from hooks.errors import FeathersError, Forbidden, NotAuthenticated
from hooks.tenant import Tenant
from server.main import Roost
from services.authentication.directory import Directory
from services.authentication.local import LocalStrategy
from services.authentication.passwords import Passwords
from services.authentication.service import AuthenticationService
from services.authentication.strategy import Proof
from services.authentication.tokens import Tokens
from tests.conftest import StartRoost
from tests.integration.authentication.clients import PASSWORD, Client, stored, tenant_of

INVALID_LOGIN = {
    "name": "NotAuthenticated",
    "message": "Invalid login",
    "code": 401,
    "className": "not-authenticated",
}
NO_STRATEGY = "Invalid authentication information (no `strategy` set)"
NOT_ALLOWED = "Invalid authentication information (strategy not allowed in authStrategies)"


@pytest.fixture
async def bob(roost: Roost) -> Client:
    """A user of `acme` who is not logged in yet."""
    client = Client(roost, "acme")
    await client.sign_up("Bob", color="red")
    return client


async def refused(client: Client, data: Any) -> dict[str, Any]:
    """The error with which a login is refused."""
    with pytest.raises(FeathersError) as caught:
        await client.call("authentication", "create", data=data)
    return caught.value.to_json()


async def test_a_local_login_answers_in_feathers_shape(bob: Client) -> None:
    result = await bob.log_in(" BOB ")
    payload = result["authentication"]["payload"]
    assert result == {
        "accessToken": bob.token,
        "authentication": {"strategy": "local", "payload": payload},
        "user": {"_id": result["user"]["_id"], "username": "Bob", "color": "red"},
    }
    assert (payload["sub"], payload["app_id"]) == (bob.id, "acme")
    assert await bob.call("users", "get", bob.id) == result["user"]


async def test_a_token_login_gives_the_same_token_back(bob: Client) -> None:
    first = await bob.log_in("bob")
    again = await bob.call("authentication", "create", data={"strategy": "jwt", "accessToken": bob.token})
    assert again == {
        "accessToken": bob.token,
        "authentication": {
            "strategy": "jwt",
            "accessToken": bob.token,
            "payload": first["authentication"]["payload"],
        },
        "user": first["user"],
    }


WRONG: list[Record] = [
    {"username": "bob", "password": "wrong horse"},
    {"username": "nobody", "password": PASSWORD},
    {"username": "bob"},
    {"password": PASSWORD},
    {},
    {"username": {"$in": ["bob"]}, "password": PASSWORD},
    {"username": {"$ne": "x"}, "password": PASSWORD},
    {"username": ["bob"], "password": PASSWORD},
    {"username": "bob", "password": {"$ne": ""}},
    {"username": "bob", "password": 7},
    {"username": "bob", "password": None},
    {"username": None, "password": PASSWORD},
    {"username": True, "password": True},
    {"username": "bob\0", "password": PASSWORD},
    {"username": "\ud800", "password": PASSWORD},
    {"username": "bob", "password": "\ud800"},
    {"username": "b" * 1_000_000, "password": PASSWORD},
    {"username": "bob", "password": "p" * 1_000_000},
    {"username": "", "password": ""},
    {"email": "bob", "password": PASSWORD},
]


async def test_every_failed_login_reads_alike(bob: Client) -> None:
    for data in WRONG:
        assert await refused(bob, {"strategy": "local", **data}) == INVALID_LOGIN, str(data)[:80]


NO_LOGINS: list[tuple[Any, str]] = [
    (None, NO_STRATEGY),
    ([], NO_STRATEGY),
    ("local", NO_STRATEGY),
    (7, NO_STRATEGY),
    ({}, NO_STRATEGY),
    ({"strategy": None}, NO_STRATEGY),
    ({"strategy": ""}, NO_STRATEGY),
    ({"strategy": "magic"}, NOT_ALLOWED),
    ({"strategy": "__class__"}, NOT_ALLOWED),
    ({"strategy": ["local"]}, NOT_ALLOWED),
    ({"strategy": {"$ne": ""}}, NOT_ALLOWED),
    ({"strategy": "jwt"}, "No access token"),
    ({"strategy": "jwt", "accessToken": {"$ne": ""}}, "jwt must be a string"),
    ({"strategy": "jwt", "accessToken": "nonsense"}, "jwt malformed"),
]


async def test_what_is_no_login_is_refused_in_feathers_words(roost: Roost) -> None:
    params = Params(tenant=await tenant_of(roost, "acme"), provider="rest")
    for data, message in NO_LOGINS:
        with pytest.raises(NotAuthenticated) as caught:
            await roost.people.authentication.create(data, params)
        assert caught.value.message == message, data


async def test_the_same_name_logs_in_to_ones_own_app_alone(roost: Roost, bob: Client) -> None:
    name, other = "bob@b.example", Client(roost, "globex")
    await bob.sign_up(name)
    assert await refused(other, {"strategy": "local", "email": name, "password": PASSWORD}) == INVALID_LOGIN
    await other.call("users", "create", data={"email": name, "password": "another horse"})
    await other.log_in(name, "another horse")
    assert await refused(other, {"strategy": "local", "email": name, "password": PASSWORD}) == INVALID_LOGIN
    assert await refused(bob, {"strategy": "local", "username": name, "password": "another horse"}) == INVALID_LOGIN


async def test_a_token_opens_its_own_app_alone(roost: Roost, bob: Client) -> None:
    await bob.log_in("bob")
    other = Client(roost, "globex")
    other.token = bob.token
    body = await refused(other, {"strategy": "jwt", "accessToken": bob.token})
    assert (body["code"], body["data"]) == (403, {"reason": "TenantMismatch"})
    with pytest.raises(Forbidden, match="another app"):
        await other.call("users", "find")


async def test_a_user_without_a_password_does_not_log_in(roost: Roost) -> None:
    tenant = await tenant_of(roost, "acme")
    await roost.app.call("users", "create", Params(tenant=tenant), data={"username": "guest"})
    for password in (PASSWORD, "", "None"):
        assert (
            await refused(Client(roost, "acme"), {"strategy": "local", "username": "guest", "password": password})
            == INVALID_LOGIN
        )


async def test_a_removed_users_token_is_401_and_not_404(bob: Client) -> None:
    await bob.log_in("bob")
    await bob.call("users", "remove", bob.id)
    for path, method, data in (
        ("users", "find", None),
        ("authentication", "create", {"strategy": "jwt", "accessToken": bob.token}),
        ("authentication", "remove", None),
    ):
        with pytest.raises(NotAuthenticated, match="does not exist"):
            await bob.call(path, method, data=data)


async def test_an_expired_token_is_401_with_its_reason(roosts: StartRoost) -> None:
    roost = await roosts(token_lifetime=60)
    bob = Client(roost, "acme")
    await bob.sign_up("Bob")
    early = Tokens(roost.backend.keys, clock=lambda: time.time() - 120, lifetime=60)
    bob.token, _ = await early.issue(await tenant_of(roost, "acme"), "0" * 24)
    with pytest.raises(NotAuthenticated, match="jwt expired") as caught:
        await bob.call("users", "find")
    assert caught.value.data["name"] == "TokenExpiredError"


class Counting(Passwords):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__(memory_kib=64, rounds=1)
        self.computed = 0

    def _matches(self, password: str, hashed: str) -> bool:
        self.computed += 1
        return super()._matches(password, hashed)


async def test_unknown_users_cost_what_wrong_passwords_cost(roost: Roost, bob: Client) -> None:
    passwords = Counting()
    roost.people.authentication.register("local", LocalStrategy(Directory(roost.app), passwords))
    for name in ("bob", "nobody", "b" * 1000, "\ud800", ""):
        before = passwords.computed
        assert await refused(bob, {"strategy": "local", "username": name, "password": "wrong horse"}) == INVALID_LOGIN
        assert passwords.computed == before + 1, name
    passwords.close()


@pytest.mark.timing
async def test_unknown_users_take_as_long_as_wrong_passwords(bob: Client) -> None:
    seconds: dict[str, list[float]] = {"bob": [], "nobody": []}
    for _ in range(40):
        for name, samples in seconds.items():
            began = time.perf_counter()
            await refused(bob, {"strategy": "local", "username": name, "password": "wrong horse"})
            samples.append(time.perf_counter() - began)
    known, unknown = statistics.median(seconds["bob"]), statistics.median(seconds["nobody"])
    # On a machine that others keep busy, everything takes longer.
    assert abs(known - unknown) < max(0.005, known / 10)


@dataclass(eq=False)
class Socket:
    """A live connection."""

    id: str
    tenant: Tenant
    user: Record | None = None
    claims: Record | None = None
    channels: set[str] = field(default_factory=set)


class Sessions:
    """Keeps the logins of live connections."""

    def __init__(self) -> None:
        self.logins: dict[str, tuple[Authentication, Record]] = {}

    async def login(self, connection: Connection, authentication: Authentication, user: Record, tenant: Tenant) -> None:
        self.logins[connection.id] = authentication, user

    async def switch(
        self, connection: Connection, authentication: Authentication, user: Record, tenant: Tenant
    ) -> None:
        self.logins[connection.id] = authentication, user

    async def logout(self, connection: Connection, login: Authentication | None = None) -> None:
        self.logins.pop(connection.id, None)

    async def end_session(self, tenant_id: str, session_id: str) -> None:
        """Logs out the connections of a session."""
        for id, (login, _) in [*self.logins.items()]:
            if login.payload.get("sid") == session_id:
                del self.logins[id]

    async def end_user(self, tenant_id: str, user_id: str, *, but: str | None = None) -> None:
        """Logs out the connections of a user."""
        for id, (login, user) in [*self.logins.items()]:
            if str(user["_id"]) == user_id and (but is None or login.payload.get("sid") != but):
                del self.logins[id]


class Live:
    """The service with a live connection to `acme`."""

    def __init__(self, roost: Roost, tenant: Tenant) -> None:
        self.sessions = Sessions()
        self.tokens = Tokens(roost.backend.keys, clock=lambda: time.time() + self.later)
        self.later = 0.0
        self.service = AuthenticationService(
            roost.app,
            self.tokens,
            roost.people.passwords,
            roost.people.ledger,
            roost.people.api_keys,
            sessions=self.sessions,
        )
        self.socket = Socket("s1", tenant)

    def params(self) -> Params:
        """What a call over the connection carries."""
        login, user = self.sessions.logins.get("s1", (None, None))
        return Params(
            tenant=self.socket.tenant,
            provider="socketio",
            connection=self.socket,
            authentication=login,
            user=user,
            authenticated=login is not None,
        )

    async def log_in(self, password: str = PASSWORD) -> Record:
        return await self.service.create({"strategy": "local", "username": "bob", "password": password}, self.params())


@pytest.fixture
async def live(roost: Roost, bob: Client) -> Live:
    return Live(roost, await tenant_of(roost, "acme"))


async def test_a_connection_is_logged_in_with_its_token_and_visible_user(live: Live) -> None:
    result = await live.log_in()
    login, user = live.sessions.logins["s1"]
    assert (login.strategy, login.access_token) == ("jwt", result["accessToken"])
    assert login.payload["exp"] == result["authentication"]["payload"]["exp"]
    assert user == result["user"]
    assert "password" not in user


async def test_a_failed_login_leaves_the_earlier_one(live: Live) -> None:
    await live.log_in()
    before = live.sessions.logins["s1"]
    with pytest.raises(NotAuthenticated):
        await live.log_in("wrong horse")
    with pytest.raises(NotAuthenticated):
        await live.service.create({"strategy": "jwt", "accessToken": "a.b.c"}, live.params())
    assert live.sessions.logins["s1"] is before


@pytest.mark.parametrize("by_token", [True, False])
async def test_logging_out_answers_like_a_login_and_frees_the_connection(live: Live, by_token: bool) -> None:
    result = await live.log_in()
    token = result["accessToken"]
    gone = await live.service.remove(token if by_token else None, live.params())
    assert gone == {
        "accessToken": token,
        "authentication": {
            "strategy": "jwt",
            "accessToken": token,
            "payload": result["authentication"]["payload"],
        },
        "user": result["user"],
    }
    assert live.sessions.logins == {}
    with pytest.raises(NotAuthenticated, match="Not authenticated"):
        await live.service.remove(None, live.params())


async def test_another_token_as_id_logs_nobody_out(live: Live) -> None:
    await live.log_in()
    others: list[Any] = ["a.b.c", "", 7, {"$ne": ""}, ["x"]]
    for other in others:
        with pytest.raises(NotAuthenticated, match="Invalid access token"):
            await live.service.remove(other, live.params())
    assert "s1" in live.sessions.logins


async def test_an_expired_login_can_still_be_logged_out(live: Live) -> None:
    await live.log_in()
    live.later = 2 * 24 * 3600
    with pytest.raises(NotAuthenticated, match="jwt expired"):
        await live.service.remove(None, live.params())
    assert live.sessions.logins == {}


async def test_verify_gives_the_login_of_a_handshake_token(live: Live, bob: Client) -> None:
    result = await live.log_in()
    params = Params(tenant=live.socket.tenant)
    login, user, principal = await live.service.verify(params, result["accessToken"])
    assert principal == user
    assert (login.access_token, user) == (result["accessToken"], result["user"])
    with pytest.raises(NotAuthenticated, match="jwt malformed"):
        await live.service.verify(params, "nonsense")


async def test_a_strategy_of_ones_own(live: Live, bob: Client) -> None:
    class Badge:
        async def authenticate(self, data: Any, params: Params) -> Proof:
            if data.get("badge") != "gold":
                raise NotAuthenticated("Invalid login")
            return Proof({"_id": "b1", "username": "badge"})

    live.service.register("badge", Badge())
    result = await live.service.create({"strategy": "badge", "badge": "gold"}, live.params())
    assert result["authentication"]["strategy"] == "badge"
    assert result["authentication"]["payload"]["sub"] == "b1"


async def test_no_secret_is_ever_logged(roosts: StartRoost, capfd: pytest.CaptureFixture[str]) -> None:
    canary = "canary-4711-horse"
    roost = await roosts(log_level="debug")
    client = Client(roost, "acme")
    said: list[Any] = [await client.call("users", "create", data={"username": "Bob", "password": canary})]
    said.append(await client.log_in("bob", canary))
    for data in (
        {"strategy": "local", "username": "bob", "password": canary + "x"},
        {"strategy": "local", "username": canary, "password": {"$ne": canary}},
    ):
        said.append(await refused(client, data))
    with pytest.raises(FeathersError) as caught:
        await client.call("users", "create", data={"username": "BOB", "password": canary})
    said.append(caught.value.to_json())
    hashed = (await stored(roost, "acme", "bob"))["password"]
    output = "".join(capfd.readouterr()) + json.dumps(said, default=str)
    assert "Bob" in output
    for secret in (canary, hashed):
        assert secret not in output
