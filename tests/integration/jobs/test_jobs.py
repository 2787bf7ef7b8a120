"""Jobs (TENANCY JB-1..5): made and done for one tenant, in turns, by any node, and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from hooks.context import Authentication, Params
from hooks.errors import BadRequest, Conflict, TooManyRequests
from hooks.tenant import current_tenant, tenant_scope
from services.jobs import queue
from services.jobs.model import GiveUp, Job, State, pause
from services.jobs.queue import Jobs
from services.jobs.worker import MOST_LOST
from tests.integration.jobs.conftest import CONTROL_PLANE, LATER, House, nothing
from tests.support.client import until


async def test_there_is_no_job_without_a_tenant(house: House) -> None:
    """JB-1: a job is refused outside of a tenant's scope, and in the scope of another one than the call's."""
    house.jobs.handle("mail", nothing)
    with pytest.raises(LookupError):
        await house.jobs.enqueue("mail")
    with tenant_scope(house.tenants["acme"]), pytest.raises(LookupError):
        await house.jobs.enqueue("mail", params=Params(tenant=house.tenants["globex"]))


@pytest.mark.parametrize("word", ["app_id", "tenant", "tid", "appId"])
async def test_a_payload_names_no_tenant(house: House, word: str) -> None:
    """JB-1: at any depth."""
    house.jobs.handle("mail", nothing)
    for payload in ({word: "globex"}, {"to": [{"deep": {word: "globex"}}]}):
        with pytest.raises(BadRequest, match=word):
            await house.enqueue("acme", "mail", payload)


async def test_payloads_are_bounded_and_plain(house: House) -> None:
    house.jobs.handle("mail", nothing)
    for payload in ({"text": "x" * queue.LARGEST}, {"at": datetime.now(UTC)}, {"set": {1}}):
        with pytest.raises(BadRequest, match="payload"):
            await house.enqueue("acme", "mail", payload)
    with pytest.raises(BadRequest, match="no jobs of the name"):
        await house.enqueue("acme", "unheard-of")


async def test_a_tenant_has_a_bounded_number_of_jobs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST", 3)
    house.jobs.handle("mail", nothing)
    for _ in range(3):
        await house.enqueue("acme", "mail")
    with pytest.raises(TooManyRequests):
        await house.enqueue("acme", "mail")
    await house.enqueue("globex", "mail")


async def test_a_job_runs_in_the_scope_of_its_tenant_as_it_is_now(house: House) -> None:
    """JB-1, ID-3: the worker resolves the tenant again, and tells the handler who wanted the job."""
    seen: list[tuple[Job, str, int]] = []

    async def note(job: Job) -> None:
        seen.append((job, current_tenant().id, current_tenant().epoch))

    house.jobs.handle("note", note)
    login = Authentication("jwt", "token", {"org_id": "org-1"})
    params = Params(tenant=house.tenants["acme"], user={"_id": "ada"}, authentication=login)
    id = await house.enqueue("acme", "note", {"n": 1}, params=params, call="c1")
    house.set("acme", epoch=7)
    await house.node().start()
    ended = await house.ended("acme", id)
    assert (ended["state"], ended["epoch"]) == (State.DONE, 1)
    ((job, tenant_id, epoch),) = seen
    assert (tenant_id, epoch, job.tenant.epoch) == ("acme", 7, 7)
    assert (job.payload, job.attempt, job.actor, job.org_id, job.call) == ({"n": 1}, 1, "ada", "org-1", "c1")
    with pytest.raises(LookupError):
        current_tenant()


@pytest.mark.parametrize(
    ("changes", "writes", "outcome"),
    [
        ({"status": "suspended"}, True, State.SCHEDULED),
        ({"status": "provisioning"}, False, State.SCHEDULED),
        ({"status": "migrating"}, True, State.SCHEDULED),
        ({"status": "migrating"}, False, State.DONE),
        ({"status": "deleting"}, True, State.DROPPED),
        ({"status": "deleted"}, True, State.DROPPED),
    ],
)
async def test_the_state_of_the_tenant_decides(house: House, changes: Any, writes: bool, outcome: State) -> None:
    """JB-1: ready runs, suspended waits, deleted drops with a record, migrating waits if it writes."""
    runs: list[str] = []

    async def note(job: Job) -> None:
        runs.append(job.id)

    house.jobs.handle("note", note, writes=writes)
    id = await house.enqueue("acme", "note")
    house.set("acme", **changes)
    await house.node().start()
    found = await house.until("acme", id, lambda job: job.get("reason") is not None or job["state"] == State.DONE)
    assert found["state"] == outcome
    assert bool(runs) == (outcome == State.DONE)
    if outcome == State.SCHEDULED:
        assert found["attempt"] == 0, "waiting is no attempt"
        house.set("acme", status="ready")
        assert (await house.ended("acme", id))["state"] == State.DONE


async def test_a_tenant_that_is_unknown_drops_its_jobs(house: House) -> None:
    house.jobs.handle("note", nothing)
    id = await house.enqueue("acme", "note")
    del house.tenants["acme"]
    await house.node().start()
    assert (await house.ended("acme", id))["reason"] == "the app is gone"


async def test_the_actor_must_still_hold_the_permission(house: House) -> None:
    """JB-1: current permissions count, not those when the job was made."""
    house.jobs.handle("export", nothing, permission="read:users")
    params = Params(tenant=house.tenants["acme"], user={"_id": "ada"})
    house.permissions = {"read:users"}
    kept = await house.enqueue("acme", "export", params=params)
    await house.node().start()
    assert (await house.ended("acme", kept))["state"] == State.DONE
    house.permissions = set()
    lost = await house.ended("acme", await house.enqueue("acme", "export", params=params))
    assert lost["state"] == State.DROPPED
    assert "read:users" in lost["reason"]
    own = await house.ended("acme", await house.enqueue("acme", "export"))
    assert own["state"] == State.DONE, "the server itself needs no permission"


async def test_what_fails_is_tried_again_and_given_up_in_the_end(house: House) -> None:
    attempts: list[int] = []

    async def fail(job: Job) -> None:
        attempts.append(job.attempt)
        raise RuntimeError("canary: this text may hold a secret")

    house.jobs.handle("fail", fail, attempts=3)
    id = await house.enqueue("acme", "fail")
    await house.node().start()
    ended = await house.ended("acme", id)
    assert attempts == [1, 2, 3]
    assert (ended["state"], ended["reason"]) == (State.FAILED, "RuntimeError")
    assert "expires_at" in ended
    assert pause(3) > pause(1)


async def test_what_can_never_succeed_is_given_up_at_once(house: House) -> None:
    async def refuse(job: Job) -> None:
        raise GiveUp("the address does not exist")

    async def sleep(job: Job) -> None:
        await asyncio.Event().wait()

    house.jobs.handle("refuse", refuse)
    house.jobs.handle("sleep", sleep, attempts=1, timeout=0.05)
    await house.node().start()
    refused = await house.ended("acme", await house.enqueue("acme", "refuse"))
    assert (refused["attempt"], refused["reason"]) == (1, "the address does not exist")
    slept = await house.ended("acme", await house.enqueue("acme", "sleep"))
    assert (slept["state"], slept["reason"]) == (State.FAILED, "TimeoutError")


async def test_queues_are_fair_between_tenants(house: House) -> None:
    """JB-3: one tenant's long queue does not delay the others."""
    order: list[str] = []

    async def note(job: Job) -> None:
        order.append(job.tenant.id)

    house.jobs.handle("note", note)
    documents = [house.jobs.document(house.tenants["acme"], "note", {}, None) for _ in range(1000)]
    await house.deployment.client[f"{house.database}_control"]["jobs"].insert_many(documents)
    last = [await house.enqueue("globex", "note") for _ in range(3)]
    await house.node(at_once=4).start()
    for id in last:
        await house.ended("globex", id)
    assert max(index for index, tenant in enumerate(order) if tenant == "globex") < 20


