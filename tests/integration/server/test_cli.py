"""The command line: works beside a running server, and says what to do when it cannot."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from tests.integration.server.command import run, serving
from tests.support.client import CallError, connect, outcome, rest, until
from tests.support.roost import TWO_APPS


@pytest.fixture
def two_apps(tmp_path: Path) -> Path:
    file = tmp_path / "apps.yaml"
    file.write_text(TWO_APPS)
    return file


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


async def test_help_names_the_commands() -> None:
    ended = await run("--help")
    assert ended.code == 0
    for word in ("serve", "check", "tenants", "apply"):
        assert word in ended.out


async def test_apply_list_show_and_create(env: dict[str, str], two_apps: Path) -> None:
    first = await run("apply", two_apps, env=env)
    assert (first.code, first.out) == (0, "acme: created\nglobex: created\n"), first.err
    second = await run("apply", two_apps, env=env)
    assert (second.code, second.out) == (0, "acme: unchanged\nglobex: unchanged\n")
    rewrite(two_apps, TWO_APPS.replace("sealed", "opened").replace("name: Globex", "name: Globex 2"))
    third = await run("apply", two_apps, env=env)
    assert third.out == "acme: updated; no longer served, data kept: sealed\nglobex: updated\n"

    created = await run("tenants", "create", "initech", "--name", "Initech", "--origin", "https://i.example", env=env)
    assert (created.code, created.out) == (0, "initech: created\n")
    again = await run("tenants", "create", "initech", env=env)
    assert (again.code, again.err) == (1, "The tenant 'initech' exists already\n")
    bad = await run("tenants", "create", "Bad_Id", env=env)
    assert bad.code == 1
    assert "tenants[0].id: must be 3 to 63 lower case letters" in bad.err

    listed = await run("tenants", "list", env=env)
    assert [line.split("\t")[:3] for line in listed.out.splitlines()] == [
        ["acme", "ready", "Acme"],
        ["control_plane", "ready", "Control plane"],
        ["globex", "ready", "Globex 2"],
        ["initech", "ready", "Initech"],
    ]
    shown = await run("tenants", "show", "acme", env=env)
    assert "http://localhost:3030" in shown.out
    assert "messages (default: authenticated)" in shown.out
    missing = await run("tenants", "show", "nobody", env=env)
    assert (missing.code, missing.err) == (1, "There is no tenant 'nobody'\n")


async def test_a_file_with_mistakes_is_reported_whole_and_not_applied(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "apps.yaml"
    file.write_text(
        "tenants:\n"
        "  - {id: good-one, services: {notes: {}}}\n"
        "  - {id: Bad, colour: red, services: {messages: {paginate: {default: 10, max: many}, multi: [fly]}}}\n"
        "  - {id: other, allowed_origins: ['*'], services: {users: {}}}\n"
    )
    for command in (("apply", file), ("serve", "--port", "0", "--apply", file)):
        ended = await run(*command, env=env)
        assert ended.code == 1
        for place in (
            "tenants[1].id:",
            "tenants[1].colour: is not a known key",
            "tenants[1].services.messages.paginate.max:",
            "tenants[1].services.messages.multi[0]:",
            "tenants[2].allowed_origins[0]:",
            "tenants[2].services: 'users' is a path of Roost itself",
        ):
            assert place in ended.err, place
        assert "Traceback" not in ended.err
    assert (await run("tenants", "list", env=env)).out == ""


async def test_check_refuses_a_placement_as_the_start_does(env: dict[str, str]) -> None:
    ended = await run("check", env={**env, "ROOST_PLACEMENT": "nowhere"})
    assert ended.code == 1
    assert ended.err == "ROOST_PLACEMENT: There is no isolation model 'nowhere': there are shared, database, cluster\n"


async def test_check_says_that_all_is_well_and_what_nobody_can_call(env: dict[str, str], tmp_path: Path) -> None:
    assert (await run("check", env=env)).out == "All is well: MongoDB answers, 0 tenants.\n"
    file = tmp_path / "apps.yaml"
    usual = "{rules: {default: authenticated, find: public}}"
    file.write_text(f"tenants: [{{id: acme, services: {{closed: {{}}, usual: {usual}}}}}]")
    ended = await run("check", file, env=env)
    assert ended.code == 0
    assert "acme: closed: nobody can call it: it has no rules" in ended.out
    assert "usual" not in ended.out
    assert (await run("tenants", "list", env=env)).out == ""


async def test_check_reviews_the_rules_of_an_app(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "apps.yaml"
    file.write_text("tenants: [{id: acme, services: {notes: {rules: {default: {team: $user.team}, create: public}}}}]")
    await run("apply", file, env=env)
    ended = await run("check", "acme", env=env)
    assert ended.code == 0
    assert "acme: notes.create: open: anyone may create records, logged in or not\n" in ended.out
    assert "acme: notes.find: no index serves its condition" in ended.out
    missing = await run("check", "globex", env=env)
    assert (missing.code, missing.err) == (1, "There is no tenant 'globex'\n")


async def test_what_rules_ask_of_users_is_set_here(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "apps.yaml"
    file.write_text("tenants: [{id: acme, services: {notes: {rules: {default: {team: {$in: $user.teams}}}}}}]")
    async with serving("--apply", file, env=env) as roost, connect(roost, "acme") as ada:
        await ada.sign_up("ada")
        refused = await outcome(ada, "find", "notes", {})
        assert isinstance(refused, CallError)
        assert refused.code == 403
        ended = await run("users", "set", "acme", "Ada", "teams", '["red"]', env=env)
        assert (ended.code, ended.out) == (0, 'Ada: teams is ["red"]\n'), ended.err

        async def is_in() -> bool:
            return not isinstance(await outcome(ada, "create", "notes", {"team": "red"}), CallError)

        await until(is_in)
        for field, value in (("permissions", '["admin"]'), ("password", "x"), ("_id", "x"), ("a.b", "x")):
            bad = await run("users", "set", "acme", "ada", field, value, env=env)
            assert (bad.code, bad.err) == (1, f"'{field}' cannot be set\n")
        ended = await run("users", "set", "acme", "ada", "teams", "null", env=env)
        assert ended.out == "ada: teams is not set\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ROOST_COLOUR": "red"}, "ROOST_COLOUR: is not a setting of Roost"),
        ({"ROOST_PORT": "many"}, "ROOST_PORT: "),
        ({"ROOST_MASTER_KEY": ""}, "ROOST_MASTER_KEY must be set with ROOST_MONGODB_URI"),
        ({"ROOST_MASTER_KEY": "short"}, "ROOST_MASTER_KEY: "),
        ({"ROOST_MONGODB_URI": "mongodb://user:sesame@127.0.0.1:1/?x"}, "ROOST_MONGODB_URI"),
        ({"ROOST_MODULES": "no.such.module"}, "'no.such.module' cannot be imported"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_a_setting_that_is_wrong_stops_the_start_by_its_name(
    env: dict[str, str], changes: dict[str, str], words: str
) -> None:
    changed = {name: value for name, value in {"ROOST_PORT": "0", **env, **changes}.items() if value}
    ended = await run("serve", env=changed)
    assert ended.code == 1
    assert words in ended.err
    assert "Traceback" not in ended.err
    assert "sesame" not in ended.err


async def test_a_taken_port_is_named(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = await run("serve", "--port", port, env=env)
    assert ended.code == 1
    assert f"127.0.0.1:{port} cannot be listened on" in ended.err
    assert "--port" in ended.err
    assert "Traceback" not in ended.err


async def test_a_database_that_is_not_there_is_named(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ended = await run("check", env={**env, "ROOST_MONGODB_URI": f"mongodb://127.0.0.1:{port}/"})
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert len(ended.err.strip()) > 20


async def test_serve_says_where_to_go_and_ends_at_a_signal(env: dict[str, str], two_apps: Path) -> None:
    async with serving("--apply", two_apps, env=env) as server:
        shown = "".join(server.out)
        for words in (f"{server.url}/health", "appIds   acme, globex", "Ctrl-C"):
            assert words in shown
        async with connect(server, "acme") as ada, rest(server, "acme") as client:
            await ada.sign_up("ada")
            assert (await client.request("GET", "/ready")).status == 200
            assert await server.stop() == 0
            await ada.gone()
    assert all(json.loads(line)["level"] != "error" for line in server.err), server.err


async def test_a_plug_in_that_does_not_end_holds_up_no_end(env: dict[str, str]) -> None:
    """LIMITS F6: within 15 s, whatever plug-ins have begun."""
    env = {**env, "ROOST_MODULES": "tests.support.stubborn"}
    async with serving(env=env) as server:
        async with asyncio.timeout(15):
            assert await server.stop() == 0
    assert "stubborn" in server.err[-1]
    ended = await run("check", env=env)
    assert ended.code == 0, ended.err
    assert "All is well" in ended.out


async def test_commands_take_effect_in_a_running_server(env: dict[str, str], two_apps: Path) -> None:
    async with serving("--apply", two_apps, env=env) as server, rest(server, "acme") as client:
        assert (await client.request("GET", "/extra")).status == 404
        rewrite(two_apps, TWO_APPS.replace("sealed:", "extra:"))
        assert (await run("apply", two_apps, env=env)).code == 0

        async def is_served() -> bool:
            return (await client.request("GET", "/extra")).status == 200

        await until(is_served)
        created = await run("tenants", "create", "initech", env=env)
        assert created.code == 0, created.err
        async with rest(server, "initech") as newcomer:
            await newcomer.sign_up("ada")


async def test_two_servers_may_start_at_once_over_one_database(env: dict[str, str], two_apps: Path) -> None:
    async with (
        serving("--apply", two_apps, env=env) as one,
        serving("--apply", two_apps, env=env) as two,
        rest(one, "acme") as here,
        rest(two, "acme") as there,
    ):
        await here.sign_up("ada")
        await there.login("ADA")
        for client in (here, there):
            assert (await client.call("find", "users"))["total"] == 1
