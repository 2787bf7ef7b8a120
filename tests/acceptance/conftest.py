"""A server with two apps for each test, and the ground that the JavaScript clients stand on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.acceptance.javascript import DIRECTORY
from tests.acceptance.machine import do_without
from tests.conftest import StartRoost

APPS = """
tenants:
  - id: acme
    name: Acme
    allowed_origins: ["https://good.example"]
    services: &services
      notes:
        schema: {text: {type: string, required: true, maxLength: 200}, n: {type: number}}
        paginate: {default: 10, max: 50}
        multi: [create, patch, remove]
        rules: {default: authenticated}
      board:
        schema: {text: {type: string, required: true}}
        rules: {find: public, get: public, create: authenticated}
  - id: globex
    name: Globex
    allowed_origins: ["https://other.example"]
    services: *services
"""


@pytest.fixture(scope="session", autouse=True)
def node() -> None:
    """Node and the official clients, or no test of this directory."""
    if shutil.which("node") is None:
        do_without("node is not installed")
    if not (DIRECTORY / "node_modules").is_dir():
        do_without(f"the official clients are not installed: run `npm ci` in {DIRECTORY.relative_to(Path.cwd())}")


@pytest.fixture
async def url(roosts: StartRoost) -> str:
    """The address of a server that hosts `acme` and `globex`, with the services `notes` and `board`."""
    return (await roosts(APPS)).url
