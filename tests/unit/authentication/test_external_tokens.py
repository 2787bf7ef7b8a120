"""Tokens of an identity provider: which are taken, and everything that must not be."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from hooks.errors import BadGateway, NotAuthenticated, Unavailable
from hooks.tenant import AuthSettings, ExternalSettings, Tenant
from services.application import Application
from services.authentication.directory import Directory
from services.authentication.external import ExternalStrategy
from services.authentication.fetched import AGAIN, FRESH, STALE
from services.authentication.foreign import LARGEST
from services.authentication.identities import Identities
from services.authentication.keysets import MOST_KEYS, KeySets, parse
from services.isolation import Isolation
from services.memory import MemoryStore
from tests.unit.authentication.provider import (
    AUDIENCE,
    EC_JWK,
    EC_KEY,
    ISSUER,
    JWKS,
    RSA_JWK,
    RSA_KEY,
    claims,
    encode,
    sign,
)

NOW = 1_800_000_000.0
INVALID = {
    "name": "NotAuthenticated",
    "message": "invalid token",
    "code": 401,
    "className": "not-authenticated",
    "data": {"name": "JsonWebTokenError"},
}
SETTINGS = ExternalSettings(ISSUER, AUDIENCE, jwks=JWKS, tenant_value="acme")
ACME = Tenant(id="acme", name="Acme", auth=AuthSettings(external=SETTINGS))


async def never(url: str) -> bytes:
    """A fetch that must not happen."""
    raise AssertionError(url)


def strategy_of(fetch: Callable[[str], Any] = never) -> ExternalStrategy:
    """The strategy at the moment `NOW`."""
    app = Application()
    identities = Identities(Isolation(MemoryStore()), Directory(app))
    return ExternalStrategy(identities, KeySets(fetch), clock=lambda: NOW)


async def refused(token: object, settings: ExternalSettings = SETTINGS) -> dict[str, Any]:
    """The body with which a token is refused."""
    with pytest.raises(NotAuthenticated) as caught:
        await strategy_of().verify(ACME, settings, token)
    return caught.value.to_json()


@pytest.mark.parametrize("kid", ["r1", "e1"])
async def test_a_token_of_the_provider_is_taken(kid: str) -> None:
    wanted = claims(NOW, name="Ada", nbf=int(NOW))
    assert await strategy_of().verify(ACME, SETTINGS, sign(wanted, kid=kid)) == wanted


@pytest.mark.parametrize(
    "more",
    [
        {"aud": ["others", AUDIENCE]},
        {"iat": int(NOW) + 29},
        {"iat": NOW + 0.5, "exp": NOW + 60.5},
        {"nbf": int(NOW) + 29},
    ],
)
async def test_what_providers_may_differ_in(more: dict[str, Any]) -> None:
    assert await strategy_of().verify(ACME, SETTINGS, sign(claims(NOW, **more)))


WRONG_CLAIMS: dict[str, Any] = {
    **{f"no {name}": {name: None} for name in ("iss", "aud", "sub", "tid", "iat", "exp")},
    "another issuer": {"iss": ISSUER + "/"},
    "another audience": {"aud": "others"},
    "audiences of others": {"aud": ["others", AUDIENCE + "x"]},
    "audience object": {"aud": {AUDIENCE: 1}},
    "another tenant": {"tid": "globex"},
    "tenant list": {"tid": ["acme"]},
    "tenant in other letters": {"tid": "ACME"},
    "expired": {"exp": int(NOW)},
    "text exp": {"exp": str(int(NOW) + 600)},
    "true exp": {"exp": True},
    "far exp": {"exp": 10**400},
    "infinite exp": {"exp": float("inf")},
    "iat of tomorrow": {"iat": int(NOW) + 86_400},
    "not yet": {"nbf": int(NOW) + 31},
    "text nbf": {"nbf": "0"},
    "number sub": {"sub": 7},
    "empty sub": {"sub": ""},
    "object sub": {"sub": {"$ne": ""}},
    "long sub": {"sub": "x" * 513},
    "sub with a line break": {"sub": "a\nb"},
}


@pytest.mark.parametrize("attack", WRONG_CLAIMS)
async def test_claims_that_are_not_for_this_app_are_refused_even_if_well_signed(attack: str) -> None:
    assert await refused(sign(claims(NOW, **WRONG_CLAIMS[attack]))) == INVALID


HEADERS: dict[str, dict[str, Any]] = {
    "alg none": {"alg": "none"},
    "alg HS256": {"alg": "HS256"},
    "alg RS256 with an EC key": {"alg": "RS256"},
    "alg ES384": {"alg": "ES384"},
    "alg list": {"alg": ["ES256"]},
    "no alg": {"alg": None},
    "no kid": {"kid": None},
    "kid list": {"kid": ["e1"]},
    "kid object": {"kid": {"$ne": ""}},
    "empty kid": {"kid": ""},
    "unknown kid": {"kid": "e2"},
    "kid path": {"kid": "../e1"},
    "kid of the other key": {"kid": "r1"},
    "jku": {"jku": "https://evil.example/jwks.json"},
    "jwk": {"jwk": EC_JWK},
    "x5u": {"x5u": "https://evil.example/cert"},
    "x5c": {"x5c": ["MII"]},
    "crit": {"crit": ["exp"]},
    "b64": {"b64": False},
    "zip": {"zip": "DEF"},
}


@pytest.mark.parametrize("attack", HEADERS)
async def test_headers_that_choose_a_key_or_an_algorithm_are_refused(attack: str) -> None:
    assert await refused(sign(claims(NOW), header=HEADERS[attack])) == INVALID


def hs256(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str) -> str:
    """A token whose signature is an HMAC by the public key."""
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encode({'alg': 'HS256', 'kid': kid})}.{encode(claims(NOW))}"
    return f"{signed}.{encode(hmac.digest(pem, signed.encode(), hashlib.sha256))}"


FORGERIES: dict[str, object] = {
    "nothing": None,
    "empty": "",
    "number": 7,
    "list": [sign(claims(NOW))],
    "one part": "abc",
    "four parts": "a.b.c.d",
    "no json": f"{encode(b'{')}.{encode(claims(NOW))}.AAAA",
    "header list": f"{encode([])}.{encode(claims(NOW))}.AAAA",
    "deep header": f"{encode(b'[' * 5000)}.e30.AAAA",
    "not ascii": "é.é.é",
    "half a pair": "\ud800.\ud800.\ud800",
    "claims list": sign([claims(NOW)]),
    "claims no json": sign(b"\xff{"),
    "unsigned": sign(claims(NOW)).rpartition(".")[0] + ".",
    "none": f"{encode({'alg': 'none', 'kid': 'e1'})}.{encode(claims(NOW))}.",
    "HS256 by the RSA key": hs256(RSA_KEY, "r1"),
    "HS256 by the EC key": hs256(EC_KEY, "e1"),
    "somebody's RSA key": sign(claims(NOW), kid="r1", key=rsa.generate_private_key(65537, 2048)),
    "somebody's EC key": sign(claims(NOW), key=ec.generate_private_key(ec.SECP256R1())),
    "too long": sign(claims(NOW, x="x" * LARGEST)),
}


@pytest.mark.parametrize("attack", FORGERIES)
async def test_forgeries_get_the_one_body(attack: str) -> None:
    assert await refused(FORGERIES[attack]) == INVALID


async def test_another_tenant_claim_can_be_named() -> None:
    settings = replace(SETTINGS, tenant_claim="org", tenant_value="o1")
    assert await strategy_of().verify(ACME, settings, sign(claims(NOW, tid=None, org="o1")))
    assert await refused(sign(claims(NOW)), settings) == INVALID


async def test_changed_inline_keys_count_at_once() -> None:
    strategy, token = strategy_of(), sign(claims(NOW))
    assert await strategy.verify(ACME, SETTINGS, token)
    with pytest.raises(NotAuthenticated):
        await strategy.verify(ACME, replace(SETTINGS, jwks={"keys": [RSA_JWK]}), token)
    assert await strategy.verify(ACME, SETTINGS, token)


WEAK = rsa.generate_private_key(65537, 1024)
P384 = ec.generate_private_key(ec.SECP384R1())
NO_KEYS: dict[str, Any] = {
    "no kid": {name: value for name, value in EC_JWK.items() if name != "kid"},
    "kid number": {**EC_JWK, "kid": 7},
    "for encryption": {**RSA_JWK, "use": "enc"},
    "of another algorithm": {**RSA_JWK, "alg": "RS512"},
    "HMAC": {"kty": "oct", "kid": "h1", "k": "c2VjcmV0", "alg": "HS256"},
    "1024 bits": {**RSAAlgorithm.to_jwk(WEAK.public_key(), as_dict=True), "kid": "w1"},
    "another curve": {**ECAlgorithm.to_jwk(P384.public_key(), as_dict=True), "kid": "p1"},
    "private": {**ECAlgorithm.to_jwk(EC_KEY, as_dict=True), "kid": "e1"},
    "broken": {**EC_JWK, "x": "AA"},
    "no numbers": {"kty": "RSA", "kid": "r1"},
    "text": "key",
    "null": None,
}


@pytest.mark.parametrize("name", NO_KEYS)
def test_what_cannot_verify_is_passed_over(name: str) -> None:
    assert parse({"keys": [NO_KEYS[name]]}) == {}
    assert set(parse({"keys": [NO_KEYS[name], RSA_JWK]})) == {"r1"}


def test_a_key_is_for_one_algorithm() -> None:
    assert {kid: key.algorithm for kid, key in parse(JWKS).items()} == {"r1": "RS256", "e1": "ES256"}
    assert parse({"keys": [EC_JWK, {**RSA_JWK, "kid": "e1"}]}) == {}, "two keys of one id are none"
    assert len(parse({"keys": [{**EC_JWK, "kid": str(number)} for number in range(200)]})) == MOST_KEYS


@pytest.mark.parametrize("jwks", [None, [], "x", {}, {"keys": None}, {"keys": {}}, {"keys": "x"}])
def test_what_is_no_key_set(jwks: object) -> None:
    with pytest.raises(ValueError, match="key set"):
        parse(jwks)


class Web:
    """What is fetched, how often, and whether that works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.body = json.dumps(JWKS).encode()
        self.fetched: list[str] = []
        self.is_down = False
        self.sets = KeySets(self.fetch, clock=lambda: self.now)

    async def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        if self.is_down:
            raise BadGateway
        return self.body


