"""A real Redis for the tests, which ends with the block."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.database.mongod import free_port


@asynccontextmanager
async def redis_server() -> AsyncIterator[str]:
    """Its address."""
    program = shutil.which("redis-server")
    assert program is not None, "redis-server is missing: install Debian's package of that name"
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(10):
            while b"Ready to accept connections" not in await process.stdout.readline():
                pass
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()
