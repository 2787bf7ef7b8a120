"""Which app a host means, over REST and at the handshake of sockets (TENANCY.md section 6)."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import server
from server.main import Roost
from services.control.catalogue import MOST_UNKNOWN
from tests.conftest import StartRoost
from tests.support.client import connect, fresh, handshake, outcome, rest
from tests.support.roost import start_roost
from tests.support.tripwire import Tripwire

pytestmark = pytest.mark.asyncio(loop_scope="module")

BASES = ("roost.example", "eu.roost.example")
CONTROL_PLANE = "control_plane"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosted(mongod: str) -> AsyncIterator[Roost]:
    """A server with base hosts, behind a trusted proxy at the loopback's address."""
    tripwire = Tripwire()
    roost = await start_roost(mongod, tripwire=tripwire, base_hosts=BASES, trusted_proxies=(ip_network("127.0.0.0/8"),))
    yield roost
    await roost.drop()
    assert tripwire.violations == []


async def meant(roost: Roost, host: str, **headers: str) -> Any:
    """The id of the app whose key set is shown to who asks by this host, or the refusal's code and reason."""
    async with rest(roost, None, Host=host, **headers) as client:
        reply = await client.request("GET", "/.well-known/jwks.json")
        if reply.status == 200:
            kid = reply.json["keys"][0]["kid"]
            for id in ("acme", "globex", CONTROL_PLANE):
                if kid in {record.kid for record in await roost.backend.keys.records(id)}:
                    return id
        return reply.status, (reply.json.get("data") or {}).get("reason")


UNKNOWN = (404, "UnknownHost")
TABLE: list[tuple[str, Any]] = [
    ("acme.roost.example", "acme"),
    ("ACME.Roost.Example.:8080", "acme"),
    ("globex.roost.example", "globex"),
    ("globex.eu.roost.example", "globex"),
    ("roost.example", CONTROL_PLANE),
    ("eu.roost.example", CONTROL_PLANE),
    ("a.acme.roost.example", UNKNOWN),
    ("acme.us.roost.example", UNKNOWN),
    ("nope.roost.example", UNKNOWN),
    ("xn--bcher-kva.roost.example", UNKNOWN),
    ("acmeroost.example", UNKNOWN),
    ("acme.roost.example.evil.example", UNKNOWN),
    ("evil.example", UNKNOWN),
    ("localhost", UNKNOWN),
    ("127.0.0.1", UNKNOWN),
    ("[::1]:3030", UNKNOWN),
    ("www.roost.example", CONTROL_PLANE),
    ("admin.roost.example", CONTROL_PLANE),
    ("control-plane.roost.example", CONTROL_PLANE),
    ("a_b.roost.example", (400, None)),
    ("acme..roost.example", (400, None)),
]


@pytest.mark.parametrize(("host", "found"), TABLE, ids=[row[0] for row in TABLE])
async def test_which_app_a_host_means(hosted: Roost, host: str, found: Any) -> None:
    """SD-1, SD-2, SD-3, SD-4."""
    assert await meant(hosted, host) == found


async def test_a_forwarded_host_counts_from_a_trusted_proxy(hosted: Roost) -> None:
    """SD-1, O4: its first value."""
    forwarded = {"X-Forwarded-Host": "acme.roost.example, globex.roost.example"}
    assert await meant(hosted, "internal", **forwarded) == "acme"


