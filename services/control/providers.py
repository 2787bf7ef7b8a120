"""The factory of clients for services elsewhere: the only place where a secret of an app meets what it is for (TC-10).

An app's own provider counts as a whole, or else the control plane's as a whole if that is shared with it (RF-12), or else
what the server itself has. A change builds another client when it is next asked for; who holds the old one keeps it until he
is done.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import structlog

from hooks.errors import BadRequest, FeathersError, Unavailable
from hooks.tenant import Tenant
from services.drivers import Driver, Drivers, Plan, ProbeFailed, options_of

log = structlog.get_logger()

IDLE = 300.0
"""Seconds after which a client that nobody asks for is closed."""
MOST = 1_000
"""Clients that are kept."""
PATIENCE = 10.0
"""Seconds that making a client may take."""

Fallback = Callable[[Tenant], Any]
"""The server's own client of a kind for an app; it is not closed."""


class Kept(Protocol):
    """A secret, with the version by which a client that was made with an older one is known."""

    @property
    def version(self) -> int: ...

    @property
    def value(self) -> str: ...


class SecretsOf(Protocol):
    """The secrets of tenants: `services.control.secrets.Secrets`."""

    async def get(self, app_id: str, name: str) -> Kept | None:
        """The newest value of a name. Raises Unavailable."""
        ...


class Key(NamedTuple):
    """What a client was made for and of."""

    app_id: str
    kind: str
    config_version: str
    secret_version: int


@dataclass(slots=True)
class _Made:
    key: Key
    driver: Driver
    client: Any
    holders: int = 0
    is_old: bool = False


@dataclass(slots=True)
class _Slot:
    """The newest client of an app and kind, and the snapshots by which it was last looked at."""

    lock: asyncio.Lock
    made: _Made | None = None
    seen: tuple[int, int] = (-1, -1)
    used: float = 0.0


