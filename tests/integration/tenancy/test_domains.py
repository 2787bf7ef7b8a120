"""Hosts of an app's own: claimed, proved, checked again, given back (TENANCY.md SD-7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hooks.context import Params
from hooks.errors import Conflict, FeathersError, NotFound
from server.main import Roost
from services.control.domains import RECHECK, UNPROVED
from services.control.verification import AT_ONCE
from services.users import grant
from tests.conftest import StartRoost
from tests.support.client import Client, connect, fresh, handshake, outcome, rest, until
from tests.support.name_server import NameServer, name_server

BASE = "roost.example"
OURS, THEIRS = "192.0.2.1", "198.51.100.1"
HOST = "chat.acme.example"
ALL = ("read:domains", "create:domains", "update:domains", "delete:domains")


@pytest.fixture
async def dns() -> AsyncIterator[NameServer]:
    async with name_server() as server:
        server.zone[BASE, "A"] = [OURS]
        yield server


@pytest.fixture
async def roost(roosts: StartRoost, dns: NameServer) -> Roost:
    return await roosts(base_hosts=(BASE,), dns_servers=(dns.address,))


async def manager(roost: Roost, client: Client, *, field: str = "username", permissions: Any = ALL) -> None:
    """Signs up somebody who may manage the app's domains."""
    name = f"{fresh()}@example.com"
    await client.sign_up(name, field=field)
    tenant = roost.catalogue.peek("acme" if field == "username" else "globex")
    assert tenant is not None
    for permission in permissions:
        await grant(roost.backend.isolation, tenant, name, permission)
    await client.login(name, field=field)


def publish(dns: NameServer, record: Any, *, leads_here: bool = True) -> None:
    """Puts a domain's proof into the zone."""
    dns.zone[record["challenge"]["name"], "TXT"] = ['"v=spf1 -all"', f'"{record["challenge"]["value"]}"']
    dns.zone[record["host"], "A"] = [OURS if leads_here else THEIRS]


def inside(roost: Roost, id: str) -> Params:
    tenant = roost.catalogue.peek(id)
    assert tenant is not None
    return Params(tenant=tenant)


async def called(roost: Roost, app: str, method: str, **arguments: Any) -> Any:
    """The result of a trusted call to the domains of an app."""
    return (await roost.app.call("domains", method, inside(roost, app), **arguments)).result


async def status(roost: Roost, host: str = HOST) -> int:
    async with rest(roost, None, Host=host) as client:
        return (await client.request("GET", "/notes")).status


async def is_served(roost: Roost, host: str = HOST, *, by: str = "acme") -> bool:
    async with rest(roost, by, Host=host) as client:
        return (await client.request("GET", "/notes")).status == 200


async def test_a_domain_is_claimed_proved_and_served(roost: Roost, dns: NameServer) -> None:
    """SD-7, SD-8: pending, then active, over both transports; and the app is found by it."""
    async with connect(roost, "acme", headers={"Host": BASE}) as ada:
        await manager(roost, ada)
        claimed = await ada.call("create", "domains", {"host": "Chat.ACME.example."}, {})
        assert (claimed["host"], claimed["state"]) == (HOST, "pending")
        assert claimed["challenge"]["type"] == "TXT"
        assert claimed["challenge"]["name"] == f"_roost-challenge.{HOST}"
        assert await status(roost) == 404
        assert (await ada.call("verify", "domains", {"_id": claimed["_id"]}, {}))["state"] == "pending"

        publish(dns, claimed)
        proved = await ada.call("verify", "domains", {"_id": claimed["_id"]}, {})
        assert (proved["state"], proved["_id"]) == ("active", claimed["_id"])
        assert proved["verified_at"]
        assert await ada.call("get", "domains", claimed["_id"]) == proved
        assert (await ada.call("find", "domains", {"state": "active"}))["data"] == [proved]
        assert (await ada.call("find", "domains", {"state": "pending"}))["total"] == 0
        await until(lambda: is_served(roost))
        assert (await handshake(roost, "", headers={"Host": HOST}))[0] == "connect"
        assert await status(roost, f"www.{HOST}") == 404
        async with rest(roost, None, Host=HOST) as client:
            for name, value in (("x-app-id", "globex"), ("Authorization", f"Bearer {ada.token}")):
                reply = await client.request("GET", "/notes", headers={name: value})
                assert reply.status == (400 if name == "x-app-id" else 200)

        assert (await ada.call("remove", "domains", claimed["_id"], {}))["state"] == "removed"

        async def is_gone() -> bool:
            return not await is_served(roost)

        await until(is_gone)
        assert await status(roost) == 404
        assert (await outcome(ada, "get", "domains", claimed["_id"])).code == 404


