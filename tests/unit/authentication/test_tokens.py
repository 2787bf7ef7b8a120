"""Access tokens: what is issued, and everything that must not be accepted (LIMITS A1)."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooks.errors import Forbidden, NotAuthenticated
from hooks.tenant import Tenant
from services.authentication.keys import KeyRecord, Keys, MemoryKeyStore
from services.authentication.master import MasterKey
from services.authentication.tokens import DAY, LONGEST_IN_ORGANIZATION, Scope, Tokens
from tests.unit.authentication.forgeries import CLAIMS, FORGERIES, HEADERS, INVALID, Forger, encode

ACME = Tenant(id="acme", name="Acme")
GLOBEX = Tenant(id="globex", name="Globex")
HUB = Tenant(id="hub", name="Hub", is_control_plane=True)
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
        self.tokens = Tokens(self.keys, clock=self.clock, issuers=self.find)

    async def find(self, id: str) -> Tenant | None:
        """The tenants that there are."""
        return {tenant.id: tenant for tenant in (ACME, GLOBEX, HUB)}.get(id)

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
        "tid": "acme",
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


async def test_a_token_of_another_app_is_for_another_app(world: World) -> None:
    """TK-2, TK-4: a good signature of another tenant is 403 with the reason, also when it was remembered; a bad one is 401."""
    theirs, _ = await world.tokens.issue(GLOBEX, "u1")
    assert await world.tokens.verify(GLOBEX, theirs)
    for token, tenant in ((theirs, ACME), (world.token, GLOBEX), (theirs, HUB)):
        with pytest.raises(Forbidden) as caught:
            await world.tokens.verify(tenant, token)
        assert caught.value.data == {"reason": "TenantMismatch"}
    assert await world.tokens.verify(ACME, world.token)
    head, body, signature = theirs.split(".")
    broken = f"{head}.{body}.{signature[:-8]}AAAAAAAA"
    assert (await world.refused(broken))["message"] == "invalid signature"


async def test_an_app_that_there_is_not_has_issued_nothing(world: World) -> None:
    """TK-3: keys are those of the claimed issuer, and an issuer that nobody knows has none."""
    claims = {**world.payload, "app_id": "nowhere", "aud": "urn:roost:tenant:nowhere", "tid": "nowhere"}
    assert await world.refused(await world.sign(claims)) == INVALID
    claims = {**world.payload, "app_id": "hub", "aud": "urn:roost:tenant:hub", "tid": "hub"}
    assert await world.refused(await world.sign(claims)) == INVALID


ORGANIZATION = {"org_id": "o1", "org_name": "globex", "mv": "1", "permissions": ["read:roles"]}
SCOPES: dict[str, dict[str, Any]] = {
    "tid alone": {"tid": "globex", "aud": "urn:roost:tenant:globex"},
    "tid in an organization": {"tid": "globex", "aud": "urn:roost:tenant:globex", **ORGANIZATION},
    "number tid": {"tid": 7},
    "empty tid": {"tid": ""},
    "null tid": {"tid": None},
    "an organization without a version": {"org_id": "o1", "org_name": "globex"},
    "an organization that is no text": {**ORGANIZATION, "org_id": {"$ne": ""}},
    "an empty version": {**ORGANIZATION, "mv": ""},
    "permissions that are no list": {"permissions": "tenant:admin"},
    "permissions that are no texts": {"permissions": [{"$ne": ""}]},
}


@pytest.mark.parametrize("case", SCOPES)
async def test_only_the_control_plane_says_that_somebody_acts_elsewhere(world: World, case: str) -> None:
    """TK-1, PT-4: a swapped `tid` is refused although the app's own key has signed it, and so are odd claims."""
    assert await world.refused(await world.sign({**world.payload, **SCOPES[case]})) == INVALID


async def test_the_control_plane_issues_for_others_within_ten_minutes(world: World) -> None:
    """TK-1, TK-13: its token in an organization takes effect where that stands for, and in no other place."""
    await world.keys.create("hub")
    scope = Scope(GLOBEX, "o1", "globex", ["read:roles"], "v1")
    token, payload = await world.tokens.issue(HUB, "u1", "s1", scope)
    assert payload["exp"] - payload["iat"] == LONGEST_IN_ORGANIZATION == 600
    assert (payload["app_id"], payload["tid"], payload["aud"]) == ("hub", "globex", "urn:roost:tenant:globex")
    assert await world.tokens.verify(GLOBEX, token) == payload
    for elsewhere in (HUB, ACME):
        with pytest.raises(Forbidden):
            await world.tokens.verify(elsewhere, token)
    sooner, payload = await world.tokens.issue(HUB, "u1", "s1", scope, ends=NOW + 60)
    assert payload["exp"] == NOW + 60
    assert await world.tokens.verify(GLOBEX, sooner)


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


async def test_the_audience_of_a_tenant_follows_from_its_id(world: World) -> None:
    """CP-7: whatever its name; and a tenant's tokens are for nobody else."""
    _, acme = await world.tokens.issue(ACME, "ada")
    _, renamed = await world.tokens.issue(Tenant(id="acme", name="Another name"), "ada")
    _, globex = await world.tokens.issue(GLOBEX, "ada")
    assert acme["aud"] == renamed["aud"] == "urn:roost:tenant:acme"
    assert globex["aud"] == "urn:roost:tenant:globex"


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