class ProviderFactory:
    """Gives out clients, each app's its own."""

    def __init__(
        self,
        drivers: Drivers,
        secrets: SecretsOf,
        *,
        control_plane: Callable[[], Awaitable[Tenant | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`control_plane` tells its tenant as it is now."""
        self._drivers = drivers
        self._secrets = secrets
        self._control_plane = control_plane
        self._clock = clock
        self._fallbacks: dict[str, Fallback] = {}
        self._slots: OrderedDict[tuple[str, str], _Slot] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    def fall_back(self, kind: str, fallback: Fallback) -> None:
        """Says what apps use that have no provider of a kind."""
        self._fallbacks[kind] = fallback

    @asynccontextmanager
    async def client(self, kind: str, tenant: Tenant) -> AsyncIterator[Any]:
        """A client of a kind, of the app's provider as it is now; it stays as it is until the block ends.

        Raises:
            Unavailable: it cannot be made, which concerns this app alone; or there is no provider of this kind.
        """
        made = await self._find(kind, tenant)
        if made is None:
            fallback = self._fallbacks.get(kind)
            if fallback is None:
                raise Unavailable(f"The app has no provider of '{kind}'")
            yield fallback(tenant)
            return
        made.holders += 1
        try:
            yield made.client
        finally:
            made.holders -= 1
            self._close_if_idle(made)

    async def source(self, kind: str, tenant: Tenant) -> str:
        """Whose provider an app uses: `own`, `control_plane`, or `default`, which is the server's."""
        if kind in tenant.providers:
            return "own"
        plane = await self._control_plane()
        return "default" if plane is None or _shared(kind, tenant, plane) is None else "control_plane"

    async def probe(self, kind: str, tenant: Tenant, provider: Mapping[str, Any], secret: str | None) -> None:
        """Tests whether a provider would do, as a part of a dry run; `secret` is a new one, None is that which is kept.

        Raises:
            BadRequest: it does not. Unavailable: it cannot be tested now.
        """
        driver = self._drivers.get(kind, provider.get("driver"))
        assert driver is not None
        ref = provider.get("secret_ref")
        if secret is None and ref is not None:
            kept = await self._secrets.get(tenant.id, ref)
            secret = None if kept is None else kept.value
        plan = Plan(tenant.id, options_of(provider), secret, tenant.is_control_plane)
        client = await _open(driver, plan)
        try:
            async with asyncio.timeout(PATIENCE):
                await driver.probe(client)
        except (ProbeFailed, TimeoutError) as error:
            sentence = str(error) or "The provider does not answer in time"
            raise BadRequest(sentence, errors=[{"path": f"providers.{kind}", "message": sentence}]) from error
        finally:
            await driver.close(client)

    def kept(self) -> list[Key]:
        """What clients there are."""
        return [slot.made.key for slot in self._slots.values() if slot.made is not None]

    async def close(self) -> None:
        """Closes all clients, also those that are in use."""
        for slot in self._slots.values():
            if slot.made is not None:
                self._retire(slot)
        self._slots.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _find(self, kind: str, tenant: Tenant) -> _Made | None:
        plane = await self._control_plane()
        # The place in the queue is the app's and the kind's: nobody waits for another app's client.
        slot = self._slots.get((tenant.id, kind))
        if slot is None:
            slot = self._slots[tenant.id, kind] = _Slot(asyncio.Lock())
        self._slots.move_to_end((tenant.id, kind))
        slot.used = self._clock()
        self._sweep()
        now = (tenant.epoch, 0 if plane is None else plane.epoch)
        if _is_older(slot.seen, now):
            async with slot.lock:
                if _is_older(slot.seen, now):
                    # Should it fail, nobody takes what was before for what is now.
                    slot.seen = (-1, -1)
                    await self._renew(slot, kind, tenant, plane)
                    slot.seen = now
        return slot.made

    async def _renew(self, slot: _Slot, kind: str, tenant: Tenant, plane: Tenant | None) -> None:
        owner, provider = tenant, tenant.providers.get(kind)
        if provider is None and plane is not None and (shared := _shared(kind, tenant, plane)) is not None:
            owner, provider = plane, shared
        if provider is None:
            self._retire(slot)
            return
        driver = self._drivers.get(kind, provider.get("driver"))
        if driver is None:
            self._retire(slot)
            log.error("an app's provider has a driver that is not there", tenant=tenant.id, kind=kind)
            raise Unavailable(f"The app's provider of '{kind}' is not available")
        options = options_of(provider)
        if owner.id != tenant.id:
            options = dict(driver.shared(options, tenant.id))
        try:
            secret = await self._secret(owner, provider)
            version = 0 if secret is None else secret.version
            key = Key(tenant.id, kind, _version(owner.id, str(provider["driver"]), options), version)
            if slot.made is not None and slot.made.key == key:
                return
            plan = Plan(tenant.id, options, None if secret is None else secret.value, owner.is_control_plane)
            client = await _open(driver, plan)
        except FeathersError:
            # What was before is not what is configured now.
            self._retire(slot)
            raise
        self._retire(slot)
        slot.made = _Made(key, driver, client)

    async def _secret(self, owner: Tenant, provider: Mapping[str, Any]) -> Kept | None:
        ref = provider.get("secret_ref")
        if ref is None:
            return None
        secret = await self._secrets.get(owner.id, ref)
        if secret is None:
            log.warning("a provider needs a secret that is not set", tenant=owner.id, secret=ref)
            raise Unavailable("The app's provider asks for a secret that is not set")
        return secret

    def _retire(self, slot: _Slot) -> None:
        made, slot.made = slot.made, None
        if made is not None:
            made.is_old = True
            self._close_if_idle(made)

    def _close_if_idle(self, made: _Made) -> None:
        if made.is_old and not made.holders:
            task = asyncio.create_task(_close(made), name="provider")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _sweep(self) -> None:
        """Closes what was not asked for lately, the longest ago first, and what is too much."""
        while self._slots:
            place, slot = next(iter(self._slots.items()))
            if self._clock() - slot.used < IDLE and len(self._slots) <= MOST:
                return
            if slot.lock.locked():
                return
            del self._slots[place]
            self._retire(slot)


async def _open(driver: Driver, plan: Plan) -> Any:
    try:
        async with asyncio.timeout(PATIENCE):
            return await driver.open(plan)
    except FeathersError:
        raise
    except Exception as error:
        # What a driver says may hold what it was given.
        log.error("a provider's client could not be made", tenant=plan.app_id, error=type(error).__name__)  # noqa: TRY400
        raise Unavailable("The app's provider is not available") from None


async def _close(made: _Made) -> None:
    try:
        await made.driver.close(made.client)
    except Exception as error:
        log.error("a provider's client was not closed", tenant=made.key.app_id, error=type(error).__name__)  # noqa: TRY400


def _shared(kind: str, tenant: Tenant, plane: Tenant) -> Mapping[str, Any] | None:
    """The control plane's provider of a kind, if it is shared with the app (RF-8)."""
    provider = plane.providers.get(kind)
    if provider is None or plane.id == tenant.id or provider.get("shareable") is not True:
        return None
    allowed = provider.get("share_with")
    return provider if allowed is None or tenant.id in allowed else None


def _is_older(seen: tuple[int, int], now: tuple[int, int]) -> bool:
    """Whether what was seen is to be looked at again: snapshots only go forward."""
    return seen != now and now[0] >= seen[0] and now[1] >= seen[1]


def _version(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
