"""Rotation of signing keys: which key signs, which ones verify, and until when."""

from __future__ import annotations

import jwt
import pytest

from hooks.errors import NotAuthenticated
from hooks.tenant import AuthSettings, Tenant
from services.authentication.keys import SIGNING, VERIFYING, KeyRecord, Keys, MemoryKeyStore
from services.authentication.master import MasterKey
from services.authentication.tokens import Tokens

ACME = Tenant(id="acme", name="Acme")
GLOBEX = Tenant(id="globex", name="Globex")
INVALID = {"name": "JsonWebTokenError"}


class World:
    """Two tenants with a key each, on a clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.store = MemoryKeyStore()
        self.keys = Keys(self.store, MasterKey(b"m" * 32), clock=self.clock, wall_clock=self.clock)
        self.tokens = Tokens(self.keys, clock=self.clock)

    def clock(self) -> float:
        return self.now

    async def open(self) -> World:
        await self.keys.create("acme")
        await self.keys.create("globex")
        return self

    async def is_accepted(self, token: str, tenant: Tenant = ACME) -> bool:
        """Whether the token is; if not, the body is that of any other bad token."""
        try:
            await self.tokens.verify(tenant, token)
        except NotAuthenticated as error:
            body = error.to_json()
        else:
            return True
        assert (body["message"], body["data"]) == ("invalid token", INVALID)
        return False


@pytest.fixture
async def world() -> World:
    return await World().open()


async def test_the_new_key_signs_and_the_old_one_verifies_until_the_overlap_ends(world: World) -> None:
    old, _ = await world.tokens.issue(ACME, "u1")
    assert await world.is_accepted(old)
    record = await world.keys.rotate("acme", 60)
    new, _ = await world.tokens.issue(ACME, "u1")
    assert jwt.get_unverified_header(new)["kid"] == record.kid
    assert [key.state for key in await world.keys.records("acme")] == [VERIFYING, SIGNING]
    assert await world.keys.next_retirement("acme") == world.now + 60
    world.now += 59.9
    assert await world.is_accepted(old)
    assert await world.tokens.is_signed_by_serving_key("acme", old)
    world.now += 0.1
    assert not await world.is_accepted(old), "though its verification was remembered"
    assert not await world.tokens.is_signed_by_serving_key("acme", old)
    assert await world.is_accepted(new)
    assert await world.keys.next_retirement("acme") is None
    assert [key["kid"] for key in (await world.keys.jwks("acme"))["keys"]] == [record.kid]


async def test_without_overlap_the_old_key_is_given_up_at_once(world: World) -> None:
    old, _ = await world.tokens.issue(ACME, "u1")
    assert await world.is_accepted(old)
    await world.keys.rotate("acme")
    assert not await world.is_accepted(old)


async def test_no_rotation_lengthens_what_an_earlier_one_has_set(world: World) -> None:
    first, _ = await world.tokens.issue(ACME, "u1")
    await world.keys.rotate("acme", 60)
    second, _ = await world.tokens.issue(ACME, "u1")
    await world.keys.rotate("acme", 600)
    world.now += 60
    assert not await world.is_accepted(first)
    assert await world.is_accepted(second)
    await world.keys.rotate("acme", 0)
    assert not await world.is_accepted(second), "but it can be shortened"


async def test_another_tenants_keys_stay(world: World) -> None:
    theirs, _ = await world.tokens.issue(GLOBEX, "u1")
    kid = jwt.get_unverified_header(theirs)["kid"]
    await world.keys.rotate("acme", 0)
    assert await world.is_accepted(theirs, GLOBEX)
    await world.store.retire("acme", [kid], (await world.keys.records("acme"))[0].created_at)
    assert world.store.records[kid].retires_at is None
    assert await world.keys.retiring() == []
    await world.keys.rotate("globex", 60)
    assert await world.keys.retiring() == ["globex"]


async def test_a_record_keeps_when_it_retires(world: World) -> None:
    await world.keys.rotate("acme", 60)
    for record in await world.keys.records("acme"):
        assert KeyRecord.from_document(record.to_document()) == record
    document = record.to_document()
    del document["retires_at"]
    assert KeyRecord.from_document(document).retires_at is None, "as those of earlier versions"


async def test_a_tenant_has_its_own_lifetime_of_access_tokens(world: World) -> None:
    brief = Tenant(id="acme", name="Acme", auth=AuthSettings(access_token_lifetime=300))
    _, payload = await world.tokens.issue(brief, "u1", "s1")
    assert payload["exp"] - payload["iat"] == world.tokens.lifetime(brief) == 300
    assert payload["sid"] == "s1"
    _, payload = await world.tokens.issue(ACME, "u1")
    assert payload["exp"] - payload["iat"] == world.tokens.lifetime(ACME) == 86_400
