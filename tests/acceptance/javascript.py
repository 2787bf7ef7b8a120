"""Runs a scenario of `js/` in Node and takes what it found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "js"
PATIENCE = 60
"""Seconds for a whole scenario; a single call in it has five."""


async def run(scenario: str, *, meanwhile: Callable[[], Awaitable[None]] | None = None, **arguments: Any) -> Any:
    """What the scenario reports. A scenario that fails, fails the test with what it wrote.

    `meanwhile` is done when the scenario has said that it is ready for it.
    """
    process = await asyncio.create_subprocess_exec(
        "node",
        f"{scenario}.mjs",
        json.dumps(arguments),
        cwd=DIRECTORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            if meanwhile is not None:
                assert process.stdout is not None
                if await process.stdout.readline() == b"ready\n":
                    await meanwhile()
            output, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{scenario}.mjs failed:\n{complaint.decode()}"
    return json.loads(output)


def failed(outcome: Any, code: int, name: str, message: str | None = None) -> bool:
    """Whether a call ended in this Feathers error, of its class on the client, and with this message if given."""
    error = outcome.get("error", {})
    class_name = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
    seen = (error.get("code"), error.get("name"), error.get("className"), error.get("isOfItsClass"))
    return seen == (code, name, class_name, True) and message in (None, error["message"])
