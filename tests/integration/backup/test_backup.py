"""One app in a file, out of it, and copied (LIMITS O8): whole, resumable, checksummed, and of one tenant alone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hooks.errors import BadRequest, Conflict, NotFound, Unavailable
from server.main import Roost
from services.control.backup import backup as module
from services.control.backup.anonymise import Anonymiser, check_rules
from services.control.backup.archive import LARGEST, BrokenArchive, intact_end, read_batches, write_batch
from services.control.backup.backup import Backup
from services.control.sagas import PROVISION, Step, Work
from services.declaration import DeclarationError
from tests.conftest import StartRoost
from tests.integration.server.command import environment, run
from tests.support.client import PASSWORD, CallError, connect, outcome

APPS = """
tenants:
  - id: acme
    name: Acme
    allowed_origins: ["https://acme.example"]
    services:
      notes:
        schema: {text: {type: string}, n: {type: number}, at: {type: string}}
        search: [text]
        unique: [[n]]
        rules: {default: public}
        multi: true
        paginate: {default: 10, max: 1000}
  - id: globex
    services: {notes: {rules: {default: public}}}
"""


@pytest.fixture
async def served(roosts: StartRoost, monkeypatch: pytest.MonkeyPatch) -> Roost:
    monkeypatch.setattr(module, "BATCH", 7)
    roost = await roosts(APPS)
    async with connect(roost, "acme") as ada, connect(roost, "globex") as eve:
        await ada.sign_up("ada")
        await ada.call("create", "notes", [{"text": f"hello number {n}", "n": n} for n in range(30)], {})
        await ada.call("create", "notes", {"_id": "chosen", "text": "by a client", "n": 99}, {})
        await eve.call("create", "notes", {"text": "not yours"}, {})
    return roost


@pytest.fixture
def backup(served: Roost) -> Backup:
    return served.backend.backup


def silent(collection: str, count: int) -> None:
    """Progress that nobody watches."""


async def all_notes(roost: Roost, app_id: str) -> list[dict[str, Any]]:
    async with connect(roost, app_id) as client:
        page = await client.call("find", "notes", {"$limit": 1000, "$sort": {"n": 1}})
    data: list[dict[str, Any]] = page["data"]
    return data


async def test_what_was_exported_can_be_imported_as_another_app(served: Roost, backup: Backup, tmp_path: Path) -> None:
    file = tmp_path / "acme.roost"
    count = await backup.export("acme", file, silent)
    assert await backup.fill(file, "acme-two", silent) == count
    assert await all_notes(served, "acme-two") == await all_notes(served, "acme")
    tenant = await served.catalogue.get("acme-two")
    assert tenant is not None
    assert (tenant.name, tenant.status, tenant.allowed_origins) == (
        "Acme",
        "ready",
        frozenset({"https://acme.example"}),
    )
    async with connect(served, "acme-two") as client:
        found = await client.call("find", "notes", {"$search": "client"})
        assert [note["_id"] for note in found["data"]] == ["chosen"], "words can be searched for at once"
        await client.login("ada", PASSWORD)
        assert (await outcome(client, "create", "notes", {"n": 99}, {})).code == 409, (
            "unique fields are unique there too"
        )
    assert await all_notes(served, "globex") != []


async def test_large_documents_make_small_batches(
    served: Roost, backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O8: what is written can be read again, and neither takes more memory, however large the documents are."""
    monkeypatch.setattr(module, "BATCH", 500)
    monkeypatch.setattr(module, "BATCH_BYTES", 10_000)
    async with connect(served, "acme") as ada:
        await ada.call("create", "notes", [{"text": "x" * 3000, "n": n} for n in range(100, 120)], {})
    file = tmp_path / "acme.roost"
    count = await backup.export("acme", file, silent)
    assert sum(batch.head.get("collection") == "notes" for batch in read_batches(file)) >= 5
    assert await backup.fill(file, "acme-two", silent) == count
    assert await all_notes(served, "acme-two") == await all_notes(served, "acme")


async def test_an_archive_holds_no_key_and_nobody_elses_data(served: Roost, backup: Backup, tmp_path: Path) -> None:
    await served.backend.secrets.put("acme", "github", "secret-canary")
    async with connect(served, "acme") as ada:
        answer = await ada.call(
            "create", "authentication",
            {"strategy": "local", "username": "ada", "password": PASSWORD, "refresh": True}, {},
        )  # fmt: skip
    file = tmp_path / "acme.roost"
    await backup.export("acme", file, silent)
    text = gzip.decompress(file.read_bytes()).decode()
    for canary in ("secret-canary", answer["accessToken"], answer["refreshToken"], "not yours", "PRIVATE"):
        assert canary not in text
    heads = [batch.head for batch in read_batches(file)]
    assert {head["collection"] for head in heads if "collection" in head}.isdisjoint(module.LEFT_OUT)
    assert heads[-1]["end"] is True