async def test_over_rest_too(roost: Roost, dns: NameServer) -> None:
    """SD-7: the custom method `verify` as well."""
    async with connect(roost, "acme", headers={"Host": BASE}) as ada:
        await manager(roost, ada)
    async with rest(roost, "acme", Host=BASE, Authorization=f"Bearer {ada.token}") as client:
        claimed = await client.call("create", "domains", {"host": HOST})
        publish(dns, claimed, leads_here=False)
        assert (await client.call("verify", "domains", {"_id": claimed["_id"]}))["state"] == "verified"
        assert (await client.call("find", "domains", {"$limit": 1}))["total"] == 1
        assert (await client.call("remove", "domains", claimed["_id"]))["host"] == HOST
        assert (await outcome(client, "remove", "domains", None)).code == 405


@pytest.mark.parametrize(
    ("method", "permission"),
    [("find", "read"), ("get", "read"), ("create", "create"), ("verify", "update"), ("remove", "delete")],
)
async def test_each_method_has_its_permission(roost: Roost, method: str, permission: str) -> None:
    """SD-7: `*:domains`, and nothing else, opens it."""
    claimed = await called(roost, "acme", "create", data={"host": HOST})
    arguments: dict[str, tuple[Any, ...]] = {
        "find": ({},),
        "get": (claimed["_id"],),
        "create": ({"host": "two.acme.example"}, {}),
        "verify": ({"_id": claimed["_id"]}, {}),
        "remove": (claimed["_id"], {}),
    }
    async with connect(roost, "acme", headers={"Host": BASE}) as ada:
        assert (await outcome(ada, method, "domains", *arguments[method])).code == 401
        await manager(roost, ada, permissions=[word for word in ALL if not word.startswith(permission)])
        assert (await outcome(ada, method, "domains", *arguments[method])).code == 403
        await manager(roost, ada, permissions=[f"{permission}:domains"])
        assert isinstance(await outcome(ada, method, "domains", *arguments[method]), dict)


async def test_domains_of_another_app_are_not_there(roost: Roost, dns: NameServer) -> None:
    """SD-7, TK-4: 404 for all methods."""
    claimed = await called(roost, "acme", "create", data={"host": HOST})
    publish(dns, claimed)
    async with connect(roost, "globex", headers={"Host": BASE}) as eve:
        await manager(roost, eve, field="email")
        assert (await eve.call("find", "domains", {}))["total"] == 0
        for method, arguments in (
            ("get", (claimed["_id"],)),
            ("verify", ({"_id": claimed["_id"]}, {})),
            ("remove", (claimed["_id"], {})),
        ):
            assert (await outcome(eve, method, "domains", *arguments)).code == 404
    assert (await called(roost, "acme", "get", id=claimed["_id"]))["state"] == "pending"


async def test_claims_keep_nobody_out_and_the_first_proof_wins(roost: Roost, dns: NameServer) -> None:
    """SD-7: unique platform-wide once verified."""
    first = await called(roost, "acme", "create", data={"host": HOST})
    second = await called(roost, "globex", "create", data={"host": HOST})
    assert first["challenge"]["value"] != second["challenge"]["value"]
    with pytest.raises(Conflict):
        await called(roost, "acme", "create", data={"host": HOST})
    publish(dns, second)
    assert (await called(roost, "acme", "verify", data={"_id": first["_id"]}))["state"] == "pending"
    assert (await called(roost, "globex", "verify", data={"_id": second["_id"]}))["state"] == "active"
    dns.zone[first["challenge"]["name"], "TXT"].append(f'"{first["challenge"]["value"]}"')
    with pytest.raises(Conflict):
        await called(roost, "acme", "verify", data={"_id": first["_id"]})
    await until(lambda: is_served(roost, by="globex"))


async def test_two_proofs_at_once_are_one(roost: Roost, dns: NameServer) -> None:
    """SD-7: the database decides."""
    claims = {id: await called(roost, id, "create", data={"host": HOST}) for id in ("acme", "globex")}
    name = claims["acme"]["challenge"]["name"]
    dns.zone[name, "TXT"] = [f'"{claim["challenge"]["value"]}"' for claim in claims.values()]

    async def attempt(id: str) -> bool:
        try:
            await called(roost, id, "verify", data={"_id": claims[id]["_id"]})
        except Conflict:
            return False
        return True

    assert sorted(await asyncio.gather(attempt("acme"), attempt("globex"))) == [False, True]


