"""The suite that every Feathers database adapter has to pass, run over the wire with the official clients.

The suite changes the `options` of a service in its own process and passes `params` that do not travel. `js/adapter.mjs`
maps both to services that are declared with these options over one collection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.acceptance.javascript import run
from tests.conftest import StartRoost

SENSELESS = {
    ".options": "the options of a service stay on the server",
    ".events": "events are declared on the server, and a client has no list of them",
    "._get": "methods without hooks are for code on the server: no client may call around hooks",
    "._find": "as ._get",
    "._create": "as ._get",
    "._update": "as ._get",
    "._patch": "as ._get",
    "._remove": "as ._get",
    "internal .find": "the suite replaces methods of the object that it calls, which is the client's, not the server's",
    "internal .get": "as internal .find",
    "internal .create": "as internal .find",
    "internal .update": "as internal .find",
    "internal .patch": "as internal .find",
    "internal .remove": "as internal .find",
}
"""The tests that make no sense over the wire, and why."""

INTEGER_IDS = {f".{method} + NotFound (integer)" for method in ("get", "update", "patch", "remove")}
"""MongoDB's own Feathers adapter leaves these out: an integer makes its driver throw."""

TESTS = 79
"""All tests of the suite, the senseless ones included."""


@pytest.fixture
async def url(roosts: StartRoost) -> str:
    """The address of a server with `people` and `people-customid`, each with its twins."""
    services = {**twins("people", "_id"), **twins("people-customid", "customid")}
    return (await roosts(json.dumps({"tenants": [{"id": "acme", "services": services}]}))).url


def twins(name: str, id: str) -> Mapping[str, Any]:
    """A service and those that differ from it in the options that the suite changes, by path."""
    same = {
        "collection": name,
        "id": id,
        "schema": {"name": {"type": "string"}, "age": {"type": "number"}, "created": {"type": "boolean"}},
        "rules": {"default": "public"},
    }
    return {
        name: {**same, "paginate": False},
        f"{name}-multi": {**same, "paginate": False, "multi": True},
        f"{name}-page1": {**same, "paginate": {"default": 1, "max": 2}},
        f"{name}-page3": {**same, "paginate": {"default": 3, "max": 100}},
        f"{name}-page10": {**same, "paginate": {"default": 10, "max": 100}, "multi": True},
    }


@pytest.mark.parametrize(("name", "id"), [("people", "_id"), ("people-customid", "customid")])
@pytest.mark.parametrize("transport", ["websocket", "rest"])
async def test_the_official_adapter_suite_passes(url: str, transport: str, name: str, id: str) -> None:
    found = await run("adapter", url=url, appId="acme", transport=transport, name=name, id=id, skipped=list(SENSELESS))

    assert found["failed"] == {}
    assert set(found["skipped"]) == SENSELESS.keys()
    assert set(found["passed"]) >= INTEGER_IDS
    assert len(set(found["passed"])) == TESTS - len(SENSELESS)