@pytest.mark.parametrize("cut", [0, 1, 50, 400, 1500])
async def test_an_export_that_was_interrupted_goes_on(served: Roost, backup: Backup, tmp_path: Path, cut: int) -> None:
    whole, part = tmp_path / "whole.roost", tmp_path / "part.roost"
    count = await backup.export("acme", whole, silent)
    with pytest.raises(Conflict, match="exists"):
        await backup.export("acme", whole, silent)
    with pytest.raises(Conflict, match="complete"):
        await backup.export("acme", whole, silent, resume=True)
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size - cut] if cut else whole.read_bytes()[:-3])
    with pytest.raises(BrokenArchive):
        await backup.fill(part, "early", silent)
    assert await backup.export("acme", part, silent, resume=True) == count
    ids = [document["_id"]["i"] for batch in read_batches(part) for document in batch.documents]
    assert len(ids) == len({str(id) for id in ids}) == count
    await backup.fill(part, "acme-two", silent)
    assert await all_notes(served, "acme-two") == await all_notes(served, "acme")
    with pytest.raises(BadRequest, match="no export of 'globex'"):
        await backup.export("globex", part, silent, resume=True)


async def test_an_import_that_was_interrupted_goes_on(
    served: Roost, backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "acme.roost"
    await backup.export("acme", file, silent)
    insert, left = module._insert, 3

    async def give_up(collection: Any, documents: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionError
        await insert(collection, documents)

    monkeypatch.setattr(module, "_insert", give_up)
    with pytest.raises(ConnectionError):
        await backup.fill(file, "acme-two", silent)
    half = await served.backend.tenants.get("acme-two")
    assert half is not None
    assert half.status == "suspended", "nobody sees a part of an app"
    monkeypatch.setattr(module, "_insert", insert)
    with pytest.raises(Conflict, match="exists already"):
        await backup.fill(file, "acme-two", silent)
    await backup.fill(file, "acme-two", silent, resume=True)
    assert await all_notes(served, "acme-two") == await all_notes(served, "acme")
    with pytest.raises(Conflict, match="exists already"):
        await backup.fill(file, "globex", silent, resume=True)


async def test_an_app_whose_database_takes_long_to_make_is_waited_for(
    served: Roost, backup: Backup, tmp_path: Path
) -> None:
    file = tmp_path / "acme.roost"
    count = await backup.export("acme", file, silent)
    served.backend.control.lifecycle.patience = 0.0
    assert await backup.fill(file, "acme-two", silent) == count
    assert await all_notes(served, "acme-two") == await all_notes(served, "acme")


async def test_an_import_goes_on_when_the_app_could_not_be_made_at_once(
    served: Roost, backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "acme.roost"
    count = await backup.export("acme", file, silent)

    async def fail(work: Work) -> None:
        raise Unavailable

    lifecycle, sagas = served.backend.control.lifecycle, served.backend.control.sagas
    with monkeypatch.context() as patched:
        patched.setitem(sagas._steps[PROVISION], "indexes", Step("indexes", fail))
        with pytest.raises(Conflict, match="is failed"):
            await backup.fill(file, "acme-two", silent)
    await lifecycle.settle((await lifecycle.retry("acme-two", PROVISION)).id)
    assert await backup.fill(file, "acme-two", silent, resume=True) == count
    assert await all_notes(served, "acme-two") == await all_notes(served, "acme")


def _foreign_id(batch: Any) -> None:
    batch.documents[0]["_id"] = {"a": "globex", "i": "x"}


def _foreign_field(batch: Any) -> None:
    batch.documents[0]["app_id"] = "globex"


def _swapped(batch: Any) -> None:
    batch.documents[0]["_id"] = {"i": "x", "a": "acme"}


def _unbound(batch: Any) -> None:
    batch.documents[0]["_id"] = "x"


def _sessions(batch: Any) -> None:
    batch.head["collection"] = "sessions"


def _system(batch: Any) -> None:
    batch.head["collection"] = "system.users"


def _elsewhere(batch: Any) -> None:
    batch.head["collection"] = "../../etc/passwd"


@pytest.mark.parametrize(
    "forge", [_foreign_id, _foreign_field, _swapped, _unbound, _sessions, _system, _elsewhere], ids=lambda f: f.__name__
)
async def test_o8_forged_archives_are_refused(
    served: Roost, backup: Backup, tmp_path: Path, forge: Callable[[Any], None]
) -> None:
    """O8: a foreign app_id inside the archive, and collections that it has no business in; nobody else is touched."""
    file, forged = tmp_path / "acme.roost", tmp_path / "forged.roost"
    await backup.export("acme", file, silent)
    before = await all_notes(served, "globex")
    with forged.open("wb") as out:
        for batch in read_batches(file):
            if batch.head.get("collection") == "notes":
                forge(batch)
            write_batch(out, batch.head, batch.documents)
    with pytest.raises(BrokenArchive):
        await backup.fill(forged, "acme-two", silent)
    assert await all_notes(served, "globex") == before
    half = await served.backend.tenants.get("acme-two")
    assert half is not None
    assert half.status == "suspended"


async def test_damaged_archives_are_refused(backup: Backup, tmp_path: Path) -> None:
    file, damaged = tmp_path / "acme.roost", tmp_path / "damaged.roost"
    await backup.export("acme", file, silent)
    whole = file.read_bytes()
    line = json.dumps({"format": "roost-archive", "version": 99, "app_id": "acme", "at": "now", "tenant": {}})
    rows = [
        b"", b"no archive", whole[:10], whole[: len(whole) // 2], gzip.compress(b"{}\n"), gzip.compress(b"[]\n[]\n"),
        bytes([*whole[:200], whole[200] ^ 1, *whole[201:]]), whole + whole,
    ]  # fmt: skip
    for content in rows:
        damaged.write_bytes(content)
        with pytest.raises(BrokenArchive):
            await backup.fill(damaged, "acme-two", silent)
        await backup._entries.delete_one({"_id": "acme-two"})
    with damaged.open("wb") as out:
        write_batch(out, json.loads(line))
    with pytest.raises(BrokenArchive, match="version 99"):
        await backup.fill(damaged, "acme-two", silent)


def test_o8_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """O8: what is larger than any batch is refused before it takes memory."""
    bomb = tmp_path / "bomb.roost"
    bomb.write_bytes(gzip.compress(b"0" * (LARGEST + 1024), compresslevel=1))
    with pytest.raises(BrokenArchive, match="larger"):
        list(read_batches(bomb))
    assert intact_end(bomb) == ([], 0)


async def test_there_is_nothing_of_the_control_plane_to_export(served: Roost, backup: Backup, tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        await backup.export(served.settings.control_plane, tmp_path / "x", silent)
    with pytest.raises(NotFound):
        await backup.export("unheard-of", tmp_path / "x", silent)


async def test_a_clone_has_no_data_of_real_people(served: Roost, backup: Backup) -> None:
    rules = check_rules(
        {"users": {"username": "name", "password": "drop"}, "notes": {"text": "text", "n": {"value": 7}}}
    )
    del rules["notes"]["n"]  # type: ignore[attr-defined]
    await backup.clone("acme", "acme-test", Anonymiser(rules), silent)
    notes, copies = await all_notes(served, "acme"), await all_notes(served, "acme-test")
    assert [note["n"] for note in copies] == [note["n"] for note in notes]
    assert [len(note["text"]) for note in copies] == [len(note["text"]) for note in notes]
    assert not any("hello" in note["text"] for note in copies)
    async with connect(served, "acme-test") as client:
        with pytest.raises(CallError):
            await client.login("ada", PASSWORD)
        await client.sign_up("ada")
        users = await client.call("find", "users", {})
    assert sorted(user["username"][:5] for user in users["data"]) == ["ada", "user-"]


def test_anonymising_is_consistent_within_a_run_and_reaches_deep() -> None:
    rules = {
        "people": {"email": "email", "friends.name": "name", "phone": "null", "tags": "hash", "bio": {"value": "x"}}
    }
    one, other = Anonymiser(check_rules(rules)), Anonymiser(check_rules(rules))
    document = {
        "email": "a@b.c",
        "friends": [{"name": "eve"}, {"name": "eve"}],
        "phone": "1",
        "tags": ["a", "b"],
        "bio": 1,
    }

    def changed(by: Anonymiser) -> Any:
        return by("people", json.loads(json.dumps(document)))

    first = changed(one)
    assert first == changed(one) != changed(other)
    assert first["friends"][0] == first["friends"][1] != {"name": "eve"}
    assert first["email"].endswith("@anonymised.invalid")
    assert (first["phone"], first["bio"], len(first["tags"])) == (None, "x", 2)
    assert one("others", {"email": "a@b.c"}) == {"email": "a@b.c"}


@pytest.mark.parametrize(
    "rules",
    [[], {"users": []}, {"users": {"_id": "drop"}}, {"users": {"a": "shred"}}, {"users": {"a": {"value": 1, "x": 2}}}],
)
def test_odd_rules_are_refused(rules: Any) -> None:
    with pytest.raises(DeclarationError):
        check_rules(rules)


async def test_the_commands_work(served: Roost, tmp_path: Path) -> None:
    assert served.settings.mongodb_uri is not None
    env = environment(served.settings.mongodb_uri.get_secret_value(), served.settings.database)
    file, rules = tmp_path / "acme.roost", tmp_path / "rules.yaml"
    rules.write_text("users: {username: name}\n", encoding="utf-8")
    exported = await run("tenants", "export", "acme", file, env=env)
    assert (exported.code, "notes" in exported.err) == (0, True), exported.err
    again = await run("tenants", "export", "acme", file, env=env)
    assert (again.code, "--resume" in again.err) == (1, True)
    imported = await run("tenants", "import", file, "--as", "acme-two", env=env)
    assert imported.code == 0, imported.err
    cloned = await run("tenants", "clone", "acme", "acme-three", "--anonymise", rules, env=env)
    assert cloned.code == 0, cloned.err
    assert len(await all_notes(served, "acme-two")) == len(await all_notes(served, "acme-three")) == 31
