"""Access tokens: what is issued, and everything that must not be accepted (LIMITS A1)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from hooks.errors import NotAuthenticated
from hooks.tenant import Tenant
from services.authentication.keys import KeyRecord, Keys, MemoryKeyStore
from services.authentication.master import MasterKey
from services.authentication.tokens import DAY, LARGEST, Tokens

ACME = Tenant(id="acme", name="Acme")
GLOBEX = Tenant(id="globex", name="Globex")
NOW = 1_800_000_000
INVALID = {
    "name": "NotAuthenticated",
    "message": "invalid token",
    "code": 401,
    "className": "not-authenticated",
    "data": {"name": "JsonWebTokenError"},
}


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
        self.token, self.payload = await self.tokens.issue(ACME, "u1")
        return self

    async def sign(self, claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
        """What the tenant's own key says: claims and header of any kind."""
        key = await self.keys.signing_key("acme")
        head = {"alg": "ES256", "kid": key.kid, "typ": "access", **(header or {})}
        signed = f"{encode(head)}.{encode(claims)}"
        signature = jwt.get_algorithm_by_name("ES256").sign(signed.encode(), key.private)
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    async def refused(self, token: object, tenant: Tenant = ACME) -> dict[str, Any]:
        """The body with which a token is refused."""
        with pytest.raises(NotAuthenticated) as caught:
            await self.tokens.verify(tenant, token)
        return caught.value.to_json()


@pytest.fixture
async def world() -> World:
    return await World().open()


def encode(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


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


HEADERS: dict[str, Callable[[World], dict[str, Any]]] = {
    "another typ": lambda w: {"typ": "refresh"},
    "the usual typ": lambda w: {"typ": "JWT"},
    "kid of another tenant": lambda w: {"kid": w.globex.kid},
    "kid path": lambda w: {"kid": "../../dev/null"},
    "kid sql": lambda w: {"kid": "' or 1=1 --"},
    "kid url": lambda w: {"kid": "https://evil.example/key"},
    "kid list": lambda w: {"kid": [w.acme.kid]},
    "kid object": lambda w: {"kid": {"$ne": ""}},
    "kid null": lambda w: {"kid": None},
    "kid number": lambda w: {"kid": 0},
    "kid empty": lambda w: {"kid": ""},
    "kid nul": lambda w: {"kid": w.acme.kid + "\0"},
    "kid space": lambda w: {"kid": " " + w.acme.kid},
    "kid in other letters": lambda w: {"kid": w.acme.kid.swapcase()},
    "kid long": lambda w: {"kid": w.acme.kid * 100},
    "kid proto": lambda w: {"kid": "__proto__"},
    "kid true": lambda w: {"kid": True},
    "jku": lambda w: {"jku": "https://evil.example/jwks.json"},
    "jwk": lambda w: {"jwk": dict(w.acme.public)},
    "x5u": lambda w: {"x5u": "https://evil.example/cert"},
    "x5c": lambda w: {"x5c": ["MII"]},
    "x5t": lambda w: {"x5t": "AAAA"},
    "jku of our own": lambda w: {"jku": "/.well-known/jwks.json?appId=acme"},
    "jwk null": lambda w: {"jwk": None},
    "crit": lambda w: {"crit": ["exp"]},
    "crit empty": lambda w: {"crit": []},
    "crit null": lambda w: {"crit": None},
    "cty": lambda w: {"cty": "JWT"},
    "epk": lambda w: {"epk": dict(w.acme.public)},
    "b64": lambda w: {"b64": False, "crit": ["b64"]},
    "zip": lambda w: {"zip": "DEF"},
    "alg none": lambda w: {"alg": "none"},
    "alg None": lambda w: {"alg": "None"},
    "alg ES384": lambda w: {"alg": "ES384"},
    "alg es256": lambda w: {"alg": "es256"},
    "alg EdDSA": lambda w: {"alg": "EdDSA"},
    "alg empty": lambda w: {"alg": ""},
    "alg list": lambda w: {"alg": ["ES256"]},
    "alg null": lambda w: {"alg": None},
}


@pytest.mark.parametrize("attack", HEADERS)
async def test_a_header_that_is_not_ours_is_refused_even_if_well_signed(world: World, attack: str) -> None:
    assert await world.tokens.verify(ACME, await world.sign(world.payload))
    assert await world.refused(await world.sign(world.payload, HEADERS[attack](world))) == INVALID


CLAIMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{f"no {name}": partial(without, name=name) for name in ("iss", "aud", "sub", "iat", "exp", "jti", "app_id")},
    "aud list": lambda claims: {**claims, "aud": [claims["aud"]]},
    "float exp": lambda claims: {**claims, "exp": claims["exp"] + 0.5},
    "text exp": lambda claims: {**claims, "exp": str(claims["exp"])},
    "true exp": lambda claims: {**claims, "exp": True},
    "null exp": lambda claims: {**claims, "exp": None},
    "far exp": lambda claims: {**claims, "exp": 10**30},
    "infinite exp": lambda claims: {**claims, "exp": float("inf")},
    "number sub": lambda claims: {**claims, "sub": 7},
    "object sub": lambda claims: {**claims, "sub": {"$ne": ""}},
    "empty sub": lambda claims: {**claims, "sub": ""},
    "number sid": lambda claims: {**claims, "sid": 7},
    "object sid": lambda claims: {**claims, "sid": {"$ne": ""}},
    "null sid": lambda claims: {**claims, "sid": None},
    "app_id of another": lambda claims: {**claims, "app_id": "globex"},
    "app_id list": lambda claims: {**claims, "app_id": ["acme"]},
    "iat of tomorrow": lambda claims: {**claims, "iat": NOW + DAY},
    "text nbf": lambda claims: {**claims, "nbf": "0"},
    "no object": lambda claims: [claims],
    "no json": lambda claims: b"\xff{",
}


