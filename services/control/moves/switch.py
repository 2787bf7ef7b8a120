"""The switch: the moment in which nobody writes, and after which everybody does so at the target (8.2.11, steps 5 to 7).

It is as short as can be. Who does not answer at once is not waited for while writes stand still: they go on at the source,
until it is certain that he is gone, and then the switch is tried again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from hooks.errors import Conflict, FeathersError, Unavailable
from services.control.moves.copying import Pair
from services.control.moves.entry import Entries, Migration
from services.control.moves.tail import Tail
from services.control.nodes import BEAT, Node, Nodes

log = structlog.get_logger()

ANSWER = 1.5
"""Seconds that writes stand still for the answer of all nodes."""
LIVELY = 3 * BEAT
"""Seconds since the last beat of a node that is expected to answer."""
LOOK = 0.02
TRIES = 60


@dataclass(slots=True)
class Switched:
    """How the switch went."""

    pause: float
    """Seconds for which the tenant could not be written."""
    changes: int
    """Changes that were still to be brought over meanwhile."""
    nodes: list[str] = field(default_factory=list)
    """Those that had stopped writing."""
    tries: int = 1


class NotAnswered(Unavailable):
    """A server has not said that it has stopped."""


class Switch:
    """Stops the writes of a tenant, and starts them at the other place."""

    def __init__(self, entries: Entries, nodes: Nodes) -> None:
        self._entries = entries
        self._nodes = nodes

    async def __call__(self, move: Migration, pair: Pair, tail: Tail) -> tuple[Migration, Switched]:
        """The move as it is then, not opened yet, and how it went.

        Raises:
            Conflict: the records are not the same at both places, or the app was changed meanwhile.
        """
        for number in range(1, TRIES + 1):
            await self._all_lively()
            await tail.catch_up()
            # What can never be settled is found out while writes go on.
            await pair.settle()
            try:
                flipped, switched = await self._try(move, pair, tail)
            except NotAnswered as silent:
                log.warning("a node did not stop writing in time", tenant=move.tenant.id, node=str(silent))
                continue
            switched.tries = number
            return flipped, switched
        raise Conflict("The servers that use the app do not all answer")

    async def heard(self, move: Migration, patience: float = ANSWER) -> list[str]:
        """The nodes by which a move is in force as it is here; returns when it is so at all of them that live.

        Raises:
            NotAnswered: not within the patience.
        """
        deadline = time.monotonic() + patience
        while True:
            nodes = [node for node in await self._nodes.all() if not node.is_fenced]
            silent = [node.id for node in nodes if node.acknowledged.get(move.tenant.id, 0) < move.tenant.epoch]
            if not silent:
                return [node.id for node in nodes]
            if time.monotonic() > deadline:
                raise NotAnswered(silent[0])
            await asyncio.sleep(LOOK)

    async def _try(self, move: Migration, pair: Pair, tail: Tail) -> tuple[Migration, Switched]:
        began = time.monotonic()
        async with self._frozen(move) as frozen:
            nodes = await self.heard(frozen)
            caught = await tail.catch_up()
            await pair.settle()
            await self._verify(pair, tail)
            flipped = await self._entries.flip(frozen)
        try:
            await self.heard(flipped)
        except NotAnswered as silent:
            # It writes nothing, for it has stopped; it may read what was until it hears.
            log.warning("a node has not heard where the app is now", tenant=move.tenant.id, node=str(silent))
        opened = await self._entries.open(flipped)
        return opened, Switched(time.monotonic() - began, caught.changes, nodes)

    async def _verify(self, pair: Pair, tail: Tail) -> None:
        for name in await pair.names():
            touched = [*tail.touched.get(name, ())]
            if await pair.differences(name, touched):
                raise Conflict(f"The records of '{name}' are not the same at both places")
            here, there = await _count(pair, pair.source, name), await _count(pair, pair.target, name)
            if here != there and await pair.differences(name):
                raise Conflict(f"'{name}' has {here} records at the source and {there} at the target")

    async def _all_lively(self) -> None:
        """Returns when no node is silent of which it is not certain that it writes no more."""
        while True:
            nodes = await self._nodes.all()
            if all(_is_settled(node) for node in nodes):
                return
            await asyncio.sleep(BEAT / 2)

    @asynccontextmanager
    async def _frozen(self, move: Migration) -> AsyncIterator[Migration]:
        """The tenant is not written within the block; when it fails, it is written at the source again."""
        frozen = await self._entries.freeze(move)
        try:
            yield frozen
        except BaseException:
            await asyncio.shield(self._thaw(frozen))
            raise

    async def _thaw(self, frozen: Migration) -> None:
        try:
            await self._entries.thaw(frozen)
        except FeathersError as error:
            log.warning(
                "an app stays frozen until its move goes on", tenant=frozen.tenant.id, error=type(error).__name__
            )


def _is_settled(node: Node) -> bool:
    return node.silent < LIVELY or node.is_fenced


async def _count(pair: Pair, raw: Any, name: str) -> int:
    return int(await raw[name].count_documents({"app_id": pair.app_id}, maxTimeMS=2500))
