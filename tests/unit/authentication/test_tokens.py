"""Access tokens: what is issued, and everything that must not be accepted (LIMITS A1)."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooks.errors import NotAuthenticated
from hooks.tenant import Tenant
from services.authentication.keys import KeyRecord, Keys, MemoryKeyStore
from services.authentication.master import MasterKey
from services.authentication.tokens import DAY, Tokens
from tests.unit.authentication.forgeries import CLAIMS, FORGERIES, HEADERS, INVALID, Forger, encode

ACME = Tenant(id="acme", name="Acme")
GLOBEX = Tenant(id="globex", name="Globex")
NOW = 1_800_000_000


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


class World:
    """Two tenants with a key each, and what an attacker of `acme` has: the public keys and good tokens."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryKeyStore()
        self.keys = Keys(self.store, MasterKey(b"m" * 32), clock=self.clock)
        self.tokens = Tokens(self.keys, clock=self.clock)

    async def open(self) -> World:
        self.acme: KeyRecord = await self.keys.create("acme")
        self.globex: KeyRecord = await self.keys.create("globex")
        self.signing = await self.keys.signing_key("acme")
        self.token, self.payload = await self.tokens.issue(ACME, "u1")
        return self

    async def sign(self, claims: Any, header: dict[str, Any] | None = None) -> str:
        """What the tenant's own key says: claims and header of any kind."""
        return self.forger().sign(claims, header)

    def forger(self) -> Forger:
        """Who tries it."""
        return Forger(self.signing, self.acme, self.globex, self.token, self.payload)

    async def refused(self, token: object, tenant: Tenant = ACME) -> dict[str, Any]:
        """The body with which a token is refused."""
        with pytest.raises(NotAuthenticated) as caught:
            await self.tokens.verify(tenant, token)
        return caught.value.to_json()


@pytest.fixture
async def world() -> World:
    return await World().open()


async def test_a_token_has_the_claims_and_the_header_of_its_tenant(world: World) -> None:
    assert jwt.get_unverified_header(world.token) == {"alg": "ES256", "kid": world.acme.kid, "typ": "access"}
    assert world.payload == {
        "iss": "roost",
        "aud": "urn:roost:tenant:acme",
        "sub": "u1",
        "iat": NOW,
        "exp": NOW + DAY,
        "jti": world.payload["jti"],
        "app_id": "acme",
    }
    assert await world.tokens.verify(ACME, world.token) == world.payload


async def test_two_tokens_differ(world: World) -> None:
    assert (await world.tokens.issue(ACME, "u1"))[0] != world.token


async def test_the_published_key_verifies_it_for_anybody(world: World) -> None:
    published = jwt.PyJWKSet.from_dict(await world.keys.jwks("acme"))[world.acme.kid]
    claims = jwt.decode(
        world.token,
        published,
        algorithms=["ES256"],
        options={"verify_exp": False, "verify_iat": False, "verify_aud": False},
    )
    assert claims == world.payload


async def test_a_token_of_another_app_is_unknown(world: World) -> None:
    theirs, _ = await world.tokens.issue(GLOBEX, "u1")
    assert await world.tokens.verify(GLOBEX, theirs)
    assert await world.refused(theirs) == INVALID
    assert await world.tokens.verify(ACME, world.token)
    assert await world.refused(world.token, GLOBEX) == INVALID, "also when its verification was remembered"


@pytest.mark.parametrize("attack", HEADERS)
async def test_a_header_that_is_not_ours_is_refused_even_if_well_signed(world: World, attack: str) -> None:
    assert await world.tokens.verify(ACME, await world.sign(world.payload))
    assert await world.refused(await world.sign(world.payload, HEADERS[attack](world.forger()))) == INVALID


@pytest.mark.parametrize("attack", CLAIMS)
async def test_claims_that_are_not_ours_are_refused_even_if_well_signed(world: World, attack: str) -> None:
    assert await world.refused(await world.sign(CLAIMS[attack](world.payload))) == INVALID


@pytest.mark.parametrize("attack", FORGERIES)
async def test_forgeries_get_the_one_body(world: World, attack: str) -> None:
    assert await world.refused(FORGERIES[attack](world.forger())) == INVALID