@pytest.mark.parametrize("attack", CLAIMS)
async def test_claims_that_are_not_ours_are_refused_even_if_well_signed(world: World, attack: str) -> None:
    assert await world.refused(await world.sign(CLAIMS[attack](world.payload))) == INVALID


def hs256(world: World) -> str:
    public = ECAlgorithm.from_jwk(dict(world.acme.public))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encode({'alg': 'HS256', 'kid': world.acme.kid, 'typ': 'access'})}.{encode(world.payload)}"
    return f"{signed}.{encode(hmac.digest(pem, signed.encode(), hashlib.sha256))}"


def rs256(world: World) -> str:
    private = rsa.generate_private_key(65537, 2048)
    return jwt.encode(world.payload, private, algorithm="RS256", headers={"kid": world.acme.kid, "typ": "access"})


FORGERIES: dict[str, Callable[[World], object]] = {
    "none, unsigned": lambda w: f"{encode({'alg': 'none', 'kid': w.acme.kid, 'typ': 'access'})}.{encode(w.payload)}.",
    "HS256 by the public key": hs256,
    "RS256": rs256,
    "1 MB": lambda w: w.token + "A" * 1_000_000,
    "just too long": lambda w: w.token.ljust(LARGEST + 1, "A"),
    "no json": lambda w: f"{encode(b'{')}.{encode(w.payload)}.AAAA",
    "header list": lambda w: f"{encode([])}.{encode(w.payload)}.AAAA",
    "deep header": lambda w: f"{encode(b'[' * 5000)}.e30.AAAA",
    "no base64": lambda w: "!.!.!",
    "not ascii": lambda w: "é.é.é",
    "half a pair": lambda w: "\ud800.\ud800.\ud800",
}


@pytest.mark.parametrize("attack", FORGERIES)
async def test_forgeries_get_the_one_body(world: World, attack: str) -> None:
    assert await world.refused(FORGERIES[attack](world)) == INVALID


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
