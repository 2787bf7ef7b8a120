"""The benchmark runs: every row, in its short mode, beside Feathers. Nothing here judges a time."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from tests.acceptance.machine import do_without

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
async def test_the_short_benchmark_does_all_its_work_without_a_leak(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        do_without("npm is not installed")
    command = [sys.executable, "-m", "bench", "--quick", "--servers", "roost,feathers", "--out", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, out.decode()[-3000:]
    rows = [line for line in out.decode().splitlines() if line.startswith("|") and "Roost" in line]
    assert len(rows) == 10, out.decode()
    assert not any("leak" in row or "failed" in row or "lost" in row for row in rows)
