"""What the servers of one database share besides it: events, and counts for limits; in Redis where the settings name one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hooks.errors import Unavailable
from server.backend import Backend, StartError
from services.bus.envelope import Bus
from services.bus.redis import RedisBus
from services.control.bus import MongoBus
from services.limits.redis import RedisRateStore
from services.limits.store import RateStore
from services.redis import NoRedis


@contextmanager
def wanted_by(setting: str) -> Iterator[None]:
    """What a setting names has to be there at the start.

    Raises:
        StartError: it is not.
    """
    try:
        yield
    except (NoRedis, Unavailable) as error:
        raise StartError(f"{setting}: {error}") from error


def bus_of(backend: Backend) -> Bus:
    """How servers tell each other of events.

    Raises:
        StartError: the setting names no Redis.
    """
    settings = backend.settings
    if settings.bus is None:
        return MongoBus(backend.deployment, backend.nodes, database=settings.database)
    with wanted_by("ROOST_BUS"):
        return RedisBus(settings.bus.get_secret_value(), database=settings.database)


def rate_store_of(backend: Backend) -> RateStore:
    """Where all servers' calls are counted for rates.

    Raises:
        StartError: the setting names no Redis.
    """
    settings = backend.settings
    if settings.rates is None:
        return backend.rate_store
    with wanted_by("ROOST_RATES"):
        return RedisRateStore(settings.rates.get_secret_value(), database=settings.database)
