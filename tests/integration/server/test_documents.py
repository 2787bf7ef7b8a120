"""The documents of a running server: who gets them, what is in them, and that they tell the truth."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from server.main import Roost
from services.declaration import parse
from tests.acceptance.javascript import DIRECTORY as ACCEPTANCE
from tests.acceptance.machine import do_without
from tests.conftest import StartRoost
from tests.integration.server.command import environment, run
from tests.support.client import PASSWORD, Rest, connect, rest, until

PATHS = ("/openapi.json", "/asyncapi.json", "/docs", "/docs/types.d.ts")
APPS = """
tenants:
  - id: acme
    name: Acme <&> Co
    services:
      messages:
        schema:
          text: {type: string, required: true, maxLength: 200}
          n: {type: number}
          at: {type: string, format: date-time}
          tags: {type: array, items: {type: string}}
          additionalProperties: false
        multi: true
        rules: {default: authenticated}
      notes: {paginate: false, multi: true, rules: {default: public}}
      people:
        id: nick
        schema: {nick: {type: string}, age: {type: integer}, score: {type: number}}
        search: [nick]
        updates: [$inc]
        readonly: [score]
        rules: {default: public}
      readings: {rules: {find: public}}
      unreachable: {schema: {unseen: {type: string}}, rules: {default: nobody}}
  - id: globex
    name: Globex
    auth: {username_field: email}