async def test_a_job_that_ends_its_nodes_does_not_end_them_all(house: House) -> None:
    """JB-3: an attempt that is lost with its node is no failure that anybody notes; such a job is given up all the same."""
    runs: list[str] = []

    async def note(job: Job) -> None:
        runs.append(job.id)

    house.jobs.handle("note", note, attempts=1)
    kept, lost = (house.jobs.document(house.tenants["acme"], "note", {}, None) for _ in range(2))
    await house.store.insert({**kept, "attempt": MOST_LOST})
    await house.store.insert({**lost, "attempt": MOST_LOST + 1})
    await house.node().start()
    assert (await house.ended("acme", kept["_id"]))["state"] == State.DONE
    ended = await house.ended("acme", lost["_id"])
    assert (ended["state"], ended["reason"]) == (State.FAILED, "its node was lost at each attempt")
    assert runs == [kept["_id"]]


async def test_the_queue_of_a_suspended_tenant_is_left_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """JB-3: not each of its jobs is taken and put back, again and again, at the cost of everybody's database."""
    claimed: list[str] = []
    claim = house.store.claim

    async def count(app_id: str, *arguments: Any) -> Any:
        claimed.append(app_id)
        return await claim(app_id, *arguments)

    monkeypatch.setattr(house.store, "claim", count)
    house.jobs.handle("note", nothing)
    for _ in range(30):
        await house.enqueue("acme", "note")
    house.set("acme", status="suspended")
    await house.node(delay=60).start()
    for _ in range(10):
        await house.ended("globex", await house.enqueue("globex", "note"))
    assert claimed.count("acme") < 5


