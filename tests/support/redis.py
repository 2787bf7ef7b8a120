"""A real Redis for the tests, which ends with the block."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from services.database.mongod import free_port


@contextmanager
def redis_server(port: int | None = None) -> Iterator[str]:
    """Its address."""
    program = shutil.which("redis-server")
    assert program is not None, "redis-server is missing: install Debian's package of that name"
    port = port or free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert any(b"Ready to accept connections" in line for line in process.stdout), "redis-server has ended"
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.kill()