"""


@pytest.fixture
async def server(roosts: StartRoost) -> Roost:
    """A server with the apps above."""
    return await roosts(APPS)


@pytest.fixture
async def acme(server: Roost) -> AsyncIterator[Rest]:
    async with rest(server, "acme") as client:
        yield client


async def document(client: Rest, path: str) -> Any:
    reply = await client.request("GET", path)
    assert reply.status == 200
    return reply.json


@pytest.mark.parametrize("path", PATHS)
async def test_the_app_is_named_by_query_or_header(server: Roost, acme: Rest, path: str) -> None:
    by_header = await acme.request("GET", path)
    async with rest(server, None) as client:
        by_query = await client.request("GET", f"{path}?appId=acme")
        assert (by_query.status, by_query.body) == (200, by_header.body)
        both = await client.request("GET", f"{path}?appId=acme", headers={"x-app-id": "globex"})
        assert both.status == 400
        unknown = await client.request("GET", f"{path}?appId=nobody")
        assert unknown.status == 404
        assert b"Unknown app" in unknown.body


async def test_without_an_app_only_the_page_has_something_to_say(server: Roost) -> None:
    async with rest(server, None) as client:
        for path in PATHS:
            reply = await client.request("GET", path)
            assert reply.status == (200 if path == "/docs" else 400)
            assert b"acme" not in reply.body


@pytest.mark.parametrize("path", PATHS)
async def test_what_nobody_may_call_is_not_told(acme: Rest, path: str) -> None:
    reply = await acme.request("GET", path)
    assert b"messages" in reply.body
    for hidden in (b"unreachable", b"unseen", b"username_key", b"globex", b"Globex"):
        assert hidden not in reply.body, hidden


async def test_the_fields_that_users_may_not_write_are_named_only_as_refused(acme: Rest) -> None:
    schemas = (await document(acme, "/openapi.json"))["components"]["schemas"]
    assert schemas["Users"]["properties"].keys() == {"_id", "username", "email"}
    for name in ("UsersData", "UsersPart", "UsersReplacement"):
        assert schemas[name]["properties"].keys() == {"username", "password", "email"}


async def test_the_actions_on_accounts_are_those_that_there_are(acme: Rest) -> None:
    data = (await document(acme, "/openapi.json"))["components"]["schemas"]["AccountsData"]
    refused = await acme.request("POST", "/accounts", {"action": "none"})
    assert refused.json["message"] == f"The action must be one of {', '.join(data['properties']['action']['enum'])}"


async def test_a_document_follows_the_declaration(server: Roost, acme: Rest) -> None:
    before = await acme.request("GET", "/openapi.json")
    tag = {name.lower(): value for name, value in before.headers.items()}["etag"]
    unchanged = await acme.request("GET", "/openapi.json", headers={"If-None-Match": tag})
    assert (unchanged.status, unchanged.body) == (304, b"")
    await server.backend.apply(parse(APPS.replace("readings:", "measurements:")))

    async def is_new() -> bool:
        return (await acme.request("GET", "/openapi.json", headers={"If-None-Match": tag})).status == 200

    await until(is_new)
    assert b"measurements" in (await acme.request("GET", "/docs")).body


async def test_another_page_may_read_the_documents_but_not_the_page_itself(acme: Rest) -> None:
    for path in PATHS:
        reply = await acme.request("GET", path, headers={"Origin": "http://editor.example"})
        assert reply.headers.get("Access-Control-Allow-Origin") == (None if path == "/docs" else "*")
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-cache"
    assert "default-src 'none'" in (await acme.request("GET", "/docs")).headers["Content-Security-Policy"]


async def test_a_strange_host_is_not_repeated(acme: Rest) -> None:
    for path in ("/docs", "/asyncapi.json"):
        reply = await acme.request("GET", path, headers={"Host": "a'><script>.example"})
        assert b"<script>.example" not in reply.body
        assert b"localhost" in reply.body


async def test_a_verb_that_is_not_offered_is_told_those_that_are(acme: Rest) -> None:
    described = (await document(acme, "/openapi.json"))["paths"]
    for path, item in described.items():
        reply = await acme.request("TRACE", path.replace("{id}", "1"))
        allowed = {verb.lower() for verb in reply.headers["Allow"].split(", ")}
        assert reply.status == 405
        documented = item.keys() & {"get", "put", "post", "patch", "delete"}
        assert allowed - {"head"} == documented, path
    assert (await acme.request("TRACE", "/unreachable")).headers["Allow"] == ""
    assert "GET" in (await acme.request("OPTIONS", "/notes")).headers["Allow"]


async def test_a_record_whose_id_has_a_line_break_is_found(acme: Rest) -> None:
    await acme.call("create", "notes", {"_id": "a\nb/c d", "text": "x"})
    assert (await acme.call("get", "notes", "a\nb/c d"))["text"] == "x"


async def test_the_example_commands_work(server: Roost, acme: Rest) -> None:
    if shutil.which("curl") is None:
        do_without("curl is not installed")
    await acme.sign_up("someone")
    token = acme.headers["Authorization"].removeprefix("Bearer ")
    # To log out by: the first login is needed for the commands that follow.
    other = (await acme.login("someone"))["accessToken"]
    page = (await acme.request("GET", "/docs")).body.decode()
    commands = re.findall(r'<pre data-in="curl"[^>]*><code>(.*?)</code>', page, re.DOTALL)
    ids = {
        "messages": (await acme.call("create", "messages", {"text": "x"}))["_id"],
        "notes": (await acme.call("create", "notes", {}))["_id"],
        "people": (await acme.call("create", "people", {"nick": "bo b"}))["nick"].replace(" ", "%20"),
        "users": (await acme.call("find", "users"))["data"][0]["_id"],
    }
    assert len(commands) > 20
    surprises = []
    for command in sorted(commands, key=_order):
        text = command.replace("&#x27;", "'").replace("&quot;", '"').replace("&gt;", ">").replace("&amp;", "&")
        path = re.search(rf"{re.escape(server.url)}/([\w-]+)", text)
        assert path is not None, text
        used = other if path[1] == "authentication" else token
        environment = {**os.environ, "TOKEN": used, "ID": ids.get(path[1], "none")}
        process = await asyncio.create_subprocess_shell(
            f"{text} -s -o /dev/null -w '%{{http_code}}'", env=environment, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        expected = {"200", "201"}
        if path[1] == "users" and "-X P" in text:
            # The name in the examples was taken by the first of them.
            expected = {"409"}
        elif path[1] not in {*ids, "authentication", "readings"}:
            # The server's own services are for administrators, or want what only a mail brings.
            expected |= {"400", "403", "404"}
        if (status := out.decode()) not in expected:
            surprises.append((status, text))
    assert not surprises, "\n".join(map(str, surprises))


def _order(command: str) -> int:
    """Sign-up before login; what removes comes later, and the caller's own account last of all."""
    if "-X DELETE" in command:
        return 3 if "/users/" in command else 2
    return 0 if "/users" in command and "-X" not in command and "-d " in command else 1


