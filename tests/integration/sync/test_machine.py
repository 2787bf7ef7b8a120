"""SY-3..11: whatever happens in whatever order, once it is quiet each app has what it is to have, and what is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.integration.sync.machine import APPS_OF_WORLD, WORDS, World
from tests.integration.sync.people import APPS
from tests.support.roost import start_roost

apps = st.sampled_from(APPS_OF_WORLD)
names = st.sampled_from(["red", "green", "blue"])
kinds = st.sampled_from(["roles", "resource_servers", "connections"])
numbers = st.integers(0, 3)


class SyncMachine(RuleBasedStateMachine):
    """Everything that may happen."""

    world: ClassVar[World]
    runner: ClassVar[asyncio.Runner]

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Does it, and everything that goes on meanwhile."""
        self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.do(self.world.begin())

    @rule(kind=kinds, name=names)
    def create(self, kind: str, name: str) -> None:
        self.do(self.world.create(kind, name))

    @rule(kind=kinds, number=numbers, name=names)
    def rename(self, kind: str, number: int, name: str) -> None:
        self.do(self.world.patch(kind, number, {"identifier" if kind == "resource_servers" else "name": name}))

    @rule(number=numbers, text=st.sampled_from(["a", "b"]))
    def patch(self, number: int, text: str) -> None:
        self.do(self.world.patch("roles", number, {"description": text}))

    @rule(kind=kinds, number=numbers, on=st.booleans())
    def toggle(self, kind: str, number: int, on: bool) -> None:
        self.do(self.world.patch(kind, number, {"metadata": {"sync": on}}))

    @rule(kind=kinds, number=numbers)
    def remove(self, kind: str, number: int) -> None:
        self.do(self.world.remove(kind, number))

    @rule(number=numbers, word=st.sampled_from([*WORDS, "go"]))
    def allow(self, number: int, word: str) -> None:
        self.do(self.world.allow(number, word))

    @rule(number=numbers)
    def forbid(self, number: int) -> None:
        self.do(self.world.forbid(number))

    @rule(app=apps, words=st.sampled_from([[], ["roles"], ["resource_servers"], ["red"]]))
    def opt_out(self, app: str, words: list[str]) -> None:
        self.do(self.world.exclude(app, words))

    @rule(app=apps, name=names)
    def make_own(self, app: str, name: str) -> None:
        self.do(self.world.make_own(app, name))

    @rule(app=apps, name=names)
    def remove_own(self, app: str, name: str) -> None:
        self.do(self.world.remove_own(app, name))

    @rule(app=apps)
    def go_away(self, app: str) -> None:
        self.do(self.world.go_away(app))

    @rule(app=apps)
    def come_back(self, app: str) -> None:
        self.do(self.world.come_back(app))

    @rule()
    def make_app(self) -> None:
        self.do(self.world.make_app())

    @rule(workers=st.sampled_from([(0,), (1,), (0, 1)]))
    def work(self, workers: tuple[int, ...]) -> None:
        self.do(self.world.work(*workers))

    @rule()
    def hear_again(self) -> None:
        self.do(self.world.hear_again())

    @rule()
    def fall_asleep(self) -> None:
        self.do(self.world.keep_snapshot())

    @rule()
    def wake_up(self) -> None:
        self.do(self.world.wake_up())

    def teardown(self) -> None:
        """Quiet: the truth of every app."""
        self.do(self._conclude())

    async def _conclude(self) -> None:
        await self.world.settle()
        for app in await self.world.apps():
            target = await self.world.sync.targets.get(app)
            assert target is not None
            if not self.world.freed:
                dry = await self.world.sync.runs.one(target, dry_run=True)
                assert dry.counts.keys() <= {"unchanged", "conflict"}, (app, dry.counts, dry.rows)
            # A conflict that an app has ended by itself is seen by the next look at it as a whole.
            account = await self.world.sync.runs.one(target)
            assert account.is_complete
        await self.world.check()


@pytest.fixture(scope="module")
def world(mongod: str) -> Iterator[None]:
    """A server whose own worker is stopped."""
    with asyncio.Runner() as runner:
        roost = runner.run(start_roost(mongod, APPS))
        runner.run(roost.backend.sync.worker.stop())
        SyncMachine.world, SyncMachine.runner = World(roost), runner
        yield
        runner.run(roost.drop())


def run(examples: int, steps: int) -> None:
    """Tries so many stories of so many steps."""
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        # A story that ends badly is told as it was: to shorten it takes longer than to read it.
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    run_state_machine_as_test(SyncMachine, settings=how)


@pytest.mark.usefixtures("world")
def test_whatever_happens_it_ends_well() -> None:
    """SY-4, SY-5, SY-7, SY-8, SY-9, SY-10: a few stories, always the same."""
    run(12, 20)


@pytest.mark.load
@pytest.mark.usefixtures("world")
def test_whatever_else_happens_it_ends_well() -> None:
    """SY-4..10: many stories, longer ones."""
    run(150, 50)
