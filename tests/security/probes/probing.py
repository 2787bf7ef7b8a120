"""Sends what the generator says, and judges the answers, the events, and what is stored."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any

from hooks.context import Params
from hooks.errors import FeathersError
from tests.security.probes.attacks import Attack, Attacker, Target, attacks
from tests.security.probes.declarations import PROBES, Probe
from tests.security.probes.names import Names, form, renamed, without
from tests.security.probes.world import SECRETS, Side, World, stored
from tests.support.client import Caller, CallError, outcome

REFUSED = frozenset({400, 401, 403, 404, 405, 409})
"""The answers to what cannot be done."""


class Breach(AssertionError):
    """Something of a tenant's has reached another."""


async def record_of(side: Side, path: str) -> dict[str, Any]:
    """A record of the side's, made when it is first wanted."""
    if path not in side.made:
        probe, side.kept = PROBES[path], None
        if probe.make is not None:
            side.made[path] = await probe.make(side)
        else:
            place = path if probe.where is None else probe.where(side.names)
            side.made[path] = await side.http.call("create", place, probe.data(side.names))
    return dict(side.made[path])


async def probe_service(world: World, path: str, transport: str, methods: tuple[str, ...] | None = None) -> int:
    """Sends all attacks of the south on the north's record of a service; how many there were.

    Raises:
        Breach: an answer, an event or a record is not as if the north were not there.
    """
    north, south, probe = world.north, world.south, PROBES[path]
    there = _target(north, probe, await record_of(north, path))
    nowhere = _unknown(there)
    own = Attacker(south.names, await _own_id(south, path, probe))
    for listener in (north.listener, north.socket, south.listener, south.socket):
        await listener.take_events()
    before = north.kept or await stored(world.roost, north.names.app)
    offered = methods or world.offered(path)
    pairs = zip(attacks(probe, path, offered, own, there), attacks(probe, path, offered, own, nowhere), strict=True)
    count = 0
    duel = _Duel(south, south.caller(transport), probe, own, there.names, nowhere.names)
    for real, void in pairs:
        await duel.compare(real, void)
        count += 2
    if "remove" in offered and "remove" in getattr(
        getattr(world.registered()[path].service, "options", None), "multi", ()
    ):
        # His own record went with the last attacks.
        del south.made[path]
    await _check_events(world)
    north.kept = await stored(world.roost, north.names.app)
    if north.kept != before:
        raise Breach(f"'{path}' over {transport} has changed what is stored of the north")
    return count


@dataclass(frozen=True)
class _Duel:
    """The same call about what is another's, and about what is nowhere."""

    side: Side
    caller: Caller
    probe: Probe
    own: Attacker
    there: Names
    nowhere: Names

    async def compare(self, real: Attack, void: Attack) -> None:
        """Makes both calls.

        Raises:
            Breach: the first is answered by something of the other's, or unlike the second.
        """
        found, missed = await self._ask(real), await self._ask(void)
        told = _text(found)
        if any(self._is_shown(attack, answer) for attack, answer in ((real, found), (void, missed))):
            raise Breach(f"{real} is answered by {told[:500]}")
        if isinstance(found, CallError) and found.code not in REFUSED:
            raise Breach(f"{real} is answered by {found}")
        if real.alike and not self._is_same(found, missed, by_value=real.method in ("find", "get")):
            raise Breach(f"{real} is answered by {told[:500]}, but for what is nowhere by {_text(missed)[:500]}")

    def _is_shown(self, attack: Attack, answer: Any) -> bool:
        """Whether an answer has anything of the other's record in it: even its id, but where the caller has sent that."""
        text = _text(answer)
        if SECRETS[self.there.app] in text:
            return True
        is_found = attack.method in ("find", "get") and not isinstance(answer, CallError)
        return is_found and self.there.id != self.own.id and f'"{self.there.id}"' in text

    async def _ask(self, attack: Attack) -> Any:
        """The answer; what was made is removed, so that both calls meet the same."""
        answer = await outcome(self.caller, attack.method, attack.path, *attack.arguments)
        if attack.method == "create" and isinstance(answer, dict) and answer.get(self.probe.id):
            removed = await outcome(self.caller, "remove", attack.path, answer[self.probe.id])
            if isinstance(removed, CallError):
                with contextlib.suppress(FeathersError):
                    await self.side.roost.app.call(
                        attack.path, "remove", Params(tenant=self.side.tenant()), id=answer[self.probe.id]
                    )
        return answer

    def _is_same(self, found: Any, missed: Any, *, by_value: bool) -> bool:
        if by_value or isinstance(found, CallError) or isinstance(missed, CallError):
            one, other = (without(self._still(answer), self.there, self.nowhere) for answer in (found, missed))
            return one == other
        return bool(form(found) == form(missed))

    def _still(self, answer: Any) -> str:
        """What an answer says, but for values that change with every call."""
        text = _text(answer)
        for field in self.probe.moving:
            text = re.sub(rf'"{field}": [^,}}]+', "", text)
        return text


def _text(answer: Any) -> str:
    return json.dumps(answer.wire if isinstance(answer, CallError) else answer)


async def _check_events(world: World) -> None:
    """The north hears nothing, for it has done nothing; the south hears of its own alone."""
    for listener in (world.north.listener, world.north.socket):
        if heard := await listener.take_events():
            raise Breach(f"the north has heard of the south: {heard[:3]}")
    await check_silence(world.south, world.north)


async def check_silence(side: Side, other: Side) -> None:
    """Nothing of the other's has come to this side.

    Raises:
        Breach: something has.
    """
    for listener in (side.listener, side.socket):
        heard = json.dumps([event.arguments for event in await listener.take_events()])
        if SECRETS[other.names.app] in heard or SECRETS[other.names.app] in str(heard):
            raise Breach(f"the {side.names.app} has heard {heard[:500]}")


def _target(side: Side, probe: Probe, record: dict[str, Any]) -> Target:
    names = Names(**{**_as_dict(side.names), "id": str(record[probe.id])})
    return Target(names, {field: record[field] for field in probe.fields if field in record})


def _unknown(target: Target) -> Target:
    names = target.names.unknown()
    return Target(names, renamed(target.values, target.names, names))


async def _own_id(side: Side, path: str, probe: Probe) -> str:
    if probe.make is None or path in ("settings", "quotas", "rooms"):
        return str((await record_of(side, path))[probe.id])
    return side.names.role


def _as_dict(names: Names) -> dict[str, str]:
    return {field: getattr(names, field) for field in names.__dataclass_fields__}