async def test_calls_and_events_are_as_asyncapi_says(server: Roost, acme: Rest) -> None:
    described = await document(acme, "/asyncapi.json")

    def payload(channel: str, message: str) -> jsonschema_rs.Draft7Validator:
        schema = described["channels"][channel]["messages"][message]["payload"]
        return jsonschema_rs.Draft7Validator({**schema, "components": described["components"]})

    async with connect(server, "acme") as ada:
        await ada.sign_up("ada")
        record = {"text": "x", "n": 1.5, "at": "2030-01-01T00:00:00Z"}
        created = await ada.call("create", "messages", record)
        calls: list[tuple[str, str, list[Any]]] = [
            ("Messages", "find", [{"$limit": 1}]),
            ("Messages", "get", [created["_id"], {}]),
            ("Messages", "create", [[record, {"text": "y", "tags": ["a"]}], {}]),
            ("Messages", "update", [created["_id"], record, {}]),
            ("Messages", "patch", [None, {"n": 3}, {"text": "x"}]),
            ("Messages", "remove", [created["_id"]]),
            ("Notes", "find", [{}]),
            ("Users", "find", [{}]),
            ("Authentication", "create", [{"strategy": "local", "username": "ada", "password": PASSWORD}, {}]),
        ]
        for name, method, arguments in calls:
            path = name.lower()
            payload(f"{name}.{method}", "call").validate([path, *arguments])
            answer = await ada.ack(method, path, *arguments)
            payload("acknowledgement", f"{name}.{method}").validate([*answer])
        refused = await ada.ack("create", "messages", {"text": 3}, {})
        payload("acknowledgement", "error").validate([*refused])
        assert not payload("Messages.create", "call").is_valid(["messages", {"text": 3}, {}])
        events = await ada.take_events()
        assert {event.name for event in events} == {
            f"messages {name}" for name in ("created", "updated", "patched", "removed")
        }
        for event in events:
            channel = f"Messages.on.{event.name.split()[1]}"
            assert described["channels"][channel]["address"] == event.name
            payload(channel, "event").validate(event.record)
        await ada.call("remove", "sessions", None, {})
        told = await ada.next_event()
        assert described["channels"]["Authentication.on.removed"]["address"] == told.name
        payload("Authentication.on.removed", "event").validate(told.record)


