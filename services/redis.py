"""A client of Redis (the extra `redis`), for what can do without MongoDB: the bus, and rates."""

from __future__ import annotations

from typing import Any


class NoRedis(Exception):
    """The library is not installed, or the address is none."""


def connect(url: str, **options: Any) -> tuple[Any, tuple[type[Exception], ...]]:
    """A client that has not connected yet, and what it raises when Redis does not answer. `url` is `redis://` or `rediss://`.

    Raises:
        NoRedis: see there.
    """
    try:
        from redis import asyncio as library
        from redis.exceptions import RedisError
    except ImportError as error:
        raise NoRedis("needs the extra 'redis'") from error
    try:
        return library.Redis.from_url(url, health_check_interval=15, **options), (RedisError, OSError)
    except ValueError as error:
        raise NoRedis("must be redis://host:port or rediss://host:port") from error