URL = "https://idp.example/keys"


async def test_a_set_is_fetched_once_and_again_when_it_is_old() -> None:
    web = Web()
    for _ in range(3):
        assert await web.sets.find(URL, "e1")
    assert web.fetched == [URL]
    web.now = FRESH
    assert await web.sets.find(URL, "e1")
    assert len(web.fetched) == 2


async def test_an_unknown_key_is_looked_for_again_but_seldom() -> None:
    web = Web()
    assert await web.sets.find(URL, "e2") is None
    web.body = json.dumps({"keys": [{**EC_JWK, "kid": "e2"}]}).encode()
    for _ in range(100):
        assert await web.sets.find(URL, "e2") is None
    assert len(web.fetched) == 1, "forged key ids do not make a flood"
    web.now = AGAIN
    assert await web.sets.find(URL, "e2")
    assert await web.sets.find(URL, "e1") is None
    assert len(web.fetched) == 2


async def test_a_provider_that_is_down_is_asked_seldom_and_its_keys_are_used_for_a_while() -> None:
    web = Web()
    assert await web.sets.find(URL, "e1")
    web.is_down = True
    web.now = FRESH
    for _ in range(10):
        assert await web.sets.find(URL, "e1")
    assert len(web.fetched) == 2
    web.now = STALE
    with pytest.raises(Unavailable):
        await web.sets.find(URL, "e1")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b'{"keys": 1}', b"\xff"])
async def test_a_set_that_was_never_had_is_unavailable_and_asked_for_seldom(body: bytes) -> None:
    web = Web()
    web.body = body
    for _ in range(10):
        with pytest.raises(Unavailable):
            await web.sets.find(URL, "e1")
    assert len(web.fetched) == 1
    web.body = json.dumps(JWKS).encode()
    web.now = AGAIN
    assert await web.sets.find(URL, "e1")