PROGRAM = """
import { feathers } from '@feathersjs/feathers'
import type { MessagesRecord, ServiceTypes } from './types'

const app = feathers<ServiceTypes>()
const messages = app.service('messages')

export async function use(): Promise<string | undefined> {
  const page = await messages.find({ query: { n: { $gt: 1 }, tags: 'a', $sort: { at: -1 }, $or: [{ text: 'x' }] } })
  const record: MessagesRecord = page.data[0]
  const many: MessagesRecord[] = await messages.create([{ text: 'x', n: 1 }, { text: 'y' }])
  await messages.patch(null, { n: 2 }, { query: { text: { $in: ['x', 'y'] } } })
  await messages.patch(record._id, { tags: [] })
  await messages.update(many[0]._id, { text: 'z', at: '2030-01-01T00:00:00Z' })
  messages.on('created', (created) => { const text: string = created.text; return text })
  const notes = await app.service('notes').find({ query: { anything: 3, $limit: 2 } })
  await app.service('users').create({ username: 'ada', password: 'secret-123', color: 'red' })
  const login = await app.service('authentication').create({ strategy: 'local', username: 'a', password: 'b' })
  app.service('authentication').on('removed', ({ reason }) => { const why: 'expired' | 'ended' = reason; return why })
  await app.service('people').patch('ada', { $inc: { age: 1 } })
  const found = await app.service('people').find({ query: { $search: 'ada', $cursor: true, $total: false } })
  await app.service('people').find({ query: { $after: found.cursor?.next } })
  const nick: string = (await app.service('people').get('ada')).nick
  return notes[0]?._id + login.accessToken + login.user._id + nick + page.total
}
"""
MISTAKES = {
    "a field of another type": "messages.create({ text: 3 })",
    "a required field that is missing": "messages.create({ n: 3 })",
    "a field that is not there": "messages.create({ text: 'x', m: 3 })",
    "a filter of another type": "messages.find({ query: { n: 'x' } })",
    "an order that is none": "messages.find({ query: { $sort: { n: 2 } } })",
    "a selection that is none": "messages.find({ query: { $select: ['m'] } })",
    "a method that is not offered": "app.service('readings').get('1')",
    "a service that is not offered": "app.service('unreachable')",
    "a list where none is taken": "app.service('users').create([{ username: 'a', password: 'b' }])",
    "words where nothing is searched": "messages.find({ query: { $search: 'x' } })",
    "an update operator that is not offered": "messages.patch('1', { $inc: { n: 1 } })",
    "no id where one is needed": "messages.update(null, { text: 'x' })",
    "an event that a login does not have": "app.service('authentication').on('created', () => {})",
    "an event that is none": "messages.on('created', (created) => { const text: number = created.text })",
}


async def test_typescript_takes_what_the_services_take_and_nothing_else(acme: Rest, tmp_path: Path) -> None:
    compiler = ACCEPTANCE / "node_modules" / ".bin" / "tsc"
    if not compiler.exists() or shutil.which("node") is None:
        do_without("TypeScript is not installed: run `npm ci` in tests/acceptance/js")
    (tmp_path / "node_modules").symlink_to(ACCEPTANCE / "node_modules")
    (tmp_path / "types.d.ts").write_bytes((await acme.request("GET", "/docs/types.d.ts")).body)
    start = PROGRAM[: PROGRAM.index("export async")]
    files = {"right.ts": PROGRAM}
    files |= {f"wrong{index}.ts": f"{start}\nvoid {mistake}\n" for index, mistake in enumerate(MISTAKES.values())}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    options = [
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--skipLibCheck",
        "--pretty",
        "false",
    ]
    process = await asyncio.create_subprocess_exec(
        compiler, *options, *files, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out = (await process.communicate())[0].decode()
    complaints = {line.partition("(")[0] for line in out.splitlines() if " error TS" in line}
    assert complaints == {*files} - {"right.ts"}, out


async def test_the_command_prints_the_same_types(mongod: str, acme: Rest, server: Roost, tmp_path: Path) -> None:
    served = (await acme.request("GET", "/docs/types.d.ts")).body.decode()
    env = environment(mongod, server.settings.database)
    printed = await run("types", "acme", env=env)
    assert (printed.code, printed.out) == (0, served), printed.err
    file = tmp_path / "types.d.ts"
    written = await run("types", "acme", "--out", file, env=env)
    assert (written.code, written.out, file.read_text()) == (0, "", served)
    missing = await run("types", "nobody", env=env)
    assert (missing.code, missing.err) == (1, "There is no tenant 'nobody'\n")
    nowhere = await run("types", "acme", "--out", tmp_path / "no" / "where.ts", env=env)
    assert nowhere.code == 1
    assert "cannot be written (No such file or directory)" in nowhere.err
