"""The chapter on settings does what it says: its plug-ins are taken out of it and run on a real server."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartRoost
from tests.integration.server.test_guide import blocks
from tests.integration.settings.people import administrator, configure, effective, operator, patch, tenant_of
from tests.support.roost import CONTROL_PLANE


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """The chapter's plug-ins, each of which begins with the name of its file."""
    names: list[str] = []
    for code in blocks("settings", "python"):
        named = re.match(r"# (\w+)\.py\n", code)
        assert named is not None
        names.append(named[1])
        (tmp_path / f"{named[1]}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in names:
        importlib.import_module(name)
    yield tuple(names)
    for name in names:
        sys.modules.pop(name, None)


async def test_the_plug_ins_of_the_chapter(roosts: StartRoost, modules: tuple[str, ...]) -> None:
    """RF-3, TC-10: settings, a transform and a driver of plug-ins."""
    roost = await roosts(modules=modules)
    await configure(roost, CONTROL_PLANE, inheritance={"transforms": {"links.terms": "local"}})
    async with operator(roost) as admin, administrator(roost, "acme") as ada:
        await patch(admin, {"links": {"terms": "https://hub.example/terms"}, "shop": {"currency": "CHF"}})
        found = await effective(ada)
        assert found["links"]["terms"]["value"] == "https://hub.example/terms?shop=acme"
        assert found["shop"]["currency"] == {"value": "CHF", "source": "control_plane"}
        await patch(ada, {"providers": {"sms": {"driver": "gateway", "account": "a-1", "secret": "a long secret"}}})
        providers = roost.app.providers
        assert providers is not None
        async with providers.client("sms", await tenant_of(roost, "acme")) as client:
            assert client == ("a-1", "a long secret")
