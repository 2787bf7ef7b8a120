"""The hooks around users: passwords go in hashed, hidden fields do not come out, guarded fields are not written."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.context import HookContext, Params, Record
from hooks.errors import BadRequest, FeathersError, MethodNotAllowed
from hooks.password import hash_password
from hooks.protect import protect
from hooks.tenancy import inject_app_id
from hooks.tenant import AuthSettings, Tenant
from services.application import Application
from services.authentication.passwords import Passwords
from services.base import Service
from services.users import GUARDED, check_record, derive_key, require_login_fields, users_hooks

ACME = Tenant(id="acme", name="Acme")
BY_EMAIL = Tenant(id="globex", name="Globex", auth=AuthSettings(username_field="email"))


def context(
    method: str, data: Any, *, provider: str | None = "rest", tenant: Tenant = ACME, id: Any = None
) -> HookContext:
    return HookContext(
        app=Application(),
        service=None,
        path="users",
        method=method,
        params=Params(tenant=tenant, provider=provider),
        data=data,
        id=id,
    )


@pytest.mark.parametrize("sent", ["correct horse", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"])
async def test_whatever_is_sent_as_password_is_hashed(sent: str) -> None:
    passwords = Passwords(memory_kib=64, rounds=1)
    for data in ({"password": sent, "n": 1}, [{"password": sent, "n": 1}, {"n": 2}]):
        call = context("create", data)
        await hash_password(passwords)(call)
        first = call.data[0] if isinstance(call.data, list) else call.data
        assert sent not in str(call.data)
        assert await passwords.verify(sent, first["password"])
        assert first["n"] == 1
    passwords.close()


@pytest.mark.parametrize("data", [{"n": 1}, [{"n": 1}, 7], None, "text"])
async def test_without_a_password_nothing_is_hashed(data: Any) -> None:
    passwords = Passwords(memory_kib=64, rounds=1)
    call = context("patch", data)
    await hash_password(passwords)(call)
    assert call.data == data
    passwords.close()


RECORD = {"_id": "1", "username": "bob", "password": "hash", "username_key": "bob", "data": ["mine"]}
SHOWN = {"_id": "1", "username": "bob", "data": ["mine"]}


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (RECORD, SHOWN),
        ([RECORD, RECORD], [SHOWN, SHOWN]),
        (
            {"total": 1, "limit": 10, "skip": 0, "data": [RECORD]},
            {"total": 1, "limit": 10, "skip": 0, "data": [SHOWN]},
        ),
        ([], []),
        (None, None),
    ],
)
def test_hidden_fields_stay_inside_in_every_form_of_result(result: Any, shown: Any) -> None:
    call = context("find", None)
    call.result = result
    protect("password", "username_key")(call)
    assert call.dispatch == shown
    assert call.result == result
    protect("_id")(call)
    assert "password" not in str(call.dispatch), "a second hook takes away from what the first has left"


@pytest.mark.parametrize(
    "field", [*sorted(GUARDED), "roles.0", "verified.x", "username_key.x", "$set", "$unset", "$push", "_id"]
)
def test_a_client_cannot_write_what_is_guarded(field: str) -> None:
    call = context("create", {"username": "bob", field: "x"})
    with pytest.raises(BadRequest) as caught:
        check_record(call)
    assert f"'{field}'" in caught.value.message
    call.params.provider = None
    check_record(call)


def test_a_client_may_send_its_own_id_back() -> None:
    check_record(context("update", {"_id": "1", "username": "bob"}, id="1"))
    check_record(context("patch", {"_id": "1", "username": "bob"}, id="1"))


def test_the_servers_own_stamp_passes() -> None:
    call = context("create", {"username": "bob"})
    inject_app_id(call)
    check_record(call)
    assert call.data["app_id"] == "acme"


@pytest.mark.parametrize("provider", ["rest", "socketio", None])
@pytest.mark.parametrize(("method", "data", "id"), [("create", [{"username": "bob"}], None), ("patch", {"a": 1}, None)])
def test_users_come_one_at_a_time(provider: str | None, method: str, data: Any, id: Any) -> None:
    with pytest.raises(MethodNotAllowed, match=f"^Can not {method} multiple entries$"):
        check_record(context(method, data, provider=provider, id=id))


@pytest.mark.parametrize("data", [None, "bob", 7, True])
def test_a_user_is_an_object(data: Any) -> None:
    with pytest.raises(BadRequest):
        check_record(context("create", data))


@pytest.mark.parametrize(
    ("tenant", "data", "missing"),
    [
        (ACME, {"password": "x"}, "username"),
        (ACME, {"username": "bob"}, "password"),
        (BY_EMAIL, {"username": "bob", "password": "x"}, "email"),
    ],
)
def test_sign_up_names_what_is_missing(tenant: Tenant, data: Record, missing: str) -> None:
    with pytest.raises(BadRequest, match=f"^The {missing} is missing$"):
        require_login_fields(context("create", data, tenant=tenant))
    require_login_fields(context("create", data, tenant=tenant, provider=None))


def test_the_key_goes_with_the_name_that_the_tenant_uses() -> None:
    call = context("patch", {"username": "\uff22ob"})
    derive_key(call)
    assert call.data == {"username": "\uff22ob", "username_key": "bob"}
    call = context("patch", {"username": "Bob", "email": "Bob@Example.com"}, tenant=BY_EMAIL)
    derive_key(call)
    assert call.data["username_key"] == "bob@example.com"
    call = context("patch", {"color": "red"})
    derive_key(call)
    assert call.data == {"color": "red"}


@pytest.mark.parametrize("name", [None, 7, {"$ne": ""}, ["bob"], "", "a\0b", "a" * 129])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(BadRequest, match=r"^The username "):
        derive_key(context("patch", {"username": name}))


class Counting:
    """A hasher that counts."""

    def __init__(self) -> None:
        self.count = 0

    async def hash(self, password: object) -> str:
        self.count += 1
        return "hash"


class Keeper(Service):
    """A service that keeps whatever it is given."""

    async def find(self, params: Params) -> list[Record]:
        return [{"_id": "1", "username_key": "taken"}] if params.query.get("username_key") == "taken" else []

    async def create(self, data: Record, params: Params) -> Record:
        return {"_id": "2", **data}

    async def update(self, id: Any, data: Record, params: Params) -> Record:
        return {"_id": id, **data}

    async def patch(self, id: Any, data: Record, params: Params) -> Record:
        return {"_id": id, **data}


@pytest.mark.parametrize(
    "data",
    [
        [{"username": "bob", "password": "correct horse"}] * 1000,
        {"username": "bob", "password": "correct horse", "roles": ["admin"]},
        {"username": "a\0b", "password": "correct horse"},
        {"username": "Taken", "password": "correct horse"},
        {"password": "correct horse"},
    ],
)
async def test_what_is_refused_anyway_costs_no_hash(data: Any) -> None:
    hasher = Counting()
    app = Application()
    app.use("users", Keeper(), hooks=users_hooks(hasher), rules="public")
    with pytest.raises(FeathersError) as caught:
        await app.call("users", "create", Params(tenant=ACME, provider="rest"), data=data)
    assert caught.value.code in (400, 405, 409)
    assert hasher.count == 0
    made = await app.call(
        "users", "create", Params(tenant=ACME, provider="rest"), data={"username": "bob", "password": "correct horse"}
    )
    assert hasher.count == 1
    assert made.outcome == {"_id": "2", "username": "bob"}
    assert made.result["password"] == "hash"
