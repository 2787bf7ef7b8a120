"""The guide's chapter on jobs says what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from server.main import Roost
from tests.support.client import connect, until

CHAPTER = Path(__file__).parents[3] / "docs" / "guide" / "jobs.md"


async def test_the_plug_in_of_the_chapter_works(roost: Roost, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", CHAPTER.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    names["configure"](roost.app)
    roost.app.service("users").add_hooks({"after": {"create": [names["ask_for_digest"]]}})
    async with connect(roost, "acme") as ada:
        user = await ada.call("create", "users", {"username": "ada", "password": "secret-123"})
        said: list[str] = []

        def digested() -> bool:
            said.append(capsys.readouterr().out)
            return f"acme {{'list': '{user['_id']}'}} 1" in "".join(said)

        await until(digested)
    assert roost.jobs.schedules["weekly digest"].jitter == 600
