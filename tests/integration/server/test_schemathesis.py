"""schemathesis, as an outsider: it reads `/openapi.json` and finds no answer that the document does not announce."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from hooks.context import HookContext
from server.main import Roost
from tests.conftest import StartRoost
from tests.support.client import Rest, rest

APPS = """
tenants:
  - id: acme
    name: Acme
    services:
      messages:
        schema:
          text: {type: string, required: true, maxLength: 200}
          n: {type: number}
          done: {type: boolean}
          at: {type: string, format: date-time}
          tags: {type: array, items: {type: string}}
          additionalProperties: false
        multi: true
        rules: {default: authenticated}
      notes: {paginate: false, multi: true, rules: {default: public}}
      people:
        id: nick
        schema: {age: {type: integer, minimum: 0}, place: {type: object, properties: {city: {type: string}}}}
        rules: {default: public}
      readings: {rules: {find: public}}
"""

# Left out, each because Feathers' protocol wants the other answer:
# - negative_data_rejection: a `$limit` that is no number counts as not given, and a text that is no number equals nothing.
# - unsupported_method: `PUT` without an id is a call that is refused with 400, and `POST` with one is `create`.
# And positive_data_acceptance for accounts and invitations: which fields must be there depends on the action or method; and
# for OAuth, where a client and a code that nobody has are 400.
CONFIGURATION = """
[auth.openapi.login]
bearer = "{token}"
[checks]
negative_data_rejection.enabled = false
unsupported_method.enabled = false
[[operations]]
include-path = "/accounts"
checks.positive_data_acceptance.enabled = false
[[operations]]
include-path = "/invitations"
checks.positive_data_acceptance.enabled = false
[[operations]]
include-path = "/oauth/authorize"
checks.positive_data_acceptance.enabled = false
[[operations]]
include-path = "/oauth/token"
checks.positive_data_acceptance.enabled = false
"""


@pytest.fixture
async def server(roosts: StartRoost) -> Roost:
    return await roosts(APPS)


async def examine(server: Roost, directory: Path, *options: str) -> int:
    """Runs schemathesis against the server; how many cases it tried."""
    async with rest(server, "acme") as client:
        await client.sign_up("examiner")
        token = client.headers["Authorization"].removeprefix("Bearer ")
    configuration = directory / "schemathesis.toml"
    configuration.write_text(CONFIGURATION.format(token=token))
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        "--config-file",
        configuration,
        "run",
        f"{server.url}/openapi.json?appId=acme",
        "--generation-database=none",
        "--suppress-health-check=all",
        "--warnings=off",
        "--no-color",
        "--continue-on-failure",
        # They would log the examiner out.
        "--exclude-operation-id-regex=^remove(Authentication|Sessions)",
        *options,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        found = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, found
    counted = re.search(r"(\d+) generated", found)
    assert counted is not None, found
    return int(counted[1])


async def test_no_answer_is_a_surprise(server: Roost, tmp_path: Path) -> None:
    assert await examine(server, tmp_path, "--phases=fuzzing", "--max-examples=5", "--seed=1") >= 100


@pytest.mark.load
@pytest.mark.timeout(300)
async def test_no_answer_is_a_surprise_in_thousands(server: Roost, tmp_path: Path) -> None:
    assert await examine(server, tmp_path, "--phases=coverage,fuzzing,stateful", "--max-examples=30") >= 3000


async def test_it_would_notice_an_answer_of_another_form(server: Roost, tmp_path: Path) -> None:
    def count_in_words(context: HookContext) -> None:
        if context.params.provider is not None:
            context.dispatch = {"total": "many"}

    server.app.service("users").add_hooks({"after": {"find": [count_in_words]}})
    with pytest.raises(AssertionError, match=r"(?s)GET /users.*Response violates schema"):
        await examine(server, tmp_path, "--phases=fuzzing", "--max-examples=3", "--include-path=/users")


async def test_the_document_asks_for_the_login_that_is_needed(server: Roost) -> None:
    client: Rest
    async with rest(server, "acme") as client:
        paths = (await client.request("GET", "/openapi.json")).json["paths"]
        for path, item in paths.items():
            if "get" in item and "{" not in path:
                status = (await client.request("GET", path)).status
                assert (status == 401) == (item["get"]["security"] == [{"login": []}]), path