async def test_a_key_of_ones_own_does_not_sign_for_a_known_kid(world: World) -> None:
    mine = ec.generate_private_key(ec.SECP256R1())
    forged = jwt.encode(world.payload, mine, algorithm="ES256", headers={"kid": world.acme.kid, "typ": "access"})
    assert (await world.refused(forged))["message"] == "invalid signature"


WORDS: dict[str, tuple[object, str]] = {
    "nothing": (None, "jwt must be provided"),
    "empty": ("", "jwt must be provided"),
    "number": (7, "jwt must be a string"),
    "object": ({"$ne": ""}, "jwt must be a string"),
    "one part": ("abc", "jwt malformed"),
    "four parts": ("a.b.c.d", "jwt malformed"),
}


@pytest.mark.parametrize("case", WORDS)
async def test_what_is_no_token_is_told_in_the_words_of_feathers(world: World, case: str) -> None:
    token, message = WORDS[case]
    assert await world.refused(token) == {**INVALID, "message": message}


async def test_a_changed_claim_breaks_the_signature(world: World) -> None:
    header, _, signature = world.token.split(".")
    changed = f"{header}.{encode({**world.payload, 'sub': 'u2'})}.{signature}"
    assert await world.refused(changed) == {**INVALID, "message": "invalid signature"}
    assert await world.refused(f"{header}.{encode(world.payload)}.") == {
        **INVALID,
        "message": "jwt signature is required",
    }


async def test_another_audience_or_issuer_is_named(world: World) -> None:
    body = await world.refused(await world.sign({**world.payload, "aud": "urn:roost:tenant:globex"}))
    assert body["message"] == "jwt audience invalid. expected: urn:roost:tenant:acme"
    body = await world.refused(await world.sign({**world.payload, "iss": "evil"}))
    assert body["message"] == "jwt issuer invalid. expected: roost"


async def test_expiry_is_exact_also_for_remembered_tokens(world: World) -> None:
    world.clock.now = NOW + DAY - 0.001
    assert await world.tokens.verify(ACME, world.token)
    world.clock.now = NOW + DAY
    assert await world.refused(world.token) == {
        **INVALID,
        "message": "jwt expired",
        "data": {"name": "TokenExpiredError", "expiredAt": "2027-01-16T08:00:00.000Z"},
    }


async def test_clocks_may_differ_by_half_a_minute(world: World) -> None:
    ahead = await world.sign({**world.payload, "iat": NOW + 30, "nbf": NOW + 30})
    assert await world.tokens.verify(ACME, ahead)
    early = await world.refused(await world.sign({**world.payload, "nbf": NOW + 31}))
    assert (early["message"], early["data"]["name"]) == ("jwt not active", "NotBeforeError")
    assert await world.refused(await world.sign({**world.payload, "iat": NOW + 31})) == INVALID


async def test_a_remembered_token_is_not_believed_after_the_keys_have_changed(world: World) -> None:
    assert await world.tokens.verify(ACME, world.token)
    del world.store.records[world.acme.kid]
    assert await world.tokens.verify(ACME, world.token), "nobody has told of the change yet"
    world.keys.forget("acme")
    assert await world.refused(world.token) == INVALID


async def test_what_is_returned_can_be_changed_without_harm(world: World) -> None:
    (await world.tokens.verify(ACME, world.token))["sub"] = "u2"
    (await world.tokens.verify(ACME, world.token))["sub"] = "u2"
    assert (await world.tokens.verify(ACME, world.token))["sub"] == "u1"


async def test_no_more_tokens_are_remembered_than_agreed() -> None:
    world = World()
    world.tokens = Tokens(world.keys, clock=world.clock, most_verified=2)
    await world.open()
    for number in range(4):
        token, _ = await world.tokens.issue(ACME, f"u{number}")
        assert (await world.tokens.verify(ACME, token))["sub"] == f"u{number}"
    assert len(world.tokens._verified) == 2


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(min_value=0), char=st.sampled_from("ABCxyz019-_.=!é "))
async def test_no_changed_character_goes_unnoticed(position: int, char: str) -> None:
    world = await World().open()
    # The last character of a part may hold bits that mean nothing: the header and claims decide, not their spelling.
    place = position % len(world.token)
    changed = world.token[:place] + char + world.token[place + 1 :]
    try:
        accepted = await world.tokens.verify(ACME, changed)
    except NotAuthenticated:
        return
    assert accepted == world.payload
    assert changed.split(".")[:2] == world.token.split(".")[:2]
