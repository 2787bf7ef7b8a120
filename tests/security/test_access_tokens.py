"""LIMITS A1: forged tokens at every door, the socket's handshake, both ways to log in by token, and the header of a request."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.main import Roost
from tests.security.apps import NORTH, SOUTH, Side
from tests.support.client import CallError, connect, handshake, outcome, rest
from tests.unit.authentication.forgeries import CLAIMS, FORGERIES, HEADERS, INVALID, Forger

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEADER_SIZE = 8_000
"""Characters of a token that an HTTP header can carry: longer ones are refused before anybody reads them."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def forger(alike: Roost, north: Side) -> AsyncIterator[Forger]:
    """An attacker who has the north's own key; the token's session is alive, so each refusal is for the forgery alone."""
    keys = alike.backend.keys
    payload = (await north.http.call("create", "authentication", {"strategy": "jwt", "accessToken": north.token}))[
        "authentication"
    ]["payload"]
    [own], [other] = await keys.records(NORTH), await keys.records(SOUTH)
    yield Forger(await keys.signing_key(NORTH), own, other, north.token, payload)


def attacks(forger: Forger) -> dict[str, str]:
    """All forged tokens by name."""
    return {
        **{f"header: {name}": forger.sign(forger.payload, header(forger)) for name, header in HEADERS.items()},
        **{f"claims: {name}": forger.sign(claims(forger.payload)) for name, claims in CLAIMS.items()},
        **{name: forge(forger) for name, forge in FORGERIES.items()},
        "900 kB": forger.token + "A" * 900_000,
    }


NAMES = [*(f"header: {name}" for name in HEADERS), *(f"claims: {name}" for name in CLAIMS), *FORGERIES, "900 kB"]
UNSENT = {"1 MB": "413: a message is smaller", "half a pair": "400: no text has half a pair"}


async def test_a1_names_what_is_tried() -> None:
    """A1: `none`, `None`, HS256 by the public key, RS256, `kid` path/SQL/url/array, `jwk jku x5u crit`, missing claims,
    `aud` list, float exp, 1 MB.
    """
    named = "; ".join(NAMES)
    wanted = (
        "alg none|alg None|HS256 by the public key|RS256|kid path|kid sql|kid url|kid list|header: jwk|header: jku"
        "|header: x5u|header: crit|no exp|no aud|no iss|no sub|no app_id|aud list|float exp|1 MB"
    ).split("|")
    assert [word for word in wanted if word not in named] == []


@pytest.mark.parametrize("name", NAMES)
async def test_a1_a_forged_token_gets_one_body_at_every_door(
    alike: Roost, forger: Forger, north: Side, name: str
) -> None:
    """A1: all 401, same body, whichever way the token comes."""
    token = attacks(forger)[name]
    login = {"strategy": "jwt", "accessToken": token}
    async with connect(alike, NORTH) as socket, rest(alike, NORTH) as http:
        if name in UNSENT:
            expected = int(UNSENT[name][:3])
            reply = await http.request("POST", "/authentication", login)
            assert reply.status == expected
            return
        for caller in (socket, http):
            error = await outcome(caller, "create", "authentication", login)
            assert isinstance(error, CallError), "logged in"
            assert error.wire == INVALID
        assert (await outcome(socket, "find", "users", {})).code == 401, "the socket is nobody's still"
        if len(token) > HEADER_SIZE or not token.isascii():
            return
        for scheme in ("Bearer ", "JWT ", ""):
            reply = await http.request("GET", "/users", headers={"Authorization": scheme + token})
            assert (reply.status, reply.json) == (401, INVALID)
        answer = await handshake(alike, f"appId={NORTH}", headers={"Authorization": f"Bearer {token}"})
        assert answer == ("refused", {"message": INVALID["message"], "data": INVALID})


async def test_a1_the_same_token_unforged_opens_every_door(alike: Roost, forger: Forger) -> None:
    """A1's control: what the table signs is refused for what was changed in it, and for nothing else."""
    token = forger.sign({**forger.payload, "iat": int(time.time())})
    async with connect(alike, NORTH) as socket, rest(alike, NORTH, Authorization=f"Bearer {token}") as http:
        assert (await socket.login_by(token))["accessToken"] == token
        assert (await http.request("GET", "/users")).status == 200
        kind, _ = await handshake(alike, f"appId={NORTH}", headers={"Authorization": f"Bearer {token}"})
        assert kind == "connect"


async def test_a1_a_header_that_is_too_long_is_refused_unread(alike: Roost, forger: Forger) -> None:
    """A1, 1 MB token: a request with such a header is no request; nobody is logged in by it."""
    async with rest(alike, NORTH) as http:
        reply = await http.request(
            "GET", "/users", headers={"Authorization": "Bearer " + forger.token + "A" * 1_000_000}
        )
        assert reply.status in (400, 413, 431)
        assert (await http.request("GET", "/health")).status == 200
