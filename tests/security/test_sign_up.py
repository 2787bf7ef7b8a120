"""One name, one user, inside one app: also when ten ask at once, and however the name is written."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from server.main import Roost
from tests.security.apps import stored
from tests.support.client import Caller, CallError, connect, outcome, rest

ADAS = ["Ada", "ada", "ADA", "aDa", "ＡＤＡ", "ａｄａ", "A\u200bda", "Ａda", "ada\u00ad"]


async def test_ten_sign_ups_of_one_name_at_once_make_one_user(roost: Roost) -> None:
    async with AsyncExitStack() as stack:
        sockets: list[Caller] = [await stack.enter_async_context(connect(roost, "acme")) for _ in range(5)]
        clients: list[Caller] = [await stack.enter_async_context(rest(roost, "acme")) for _ in range(5)]
        names = [*ADAS, "ada"]
        answers = await asyncio.gather(
            *(
                outcome(caller, "create", "users", {"username": name, "password": f"secret-of-{number}"})
                for number, (caller, name) in enumerate(zip([*sockets, *clients], names, strict=True))
            )
        )
        codes = Counter(answer.code if isinstance(answer, CallError) else 201 for answer in answers)
        assert codes == {201: 1, 409: 9}
        refused = [answer for answer in answers if isinstance(answer, CallError)]
        assert {answer.message for answer in refused} == {"This username is already taken"}
        assert {(answer.name, repr(answer.data)) for answer in refused} == {("Conflict", "None")}
        (winner,) = [number for number, answer in enumerate(answers) if not isinstance(answer, CallError)]
        for number in range(10):
            login = {"strategy": "local", "username": "aDA", "password": f"secret-of-{number}"}
            entered = not isinstance(await outcome(clients[0], "create", "authentication", login), CallError)
            assert entered is (number == winner)
        assert len((await stored(roost, "acme"))["users"]) == 1


async def test_names_that_look_alike_are_one_in_one_app_and_two_in_two(roost: Roost) -> None:
    async with rest(roost, "acme") as here, rest(roost, "globex") as there:
        first = await here.sign_up("Ada")
        for name in ADAS:
            refused = await outcome(here, "create", "users", {"username": name, "password": "secret-123"})
            assert (refused.code, refused.name) == (409, "Conflict"), name
            async with rest(roost, "acme") as again:
                assert (await again.login(name))["user"] == first
        twin = await there.sign_up("Ada@globex.example", "another-456", field="email")
        await here.call("create", "users", {"username": "Ada@Globex.example", "password": "secret-123"})
        refused = await outcome(there, "create", "users", {"email": "ADA@globex.example", "password": "secret-123"})
        assert (refused.code, refused.message) == (409, "This email is already taken")
        assert twin["_id"] != first["_id"]
        login = {"strategy": "local", "username": "Ada", "password": "another-456"}
        assert (await outcome(here, "create", "authentication", login)).code == 401


async def test_a_name_cannot_be_taken_by_a_change_either(roost: Roost) -> None:
    async with connect(roost, "acme") as ada, connect(roost, "acme") as bob:
        await ada.sign_up("ada")
        user = await bob.sign_up("bob")
        for method, data in (("patch", {"username": "ＡＤＡ"}), ("update", {"username": "Ada"})):
            refused = await outcome(bob, method, "users", user["_id"], data, {})
            assert (refused.code, refused.message) == (409, "This username is already taken")
        assert (await bob.call("patch", "users", user["_id"], {"username": "BOB"}, {}))["username"] == "BOB"
        changes = [outcome(caller, "patch", "users", user["_id"], {"username": "eve"}, {}) for caller in (bob, bob)]
        signs = [outcome(ada, "create", "users", {"username": "Eve", "password": "secret-123"}, {}) for _ in range(3)]
        answers = await asyncio.gather(*changes, *signs)
        assert {answer.code for answer in answers if isinstance(answer, CallError)} == {409}
        found = (await ada.call("find", "users", {}))["data"]
        assert len([one for one in found if one["username"].lower() == "eve"]) == 1


async def test_a_freed_name_is_free(roost: Roost) -> None:
    async with connect(roost, "acme") as ada:
        user = await ada.sign_up("ada")
        token = ada.token
        await ada.call("remove", "users", user["_id"], {})
        again = await ada.sign_up("ADA", "another-456")
        assert again["_id"] != user["_id"]
        refused = await outcome(ada, "create", "authentication", {"strategy": "jwt", "accessToken": token})
        assert refused.code == 401