async def test_a_removed_host_is_held_until_it_leads_elsewhere_or_is_proved_anew(roost: Roost, dns: NameServer) -> None:
    """SD-7: the quarantine."""
    claimed = await called(roost, "acme", "create", data={"host": HOST})
    publish(dns, claimed)
    await called(roost, "acme", "verify", data={"_id": claimed["_id"]})
    await called(roost, "acme", "remove", id=claimed["_id"])
    later = datetime.now(UTC) + RECHECK + timedelta(minutes=1)
    assert await roost.entrance.verification.review(later) == 1
    documents = roost.backend.deployment.client[f"{roost.settings.database}_control"]["domains"]
    assert await documents.count_documents({"host": HOST, "held": True}) == 1
    assert await status(roost) == 404
    # Who proves it gets it at once,
    taken = await called(roost, "globex", "create", data={"host": HOST})
    publish(dns, taken)
    assert (await called(roost, "globex", "verify", data={"_id": taken["_id"]}))["state"] == "active"
    await called(roost, "globex", "remove", id=taken["_id"])
    # and when it leads elsewhere, nobody's claim to it is left.
    dns.zone[HOST, "A"] = [THEIRS]
    await roost.entrance.verification.review(later + RECHECK)
    assert await documents.count_documents({"host": HOST, "held": True}) == 0


async def test_proofs_are_looked_for_again(roost: Roost, dns: NameServer) -> None:
    """SD-7: a proof that is gone for a week loses the host; name servers that do not answer lose nothing."""
    claimed = await called(roost, "acme", "create", data={"host": HOST})
    publish(dns, claimed, leads_here=False)
    assert (await called(roost, "acme", "verify", data={"_id": claimed["_id"]}))["state"] == "verified"
    now = datetime.now(UTC)
    publish(dns, claimed)
    assert await roost.entrance.verification.review(now) == 0
    assert await roost.entrance.verification.review(now + RECHECK + timedelta(minutes=1)) == 1
    assert (await called(roost, "acme", "get", id=claimed["_id"]))["state"] == "active"

    del dns.zone[claimed["challenge"]["name"], "TXT"]
    assert (await called(roost, "acme", "verify", data={"_id": claimed["_id"]}))["state"] == "active"
    documents = roost.backend.deployment.client[f"{roost.settings.database}_control"]["domains"]
    await documents.update_one({"host": HOST}, {"$set": {"missing_since": now - UNPROVED - timedelta(hours=1)}})
    assert (await called(roost, "acme", "verify", data={"_id": claimed["_id"]}))["state"] == "failed"

    async def is_gone() -> bool:
        return not await is_served(roost)

    await until(is_gone)
    again = await called(roost, "acme", "create", data={"host": HOST})
    assert (again["state"], again["_id"]) == ("pending", claimed["_id"])
    assert again["challenge"]["value"] != claimed["challenge"]["value"]


async def test_without_an_answer_nothing_changes(roosts: StartRoost, dns: NameServer) -> None:
    """SD-7: 503."""
    roost = await roosts(base_hosts=(BASE,), dns_servers=(dns.address,))
    roost.entrance.dns.patience = 0.2
    claimed = await called(roost, "acme", "create", data={"host": HOST})
    publish(dns, claimed)
    await called(roost, "acme", "verify", data={"_id": claimed["_id"]})
    dns.is_deaf = True
    with pytest.raises(FeathersError) as raised:
        await called(roost, "acme", "verify", data={"_id": claimed["_id"]})
    assert raised.value.code == 503
    later = datetime.now(UTC) + RECHECK + timedelta(minutes=1)
    assert await roost.entrance.verification.review(later) == 1
    assert (await called(roost, "acme", "get", id=claimed["_id"]))["state"] == "active"


async def test_one_that_is_not_answered_keeps_no_other_waiting(roosts: StartRoost, dns: NameServer) -> None:
    """SD-7: several domains are looked at at a time."""
    roost = await roosts(base_hosts=(BASE,), dns_servers=(dns.address,))
    roost.entrance.dns.patience = 60.0
    for number in range(2 * AT_ONCE):
        await called(roost, "acme", "create", data={"host": f"h{number}.acme.example"})
    dns.is_deaf = True
    review = asyncio.create_task(roost.entrance.verification.review(datetime.now(UTC) + RECHECK + timedelta(minutes=1)))

    async def are_asked() -> bool:
        return len({name for name, _ in dns.asked}) == AT_ONCE

    try:
        await until(are_asked)
    finally:
        review.cancel()