async def test_turns_are_found_in_one_pass(house: House) -> None:
    """JB-3: ten thousand tenants with waiting jobs do not hold up everybody's calls."""

    class Waiting(list[str]):
        passes = 0

        def __iter__(self) -> Iterator[str]:
            self.passes += 1
            return super().__iter__()

    waiting = Waiting(f"app-{number}" for number in range(50))
    worker = house.node(at_once=1)
    for _ in range(2):
        await worker._take_turns(waiting)
        worker._turns = [*waiting]
    assert waiting.passes < 6


async def test_a_tenant_runs_a_bounded_number_of_jobs_at_once(house: House) -> None:
    """JB-3: the rest of a node's places stay free for the others."""
    running = most = 0
    go_on = asyncio.Event()

    async def wait(job: Job) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1

    house.jobs.handle("wait", wait)
    house.jobs.handle("note", nothing)
    ids = [await house.enqueue("acme", "wait") for _ in range(10)]
    await house.node(per_tenant=3).start()
    assert (await house.ended("globex", await house.enqueue("globex", "note")))["state"] == State.DONE
    await until(lambda: most == 3)
    go_on.set()
    for id in ids:
        await house.ended("acme", id)
    assert most == 3


async def test_jobs_of_a_dead_node_are_done_by_another(house: House) -> None:
    """The lease runs out by the database's clock, and the attempt of the dead node cannot settle any more."""
    began = asyncio.Event()
    runs: list[int] = []

    async def hang(job: Job) -> None:
        runs.append(job.attempt)
        if job.attempt == 1:
            began.set()
            await asyncio.Event().wait()

    house.jobs.handle("hang", hang)
    dead = house.node(lease=0.3)
    id = await house.enqueue("acme", "hang")
    await dead.start()
    await began.wait()
    token = (await house.document("acme", id))["token"]
    await dead.stop(grace=0)
    await house.node(lease=0.3).start()
    assert (await house.ended("acme", id))["state"] == State.DONE
    assert runs == [1, 2]
    assert not await house.store.settle(id, token, {"state": State.FAILED})


async def test_a_job_that_goes_on_keeps_its_lease(house: House) -> None:
    runs: list[int] = []

    async def work(job: Job) -> None:
        runs.append(job.attempt)
        await asyncio.sleep(1.0)

    house.jobs.handle("work", work)
    id = await house.enqueue("acme", "work")
    await house.node(lease=0.3).start()
    await house.node(lease=0.3).start()
    assert (await house.ended("acme", id))["state"] == State.DONE
    assert runs == [1]


async def test_a_job_can_be_for_later(house: House) -> None:
    house.jobs.handle("note", nothing)
    later = await house.enqueue("acme", "note", run_at=datetime.now(UTC) + LATER)
    await house.node().start()
    await house.ended("acme", await house.enqueue("acme", "note"))
    assert (await house.document("acme", later))["state"] == State.SCHEDULED


async def test_jobs_of_the_control_plane_are_a_kind_of_their_own(house: House) -> None:
    """JB-4: made explicitly, for the control plane alone, and in its scope; tenants cannot make them."""
    seen: list[str] = []

    async def note(job: Job) -> None:
        seen.append(current_tenant().id)

    house.jobs.handle("reconcile", note, control=True)
    with pytest.raises(BadRequest, match="no jobs of the name"):
        await house.enqueue("acme", "reconcile")
    with pytest.raises(LookupError):
        await house.jobs.enqueue_control("reconcile", house.tenants["acme"])
    id = await house.jobs.enqueue_control("reconcile", house.tenants[CONTROL_PLANE])
    await house.node().start()
    await house.ended(CONTROL_PLANE, id)
    assert seen == [CONTROL_PLANE]


async def test_names_are_taken_once() -> None:
    jobs = Jobs(None, control_plane=CONTROL_PLANE)  # type: ignore[arg-type]  # It is never asked.
    jobs.handle("note", nothing)
    with pytest.raises(ValueError, match="handler already"):
        jobs.handle("note", nothing)
    with pytest.raises(ValueError, match="Nobody handles"):
        jobs.schedule("nightly", "0 3 * * *", "unheard-of")
    with pytest.raises(ValueError, match="no schedule"):
        jobs.schedule("nightly", "every night", "note")
    jobs.schedule("nightly", "0 3 * * *", "note")
    with pytest.raises(ValueError, match="schedule 'nightly' already"):
        jobs.schedule("nightly", "0 4 * * *", "note")


async def test_a_database_that_is_gone_for_a_while_costs_no_job(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.jobs.handle("note", nothing)
    id = await house.enqueue("acme", "note")
    asked = house.store.tenants
    failures = 0

    async def fail_twice() -> Any:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise Conflict
        return await asked()

    monkeypatch.setattr(house.store, "tenants", fail_twice)
    await house.node().start()
    assert (await house.ended("acme", id))["state"] == State.DONE
