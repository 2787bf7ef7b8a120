"""The secrets of tenants (TENANCY RF-9, TC-10): sealed for their place, versioned, and told to nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from hooks.errors import BadRequest, NotFound, Unavailable
from server.main import Roost
from services.authentication.master import MasterKey
from services.control.secrets import COLLECTION, KEPT, LARGEST, MOST_NAMES, Secrets
from tests.integration.server.command import Ended, environment, run, serving
from tests.support.client import rest, until
from tests.support.placed import database_of
from tests.support.roost import TWO_APPS

CANARY = "canary-of-a-secret-\N{SNOWMAN}"


def records(roost: Roost) -> Any:
    """The collection itself."""
    return roost.backend.deployment.client[f"{roost.settings.database}_control"][COLLECTION]


async def latest(roost: Roost, app_id: str) -> int:
    """The version that counts so far: an app on a cluster of its own has a secret from the beginning, its connection string."""
    return max((kept.version for kept in await roost.backend.secrets.names(app_id)), default=0)


async def value(roost: Roost, app_id: str, name: str, version: int | None = None) -> str | None:
    """What the factory of a client gets."""
    found = await roost.backend.secrets.get(app_id, name, version)
    return None if found is None else found.value


async def test_a_secret_has_versions_of_which_the_newest_counts(roost: Roost) -> None:
    secrets = roost.backend.secrets
    assert await value(roost, "acme", "github") is None
    own = await secrets.names("acme")
    before = await latest(roost, "globex")
    first = await secrets.put("acme", "github", "one")
    second = await secrets.put("acme", "github", "two")
    assert second > first
    assert await secrets.put("globex", "github", CANARY) == before + 1
    assert [await value(roost, "acme", "github", version) for version in (None, first, second, 99)] == [
        "two",
        "one",
        "two",
        None,
    ]
    assert await value(roost, "globex", "github") == CANARY
    assert [(kept.name, kept.version) for kept in await secrets.names("acme") if kept not in own] == [
        ("github", second)
    ]


async def test_an_old_number_is_never_used_again(roost: Roost) -> None:
    """TC-10: clients are kept by the version of their secret, so a forgotten name may not come back under the same one."""
    secrets = roost.backend.secrets
    first = await secrets.put("acme", "github", "one")
    assert await secrets.forget("acme", "github")
    assert not await secrets.forget("acme", "github")
    assert await value(roost, "acme", "github") is None
    assert await secrets.put("acme", "github", "two") > first


@pytest.mark.shared_only("an app on a cluster of its own would forget its connection string, and could not be deleted")
async def test_old_versions_and_all_that_is_forgotten_are_gone(roost: Roost) -> None:
    secrets = roost.backend.secrets
    for turn in range(KEPT + 3):
        await secrets.put("acme", "github", f"value {turn}")
    await secrets.put("acme", "mail", "x")
    await secrets.put("globex", "mail", "y")
    assert await records(roost).count_documents({"_id.app_id": "acme", "_id.name": "github"}) == KEPT
    assert await secrets.forget("acme")
    assert await records(roost).count_documents({"_id.app_id": "acme"}) == 0
    assert await value(roost, "globex", "mail") == "y"
    assert not await secrets.forget("globex", ""), "the counter is no secret"


async def test_many_at_once_have_a_version_each(roost: Roost) -> None:
    versions = await asyncio.gather(*(roost.backend.secrets.put("acme", "github", f"v{turn}") for turn in range(20)))
    assert len(set(versions)) == 20
    newest = versions.index(max(versions))
    assert await value(roost, "acme", "github") == f"v{newest}"


async def test_a_value_opens_in_its_place_alone(roost: Roost) -> None:
    """The seal is bound to the app, the name and the version: a record that is moved is worth nothing."""
    secrets = roost.backend.secrets
    version = await secrets.put("acme", "github", CANARY)
    kept = await records(roost).find_one({"_id.app_id": "acme", "_id.name": "github"})
    assert CANARY.encode() not in kept["sealed"]
    places = (("globex", "github", version), ("acme", "other", version), ("acme", "github", version + 1))
    for app_id, name, number in places:
        await records(roost).insert_one({**kept, "_id": {"app_id": app_id, "name": name, "version": number}})
        with structlog.testing.capture_logs() as lines, pytest.raises(Unavailable) as refused:
            await secrets.get(app_id, name)
        assert "set it again" in refused.value.message
        assert CANARY not in repr(lines)
    backend = roost.backend
    strange = Secrets(backend.deployment, MasterKey(bytes(32)), backend.tenants, database=roost.settings.database)
    with pytest.raises(Unavailable):
        await strange.get("acme", "github", version)
    assert await value(roost, "acme", "github", version) == CANARY


@pytest.mark.parametrize("name", ["", "1st", "a b", "$x", "a/b", "x" * 65, "n\N{LATIN SMALL LETTER A WITH GRAVE}me"])
async def test_only_plain_names_are_kept(roost: Roost, name: str) -> None:
    before = await records(roost).count_documents({})
    with pytest.raises(BadRequest):
        await roost.backend.secrets.put("acme", name, "x")
    assert await records(roost).count_documents({}) == before


async def test_what_is_kept_is_bounded(roost: Roost) -> None:
    secrets = roost.backend.secrets
    own = await secrets.names("acme")
    before = await records(roost).count_documents({})
    for unfit in ("", "x" * (LARGEST + 1), "\ud800"):
        with pytest.raises(BadRequest):
            await secrets.put("acme", "name", unfit)
    with pytest.raises(NotFound):
        await secrets.put("nobody", "name", "x")
    assert await records(roost).count_documents({}) == before
    await asyncio.gather(*(secrets.put("acme", f"name{turn}", "x") for turn in range(MOST_NAMES - len(own))))
    with pytest.raises(BadRequest, match="at most"):
        await secrets.put("acme", "one-more", "x")
    assert await secrets.put("acme", "name0", "y"), "a name that is there can be set again"


async def test_printing_a_secret_does_not_show_it(roost: Roost) -> None:
    await roost.backend.secrets.put("acme", "github", CANARY)
    found = await roost.backend.secrets.get("acme", "github")
    assert found is not None
    assert CANARY not in f"{found} {found!r} {await roost.backend.secrets.names('acme')}"


async def test_running_servers_hear_of_a_change(roost: Roost) -> None:
    """A rotation is effective within 5 s: the epoch by which clients are kept goes up."""

    async def changed(act: Callable[[], Any]) -> None:
        tenant = await roost.catalogue.get("acme")
        assert tenant is not None
        epoch = tenant.epoch
        await act()

        async def is_seen() -> bool:
            seen = roost.catalogue.peek("acme")
            return seen is not None and seen.epoch > epoch

        await until(is_seen, 5.0)

    await changed(lambda: roost.backend.secrets.put("acme", "github", "one"))
    await changed(lambda: roost.backend.secrets.put("acme", "github", "two"))
    await changed(lambda: roost.backend.secrets.forget("acme", "github"))


async def test_the_command_line_sets_lists_and_removes_and_never_shows(
    mongod: str, roost: Roost, tmp_path: Any
) -> None:
    """A11: the value comes by standard input; it is in no output, log or entry of the audit log."""
    env = environment(mongod, roost.settings.database, ROOST_LOG_LEVEL="debug")
    file = tmp_path / "apps.yaml"
    file.write_text(TWO_APPS)
    ended: list[Ended] = []
    first = await latest(roost, "acme") + 1
    async with serving("--apply", file, env=env) as server, rest(server, "acme") as client:
        ended.append(await run("secrets", "set", "acme", "github", env=env, typed=f"{CANARY}\n"))
        assert ended[-1].out == f"acme: github is kept as version {first}\n", ended[-1].err
        ended.append(await run("secrets", "set", "acme", "github", env=env, typed=CANARY))
        assert await value(roost, "acme", "github", first) == CANARY
        assert await value(roost, "acme", "github") == CANARY
        ended.append(await run("secrets", "list", "acme", env=env))
        assert f"github\tversion {first + 1}\tsince 20" in ended[-1].out
        ended.append(await run("secrets", "remove", "acme", "github", env=env))
        assert ended[-1].out == "acme: github is removed\n"
        ended.append(await run("secrets", "remove", "acme", "github", env=env))
        assert (ended[-1].code, ended[-1].err) == (1, "The app 'acme' has no secret 'github'\n")
        missing = await run("secrets", "set", "nobody", "github", env=env, typed=CANARY)
        assert (missing.code, missing.err) == (1, "There is no tenant 'nobody'\n")
        as_argument = await run("secrets", "set", "acme", "github", "value", env=env, typed="")
        assert as_argument.code == 2, "a value is never an argument: others could see it in the list of processes"
        empty = await run("secrets", "set", "acme", "github", env=env, typed="\n")
        assert (empty.code, "a text of 1 to" in empty.err) == (1, True)
        assert (await client.request("GET", "/notes")).status == 200
        assert await server.stop() == 0
        log = "".join(server.err) + "".join(server.out)
    entries = await database_of(roost)["audit_log"].find({"app_id": "acme", "event": {"$regex": "^secret-"}}).to_list()
    assert [entry["event"] for entry in entries] == ["secret-set", "secret-set", "secret-removed"]
    assert {entry["subject"] for entry in entries} == {"github"}
    everything = log + json.dumps(entries, default=str) + repr(ended) + repr(missing) + repr(empty)
    assert CANARY not in everything
    assert CANARY.encode("unicode_escape").decode() not in everything
