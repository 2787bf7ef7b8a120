"""The audit log never delays or fails what it is about, and is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from hooks.context import Params
from hooks.errors import MethodNotAllowed, Unavailable
from hooks.tenant import Placement, Tenant
from services.application import Application
from services.audit import AUDIT_RULES, COLLECTION, PATH, PER_TENANT, Audit, AuditLogService
from services.isolation import Isolation
from services.memory import MemoryCollection, MemoryStore
from services.store import Collection, Document, Namespace
from tests.support.client import until

ACME = Tenant("acme", "Acme")
STUCK = Tenant("stuck", "Stuck", placement=Placement(database="stuck"))
ELSEWHERE = Tenant("lost", "Lost", placement=Placement(cluster="unknown"))


class Shaky(MemoryCollection):
    """Fails some times, and keeps nothing then."""

    failures = 0

    async def insert(self, documents: Sequence[Document]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable()
        await super().insert(documents)


class ShakyStore(MemoryStore):
    """Has one collection, which fails some times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.shaky = Shaky(Namespace("roost", COLLECTION))
        self.shaky.failures = failures

    def collection(self, namespace: Namespace) -> Collection:
        return self.shaky


class Stuck(MemoryCollection):
    """Never answers."""

    async def insert(self, documents: Sequence[Document]) -> None:
        await asyncio.Event().wait()


class StuckStore(MemoryStore):
    """Has a database that never answers."""

    def collection(self, namespace: Namespace) -> Collection:
        return Stuck(namespace) if namespace.database == "stuck" else super().collection(namespace)


async def entries(isolation: Isolation, tenant: Tenant = ACME) -> list[Any]:
    return await isolation.collection(tenant, COLLECTION).find({}, sort=[("_id", 1)])


async def test_what_does_not_fit_is_counted_and_nothing_waits() -> None:
    isolation = Isolation(MemoryStore())
    audit = Audit(isolation, most=3)
    for n in range(5):
        audit.add(ACME, f"event-{n}")
    assert audit.dropped == 2
    await audit.settled()
    assert [entry["event"] for entry in await entries(isolation)] == ["event-0", "event-1", "event-2"]
    audit.add(ACME, "later")
    await audit.settled()
    assert len(await entries(isolation)) == 4


@pytest.mark.parametrize(("failures", "kept"), [(4, 2), (5, 0)])
async def test_a_database_that_cannot_be_asked_is_asked_again_and_then_given_up(failures: int, kept: int) -> None:
    isolation = Isolation(ShakyStore(failures))
    audit = Audit(isolation, pause=0)
    audit.add(ACME, "one")
    audit.add(ACME, "two")
    await audit.settled()
    assert len(await entries(isolation)) == kept
    assert audit.dropped == 2 - kept


async def test_a_tenant_that_cannot_be_reached_is_in_nobodys_way() -> None:
    isolation = Isolation(MemoryStore())
    audit = Audit(isolation)
    audit.add(ELSEWHERE, "lost")
    audit.add(ACME, "kept")
    await audit.settled()
    assert [entry["event"] for entry in await entries(isolation)] == ["kept"]
    assert audit.dropped == 1


async def test_a_database_that_does_not_answer_holds_up_nobody_and_takes_nobodys_place() -> None:
    """One app's log, flooded or out of reach, costs no other app an entry."""
    isolation = Isolation(StuckStore())
    audit = Audit(isolation)
    for n in range(PER_TENANT + 10):
        audit.add(STUCK, f"lost-{n}")
    assert 0 < audit.dropped <= 10
    dropped = audit.dropped
    audit.add(ACME, "kept")

    async def is_kept() -> bool:
        return bool(await entries(isolation))

    await until(is_kept)
    assert audit.dropped == dropped
    await audit.stop(grace=0)
    assert audit.dropped == PER_TENANT + 10, "what waits when the server stops is counted"


async def test_entries_that_are_there_already_do_not_keep_out_the_others() -> None:
    isolation = Isolation(MemoryStore())
    audit = Audit(isolation)
    audit.add(ACME, "one")
    await audit.settled()
    [written] = await entries(isolation)
    fresh = {**written, "_id": "another", "event": "two"}
    await audit._write(ACME, [written, fresh])
    assert {entry["event"] for entry in await entries(isolation)} == {"one", "two"}


async def test_stopping_writes_what_waits() -> None:
    isolation = Isolation(MemoryStore())
    audit = Audit(isolation)
    for n in range(500):
        audit.add(ACME, f"event-{n}")
    await audit.stop()
    assert len(await entries(isolation)) == 500


async def test_stopping_drops_what_cannot_be_written_in_time() -> None:
    audit = Audit(Isolation(ShakyStore(99)), pause=60)
    audit.add(ACME, "one")
    await audit.stop(grace=0.01)
    assert audit.dropped == 1


async def test_an_entry_says_where_a_call_came_from_and_expires() -> None:
    isolation = Isolation(MemoryStore())
    audit = Audit(isolation, days=2, clock=lambda: 1_000_000.0)
    params = Params(tenant=ACME, address="192.0.2.1", headers={"user-agent": "x\x1b[31m" + "y" * 999})
    audit.add(ACME, "sign-in", subject="a" * 999, params=params)
    await audit.settled()
    [entry] = await entries(isolation)
    assert entry["address"] == "192.0.2.1"
    assert entry["user_agent"].startswith("x[31my")
    assert len(entry["user_agent"]) < 257
    assert len(entry["subject"]) == 256
    assert (entry["expires_at"] - entry["at"]).total_seconds() == 2 * 86_400


async def test_not_even_the_server_changes_entries() -> None:
    isolation = Isolation(MemoryStore())
    app = Application()
    app.use(PATH, AuditLogService(isolation), rules=AUDIT_RULES)
    for method in ("create", "update", "patch", "remove"):
        with pytest.raises(MethodNotAllowed):
            await app.call(PATH, method, Params(tenant=ACME), id="x", data={"event": "made up"})