@pytest.mark.asyncio(loop_scope="function")
async def test_nobody_elses_word_on_the_host_counts(roosts: StartRoost) -> None:
    """SD-1, O4: nor the scheme, nor the address."""
    roost = await roosts(base_hosts=BASES)
    forwarded = {"X-Forwarded-Host": "acme.roost.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    assert await meant(roost, "globex.roost.example", **forwarded) == "globex"
    assert await meant(roost, "evil.example", **forwarded) == UNKNOWN
    async with rest(roost, None, Host="acme.roost.example", **forwarded) as client:
        document = (await client.request("GET", "/asyncapi.json")).json
        assert "https" not in str(document["servers"])
        assert "wss" not in str(document["servers"])


@pytest.mark.asyncio(loop_scope="function")
async def test_reserved_labels_may_be_unknown(roosts: StartRoost) -> None:
    """SD-4: by configuration."""
    roost = await roosts(base_hosts=BASES, reserved_hosts="unknown", reserved_ids=frozenset({"www"}))
    assert await meant(roost, "www.roost.example") == UNKNOWN
    assert await meant(roost, "admin.roost.example") == UNKNOWN
    assert await meant(roost, "acme.roost.example") == "acme"


@pytest.mark.asyncio(loop_scope="function")
async def test_without_base_hosts_a_host_says_nothing(roost: Roost) -> None:
    """SD-3: what was so without hosts stays so."""
    for host in ("acme.roost.example", "127.0.0.1", "a_b", "anything.at.all"):
        async with rest(roost, "globex", Host=host) as client:
            assert (await client.request("GET", "/notes")).status == 200
        async with rest(roost, None, Host=host) as client:
            assert (await client.request("GET", "/notes")).status == 400


async def test_probes_are_asked_by_address(hosted: Roost) -> None:
    async with rest(hosted, None) as probe:
        assert (await probe.request("GET", "/health")).status == 200
        assert (await probe.request("GET", "/docs")).status == 404


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_sockets_are_of_the_app_whose_host_they_came_by(hosted: Roost, transport: str) -> None:
    """SD-8: the same resolution at the handshake, over both transports."""
    for host, query, answer in (
        ("acme.roost.example", "", "connect"),
        ("acme.roost.example", "appId=acme", "connect"),
        ("roost.example", "appId=acme", "connect"),
        ("roost.example", "", "connect"),
    ):
        kind, _ = await handshake(hosted, query, transport=transport, headers={"Host": host})
        assert kind == answer, host
    kind, payload = await handshake(hosted, "appId=globex", transport=transport, headers={"Host": "acme.roost.example"})
    assert (kind, payload["data"]["code"]) == ("refused", 400)
    for host, status in (("evil.example", 404), ("a.acme.roost.example", 404), ("a_b.example", 400)):
        refused = await handshake(hosted, "appId=acme", transport=transport, headers={"Host": host})
        assert refused == ("turned away", status)


async def test_the_host_must_agree_with_what_else_names_the_app(hosted: Roost) -> None:
    """TC-2, SD-6: host, appId and public key."""
    acme, globex = [await hosted.backend.tenants.get(id) for id in ("acme", "globex")]
    assert acme is not None
    assert globex is not None
    headers = {"Host": "acme.roost.example"}
    for named, status in (
        ({"x-app-id": "acme", "X-Tenant-ID": acme.public_keys[0]}, 200),
        ({"X-Tenant-ID": acme.public_keys[0]}, 200),
        ({"x-app-id": "globex"}, 400),
        ({"X-Tenant-ID": globex.public_keys[0]}, 400),
        ({"x-app-id": "nope"}, 404),
        ({"X-Tenant-ID": "pk_nope"}, 404),
    ):
        async with rest(hosted, None, **headers, **named) as client:
            assert (await client.request("GET", "/notes")).status == status, named


async def test_a_token_must_be_of_the_hosts_app(hosted: Roost) -> None:
    """SD-6, TC-3: 403 TenantMismatch; at the base host any app's token is good, and names it."""
    async with connect(hosted, "acme", headers={"Host": "roost.example"}) as ada:
        user = await ada.sign_up(fresh())
        bearer = {"Authorization": f"Bearer {ada.token}"}
    for host, status in (
        ("acme.roost.example", 200),
        ("roost.example", 200),
        ("www.roost.example", 200),
        ("globex.roost.example", 403),
    ):
        async with rest(hosted, None, Host=host, **bearer) as client:
            reply = await client.request("GET", f"/users/{user['_id']}")
            assert reply.status == status, host
            if status == 403:
                assert reply.json["data"] == {"reason": "TenantMismatch"}
        kind, payload = await handshake(hosted, "", headers={"Host": host, **bearer})
        assert kind == ("connect" if status == 200 else "refused"), host
        if status == 403:
            assert payload["data"]["data"] == {"reason": "TenantMismatch"}


async def test_a_socket_stays_with_the_app_of_its_host(hosted: Roost) -> None:
    """SD-8: logging in later cannot change sides."""
    async with connect(hosted, "globex", headers={"Host": "globex.roost.example"}) as other:
        await other.sign_up(f"{fresh()}@globex.example", field="email")
    async with connect(hosted, "acme", headers={"Host": "acme.roost.example"}) as ada:
        user = await ada.sign_up(fresh())
        refused = await outcome(ada, "create", "authentication", {"strategy": "jwt", "accessToken": other.token}, {})
        assert (refused.code, refused.data) == (403, {"reason": "TenantMismatch"})
        assert (await ada.call("get", "users", user["_id"]))["_id"] == user["_id"]


async def test_a_forged_token_names_nobody(hosted: Roost) -> None:
    """TC-3, SD-6: what a token says of itself counts when it is valid."""
    async with connect(hosted, "acme", headers={"Host": "roost.example"}) as ada:
        await ada.sign_up(fresh())
    head, body, signature = str(ada.token).split(".")
    forged = f"{head}.{body}.{'A' * len(signature)}"
    async with rest(hosted, None, Host="globex.roost.example", Authorization=f"Bearer {forged}") as client:
        assert (await client.request("GET", "/messages")).status == 401
    # At the base host it is the control plane's, which has no such service.
    async with rest(hosted, None, Host="roost.example", Authorization=f"Bearer {forged}") as client:
        assert (await client.request("GET", "/messages")).status == 404


@pytest.mark.asyncio(loop_scope="function")
async def test_random_labels_fill_no_memory(roosts: StartRoost) -> None:
    """SD-10: what is unknown is bounded, and an address that goes on asking has to wait."""
    roost = await roosts(base_hosts=BASES)
    answers = [await meant(roost, f"random-{number}.roost.example") for number in range(40)]
    assert set(answers) == {UNKNOWN, (429, None)}
    assert answers.count(UNKNOWN) in range(10, 20)
    assert await meant(roost, "acme.roost.example") == "acme"
    assert len(roost.catalogue.known()) < 10 < MOST_UNKNOWN


@pytest.mark.asyncio(loop_scope="function")
async def test_a_plug_in_may_tell_which_app_a_host_means(roosts: StartRoost) -> None:
    """SD-5: an id, None, an exception, no answer within 250 ms, an app that there is not."""
    roost = await roosts(base_hosts=BASES)
    asked: list[tuple[str | None, str]] = []

    async def resolve(label: str | None, host: str) -> str | None:
        asked.append((label, host))
        match label:
            case None:
                return "globex" if host == "shop.example" else None
            case "late":
                await asyncio.sleep(5)
            case "broken":
                raise RuntimeError("secret")
            case "ghost":
                return "nope"
            case "odd":
                return "A b"
        return {"first": "acme"}.get(label)

    roost.entrance.hosts.resolve = resolve
    assert await meant(roost, "first.roost.example") == "acme"
    assert await meant(roost, "shop.example") == "globex"
    assert await meant(roost, "evil.example") == UNKNOWN
    assert await meant(roost, "acme.roost.example") == UNKNOWN
    for label in ("ghost", "odd", "nobody"):
        assert await meant(roost, f"{label}.roost.example") == UNKNOWN
    for label in ("late", "broken"):
        async with asyncio.timeout(2):
            assert await meant(roost, f"{label}.roost.example") == (503, None)
    assert ("first", "first.roost.example") in asked
    # Base hosts and reserved labels are nobody's to give away.
    asked.clear()
    assert await meant(roost, "roost.example") == CONTROL_PLANE
    assert await meant(roost, "www.roost.example") == CONTROL_PLANE
    assert asked == []


async def test_no_cookie_is_for_more_than_its_host() -> None:
    """SD-9: each cookie that is set anywhere begins with `__Host-`, which browsers hold to the host and to TLS."""
    root = Path(server.__file__).parents[1]
    for file in [*root.glob("server/**/*.py"), *root.glob("services/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "set_cookie":
                assert all(keyword.arg != "domain" for keyword in node.keywords), file
                name = node.args[0] if node.args else None
                if isinstance(name, ast.Call) and isinstance(name.func, ast.Attribute) and name.func.attr == "format":
                    name = name.func.value
                shown = ast.unparse(name) if name is not None else ""
                is_bound = "__Host-" in shown or shown.isupper() or shown.rpartition(".")[2].isupper()
                assert is_bound, f"{file}: {shown}"
            if isinstance(node, ast.Constant) and node.value == "Set-Cookie":
                raise AssertionError(f"{file} writes a cookie by hand")
