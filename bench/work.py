"""The rows of the benchmark: what is done at a server, and what is counted meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

from bench.client import Answer, CallError, Refused
from bench.dialects import Closable, Dialect, Link, marker
from bench.measure import Stopwatch, tree_rss_kib
from bench.parse import RestError
from bench.plan import CROWD, OTHER, Account, Outcome, Plan
from bench.wire import HandshakeError

Body = Callable[[Account, int], bytes]
Row = Callable[[Plan, Dialect], Awaitable[Outcome]]

PATIENCE = 5.0
"""How long, in seconds, an event may be on its way before it counts as lost."""


class Ear:
    """Counts the events of one tenant's client, and those that should never have reached it."""

    def __init__(self, tenant: str) -> None:
        self._marker = marker(tenant)
        self._due = -1
        self._complete = asyncio.Event()
        self.heard = 0
        self.leaked = 0

    def __call__(self, event: bytes) -> None:
        if self._marker not in event:
            self.leaked += 1
            return
        self.heard += 1
        if self.heard == self._due:
            self._complete.set()

    async def hear(self, due: int) -> int:
        """Waits until `due` events have come in all, with patience; the number that is missing then."""
        self._due = due
        self._complete.clear()
        if self.heard < due:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._complete.wait()
        return max(due - self.heard, 0)