IMPOSSIBLE = [
    "",
    "com",
    "localhost",
    "a.localhost",
    "printer.local",
    "127.0.0.1",
    "[::1]",
    "a_b.example",
    "a b.example",
    "https://a.example",
    "a.example/x",
    "a.example:443",
    "*.a.example",
    "a..example",
    "a" * 64 + ".example",
    BASE,
    f"www.{BASE}",
    f"acme.{BASE}",
    f"a.b.{BASE.upper()}",
    5,
    None,
    ["a.example"],
]


async def test_what_cannot_be_claimed(roost: Roost) -> None:
    """SD-7: base hosts and what lies below them, and whatever is no public host name."""
    rows: list[Any] = [{"host": host} for host in IMPOSSIBLE]
    for data in [*rows, None, [], {}, {"host": "acme.example", "state": "active"}]:
        with pytest.raises(FeathersError) as raised:
            await called(roost, "acme", "create", data=data)
        assert raised.value.code == 400, data


async def test_only_so_many_domains_are_claimed(roost: Roost) -> None:
    """SD-7: every resource is bounded."""
    for number in range(100):
        await called(roost, "acme", "create", data={"host": f"h{number}.acme.example"})
    with pytest.raises(FeathersError) as raised:
        await called(roost, "acme", "create", data={"host": "one.more.example"})
    assert raised.value.code == 429
    page = await called(roost, "acme", "find")
    assert (page["total"], page["limit"], len(page["data"])) == (100, 10, 10)


async def test_hosts_of_an_app_that_is_deleted_go_into_quarantine(roost: Roost, dns: NameServer) -> None:
    """SD-7, CP-28: they serve nobody, stay held like removed ones, and nothing there carries the app's id any more."""
    claimed = await called(roost, "acme", "create", data={"host": HOST})
    publish(dns, claimed)
    await called(roost, "acme", "verify", data={"_id": claimed["_id"]})
    await called(roost, "acme", "create", data={"host": "two.acme.example"})
    await until(lambda: is_served(roost))
    lifecycle = roost.backend.control.lifecycle
    operation = await lifecycle.settle((await lifecycle.delete("acme")).id)
    assert operation.state == "succeeded", operation.error
    documents = roost.backend.deployment.client[f"{roost.settings.database}_control"]["domains"]
    (left,) = [one async for one in documents.find({})]
    assert {name: left[name] for name in left if name not in ("_id", "next_check")} == {
        "host": HOST,
        "state": "removed",
        "held": True,
    }
    assert await status(roost) == 404
    # Its DNS still leads here, so it stays nobody's until somebody proves it.
    later = datetime.now(UTC) + RECHECK + timedelta(minutes=1)
    assert await roost.entrance.verification.review(later) == 1
    assert await documents.count_documents({"host": HOST, "held": True}) == 1
    taken = await called(roost, "globex", "create", data={"host": HOST})
    assert (await called(roost, "globex", "verify", data={"_id": taken["_id"]}))["state"] == "pending"
    publish(dns, taken)
    assert (await called(roost, "globex", "verify", data={"_id": taken["_id"]}))["state"] == "active"
    assert [one["app_id"] async for one in documents.find({"host": HOST})] == ["globex"]
    await until(lambda: is_served(roost, by="globex"))


async def test_the_quarantine_of_a_deleted_app_s_host_ends_when_it_leads_elsewhere(
    roost: Roost, dns: NameServer
) -> None:
    """SD-7, CP-25: of two apps after each other, too; a deletion that is done again changes nothing."""
    documents = roost.backend.deployment.client[f"{roost.settings.database}_control"]["domains"]
    for app in ("acme", "globex"):
        claimed = await called(roost, app, "create", data={"host": HOST})
        publish(dns, claimed)
        assert (await called(roost, app, "verify", data={"_id": claimed["_id"]}))["state"] == "active"
        for _ in range(2):
            await roost.backend.domains.remove_all(app)
        assert await documents.count_documents({"host": HOST}) == 1
        assert (await called(roost, app, "find"))["total"] == 0
        with pytest.raises(NotFound):
            await called(roost, app, "get", id=claimed["_id"])
    dns.zone[HOST, "A"] = [THEIRS]
    assert await roost.entrance.verification.review(datetime.now(UTC) + RECHECK + timedelta(minutes=1)) == 1
    assert await documents.count_documents({}) == 0