class Tally:
    """Latencies of what was answered while `recording`; failures at any time."""

    def __init__(self) -> None:
        self.recording = False
        self.latencies: list[float] = []
        self.failed = 0
        self.error = ""

    def count(self, started: float, failure: bytes = b"") -> None:
        if failure:
            self.failed += 1
            self.error = failure[:300].decode(errors="replace")
        elif self.recording:
            self.latencies.append(time.perf_counter() - started)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Counts what is awaited inside."""
        started = time.perf_counter()
        try:
            yield
        except (CallError, Refused, HandshakeError, RestError, OSError) as error:
            self.count(started, repr(error).encode())
        else:
            self.count(started)

    def outcome(self, watch: Stopwatch) -> Outcome:
        """What there is to tell when the window ends."""
        self.recording = False
        seconds, server, mongod, own = watch.read()
        latencies = [latency * 1000 for latency in self.latencies] or [0.0]
        return Outcome(
            calls=len(self.latencies),
            seconds=seconds,
            server_cpu=server,
            mongod_cpu=mongod,
            load_cpu=own,
            p50=statistics.median(latencies),
            p99=sorted(latencies)[len(latencies) * 99 // 100],
        )


class Lane:
    """Keeps one call of a link in flight until it is told to stop."""

    def __init__(self, link: Link, bodies: Iterator[bytes], tally: Tally) -> None:
        self._link, self._bodies, self._tally = link, bodies, tally
        self._started = 0.0
        self.going = True
        self.answered = 0
        self.stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self._started = time.perf_counter()
        self._link.call(next(self._bodies), self._done)

    def _done(self, failure: bytes) -> None:
        self._tally.count(self._started, failure)
        self.answered += not failure
        if self.going:
            self.start()
        else:
            self.stopped.set_result(None)


def account_of(plan: Plan, tenant: str) -> Account:
    return next(account for account in plan.accounts if account.tenant == tenant)


async def listen(dialect: Dialect, account: Account, on_event: Answer, number: int) -> list[Closable]:
    """That many clients of the account, connected a few at a time."""
    gate = asyncio.Semaphore(8)

    async def one() -> Closable:
        async with gate:
            return await dialect.listen(account, on_event)

    return list(await asyncio.gather(*(one() for _ in range(number))))


@contextlib.asynccontextmanager
async def closing(clients: list[Closable]) -> AsyncIterator[None]:
    """Closes the clients in the end."""
    try:
        yield
    finally:
        await asyncio.gather(*(client.close() for client in clients))


@contextlib.asynccontextmanager
async def bystanders(plan: Plan, dialect: Dialect) -> AsyncIterator[Ear]:
    """Clients of another tenant, with one ear for all of them."""
    ear = Ear(OTHER)
    clients = await listen(dialect, account_of(plan, OTHER), ear, plan.scale.bystanders)
    async with closing(clients):
        yield ear


async def closed_loop(
    plan: Plan, dialect: Dialect, body: Body, connections: int, in_flight: int, events: int
) -> Outcome:
    """Connections of as many tenants, each with some calls in flight; `events` of them are due for each call."""
    accounts = plan.accounts[:connections]
    ears = [Ear(account.tenant) for account in accounts]
    links = [await dialect.link(account, ear, in_flight) for account, ear in zip(accounts, ears, strict=True)]
    tally = Tally()
    async with closing(list(links)), bystanders(plan, dialect) as bystander:
        lanes: list[Lane] = []
        for account, link in zip(accounts, links, strict=True):
            bodies = map(functools.partial(body, account), itertools.count())
            lanes += [Lane(link, bodies, tally) for _ in range(in_flight)]
        for lane in lanes:
            lane.start()
        await asyncio.sleep(plan.scale.warm_up)
        tally.recording = True
        watch = Stopwatch(plan.server, plan.mongod)
        await asyncio.sleep(plan.scale.window)
        outcome = tally.outcome(watch)
        for lane in lanes:
            lane.going = False
        await asyncio.wait_for(asyncio.gather(*(lane.stopped for lane in lanes)), PATIENCE)
        answered = [sum(lane.answered for lane in of_one) for of_one in zip(*[iter(lanes)] * in_flight, strict=True)]
        lost = await asyncio.gather(*(ear.hear(n * events) for ear, n in zip(ears, answered, strict=True)))
    return replace(
        outcome,
        failed=tally.failed,
        error=tally.error,
        lost=sum(lost),
        leaked=sum(ear.leaked for ear in [*ears, bystander]),
    )


def calls(method: str, events: int) -> Row:
    """A row of calls of one method, with all connections."""

    async def row(plan: Plan, dialect: Dialect) -> Outcome:
        body: Body = getattr(dialect, method)
        return await closed_loop(plan, dialect, body, plan.scale.connections, plan.scale.in_flight, events)

    return row


async def latency(plan: Plan, dialect: Dialect) -> Outcome:
    """One connection that does one call at a time."""
    return await closed_loop(plan, dialect, dialect.get, 1, 1, 0)


class Audience(Ear):
    """All subscribers of a tenant: each delivery counts, with the time since the change was sent."""

    def __init__(self, tenant: str, tally: Tally) -> None:
        super().__init__(tenant)
        self._tally = tally
        self.started = 0.0

    def __call__(self, event: bytes) -> None:
        self._tally.count(self.started)
        super().__call__(event)


def fan_out(size: int) -> Row:
    """A row of events: one record of the tenant changes, and that many subscribers hear of it."""

    async def row(plan: Plan, dialect: Dialect) -> Outcome:
        tally = Tally()
        account = account_of(plan, CROWD)
        audience = Audience(CROWD, tally)
        link = await dialect.link(account, audience, 1)
        members = plan.scale.audiences[size]
        clients = [link, *await listen(dialect, account, audience, members - 1)]
        numbers = itertools.count()

        async def publish() -> int:
            """Lets one event go out; the number of subscribers that do not get it."""
            answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            due = audience.heard + members
            audience.started = time.perf_counter()
            link.call(dialect.patch(account, next(numbers)), answered.set_result)
            async with asyncio.timeout(PATIENCE):
                if failure := await answered:
                    raise RuntimeError(failure.decode())
            return await audience.hear(due)

        async def publish_for(seconds: float) -> int:
            lost, end = 0, time.perf_counter() + seconds
            while not lost and time.perf_counter() < end:
                lost = await publish()
            return lost

        async with closing(clients), bystanders(plan, dialect) as bystander:
            lost = await publish_for(plan.scale.warm_up)
            tally.recording = True
            watch = Stopwatch(plan.server, plan.mongod)
            lost += await publish_for(plan.scale.window)
            outcome = tally.outcome(watch)
            if bystander.heard:
                raise RuntimeError("the other tenant published nothing, yet heard itself")
        return replace(outcome, lost=lost, leaked=audience.leaked + bystander.leaked)

    return row


async def connect(plan: Plan, dialect: Dialect) -> Outcome:
    """Connections that come and go, a few at a time, of all tenants in turn."""
    tally = Tally()
    tenants = itertools.cycle(account.tenant for account in plan.accounts)
    going = True

    async def worker() -> None:
        while going:
            client = None
            with tally.attempt():
                client = await dialect.connect(next(tenants))
            if client is not None:
                await client.close()

    workers = [asyncio.create_task(worker()) for _ in range(plan.scale.workers)]
    await asyncio.sleep(plan.scale.warm_up)
    tally.recording = True
    watch = Stopwatch(plan.server, plan.mongod)
    await asyncio.sleep(plan.scale.window)
    outcome = tally.outcome(watch)
    going = False
    await asyncio.gather(*workers)
    return replace(outcome, failed=tally.failed, error=tally.error)


async def authenticate(plan: Plan, dialect: Dialect) -> Outcome:
    """Clients that are connected already log in by token, a few at a time, each once."""
    tally = Tally()
    accounts = list(itertools.islice(itertools.cycle(plan.accounts), plan.scale.fresh))
    clients = [await dialect.fresh(account.tenant) for account in accounts]
    pairs = iter(zip(clients, accounts, strict=True))

    async def worker() -> None:
        for client, account in pairs:
            with tally.attempt():
                await dialect.authenticate(client, account)

    async with closing(clients):
        tally.recording = True
        watch = Stopwatch(plan.server, plan.mongod)
        await asyncio.gather(*(worker() for _ in range(plan.scale.workers)))
        outcome = tally.outcome(watch)
    return replace(outcome, failed=tally.failed, error=tally.error)


async def idle(plan: Plan, dialect: Dialect) -> Outcome:
    """The memory that connections take beyond the first fifth, which warms the server up."""
    tenants = itertools.cycle(account.tenant for account in plan.accounts)
    clients = [await dialect.connect(next(tenants)) for _ in range(plan.scale.idle // 5)]
    await asyncio.sleep(plan.scale.warm_up)
    before = tree_rss_kib(plan.server)
    watch = Stopwatch(plan.server, plan.mongod)
    clients += [await dialect.connect(next(tenants)) for _ in range(plan.scale.idle)]
    await asyncio.sleep(plan.scale.warm_up)
    seconds, *_ = watch.read()
    memory = (tree_rss_kib(plan.server) - before) / plan.scale.idle
    async with closing(clients):
        return Outcome(calls=plan.scale.idle, seconds=seconds, memory=memory)


WORK: dict[str, Row] = {
    "create": calls("create", 1),
    "get": calls("get", 0),
    "find": calls("find", 0),
    "patch": calls("patch", 1),
    "latency": latency,
    "fanout-small": fan_out(0),
    "fanout-large": fan_out(1),
    "connect": connect,
    "authenticate": authenticate,
    "idle": idle,
}
