"""Archives and rules that mean harm, or a mistake (LIMITS O8): what they claim, and what is lost on the way."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hooks.errors import BadRequest, Conflict
from server.main import Roost
from services.control.backup import backup as module
from services.control.backup.anonymise import Anonymiser, check_rules
from services.control.backup.archive import Batch, BrokenArchive, read_batches, write_batch
from services.control.backup.backup import Backup
from services.control.moves.moves import Destination
from services.control.operations import SUCCEEDED
from services.declaration import DeclarationError
from services.users import KEY
from tests.conftest import StartRoost
from tests.integration.placement.moving import ended
from tests.integration.server.command import environment, run
from tests.support.client import connect

APPS = """
tenants:
  - id: acme
    services:
      notes: {search: [text], rules: {default: public}, multi: true, paginate: {default: 10, max: 1000}}
      memos: {collection: papers, rules: {default: public}}
  - id: globex
    auth: {username_field: email}
    services: {notes: {rules: {default: public}}}
"""


@pytest.fixture
async def served(roosts: StartRoost, monkeypatch: pytest.MonkeyPatch) -> Roost:
    monkeypatch.setattr(module, "BATCH", 7)
    roost = await roosts(APPS)
    async with connect(roost, "acme") as ada:
        await ada.sign_up("ada")
        await ada.call("create", "notes", [{"text": f"confidential number {n}", "n": n} for n in range(30)], {})
    return roost


@pytest.fixture
def backup(served: Roost) -> Backup:
    return served.backend.backup


def silent(collection: str, count: int) -> None:
    """Progress that nobody watches."""


def rewrite(file: Path, forged: Path, forge: Callable[[list[Batch]], list[Batch]]) -> Path:
    """An archive of what `forge` makes of the batches of another one."""
    with forged.open("wb") as out:
        for batch in forge(list(read_batches(file))):
            write_batch(out, batch.head, batch.documents)
    return forged


@pytest.mark.parametrize("named", ["globex-two", "globex", "control_plane"])
async def test_an_archive_does_not_say_which_app_is_made(
    served: Roost, backup: Backup, tmp_path: Path, named: str
) -> None:
    """O8: neither another id, nor anything else that no export writes."""
    file = tmp_path / "acme.roost"
    count = await backup.export("acme", file, silent)

    def forge(batches: list[Batch]) -> list[Batch]:
        batches[0].head["tenant"] |= {"id": named, "placement": {"cluster": "elsewhere"}, "status": "ready"}
        return batches

    before = await served.backend.tenants.get(named)
    assert await backup.fill(rewrite(file, tmp_path / "forged", forge), "acme-two", silent) == count
    assert await served.backend.tenants.get(named) == before
    made = await served.backend.tenants.get("acme-two")
    assert made is not None
    assert made.status == "ready"


def _without_one(batches: list[Batch]) -> list[Batch]:
    return [batch for batch in batches if batch is not next(b for b in batches if b.head.get("collection") == "notes")]


def _twice(batches: list[Batch]) -> list[Batch]:
    return [*batches[:-1], batches[-2], batches[-1]]


def _other_count(batches: list[Batch]) -> list[Batch]:
    batches[-1].head["documents"] += 1
    return batches


@pytest.mark.parametrize("forge", [_without_one, _twice, _other_count], ids=lambda forge: forge.__name__)
async def test_an_archive_whose_parts_do_not_add_up_is_refused(
    served: Roost, backup: Backup, tmp_path: Path, forge: Any
) -> None:
    """O8: each part has a checksum of its own; whether all are there is known by the end."""
    file = tmp_path / "acme.roost"
    await backup.export("acme", file, silent)
    with pytest.raises(BrokenArchive, match="a part of it is missing"):
        await backup.fill(rewrite(file, tmp_path / "forged", forge), "acme-two", silent)
    half = await served.backend.tenants.get("acme-two")
    assert half is not None
    assert half.status == "suspended"


@pytest.mark.parametrize(
    "value",
    [
        '{"$oid": "x"}', '{"$numberDecimal": "x"}', '{"$date": {"$numberLong": "9999999999999999999"}}',
        '{"$binary": {"base64": "!", "subType": "zz"}}', '{"$numberInt": 5}', "[" * 100_000,
    ],
)  # fmt: skip
def test_values_that_are_none_break_an_archive(tmp_path: Path, value: str) -> None:
    file = tmp_path / "odd.roost"
    file.write_bytes(_sealed(f'{{"collection": "notes", "count": 1}}\n{{"_id": {value}}}\n'.encode()))
    with pytest.raises(BrokenArchive):
        list(read_batches(file))


def test_o8_a_bomb_of_small_documents_is_not_unfolded(tmp_path: Path) -> None:
    """O8: a few bytes of text are hundreds in memory."""
    file = tmp_path / "bomb.roost"
    file.write_bytes(_sealed(b'{"collection": "notes", "count": 100000}\n' + b"{}\n" * 100_000))
    with pytest.raises(BrokenArchive, match="more documents"):
        list(read_batches(file))


def _sealed(text: bytes) -> bytes:
    return gzip.compress(text + b'{"sha256": "%s"}\n' % hashlib.sha256(text).hexdigest().encode())


async def test_an_archive_is_for_nobody_else_to_read(backup: Backup, tmp_path: Path) -> None:
    """It has the hashes of passwords. Nor is it written to where a link leads."""
    file, link, elsewhere = tmp_path / "acme.roost", tmp_path / "link.roost", tmp_path / "elsewhere"
    before = os.umask(0)
    try:
        await backup.export("acme", file, silent)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    link.symlink_to(elsewhere)
    with pytest.raises(Conflict):
        await backup.export("acme", link, silent)
    assert not elsewhere.exists()


async def test_an_export_of_an_app_that_goes_meanwhile_has_no_end(
    served: Roost, backup: Backup, tmp_path: Path
) -> None:
    """What was purged before it was read must not be missed first when it is needed."""
    file, lifecycle = tmp_path / "acme.roost", served.backend.control.lifecycle
    read = module._batches

    async def slow(collection: Any, app_id: str, after: Any) -> Any:
        if collection.name == "notes":
            await lifecycle.settle((await lifecycle.delete("acme")).id, 30)
        async for batch in read(collection, app_id, after):
            yield batch

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_batches", slow)
        with pytest.raises(Conflict, match="deleted"):
            await backup.export("acme", file, silent)
    assert not any(batch.head.get("end") for batch in read_batches(file))


async def test_an_export_of_an_app_that_is_moved_meanwhile_has_no_end(
    served: Roost, backup: Backup, tmp_path: Path
) -> None:
    """What it had read of the old place, and what was left there, are not the app any more."""
    file, moves = tmp_path / "acme.roost", served.backend.moves
    read, there = module._batches, Destination("database")

    async def slow(collection: Any, app_id: str, after: Any) -> Any:
        if collection.name == "notes":
            assert (await ended(served, await moves.promote("acme", there))).state == SUCCEEDED
            assert (await ended(served, await moves.finalize("acme", now=True))).state == SUCCEEDED
        async for batch in read(collection, app_id, after):
            yield batch

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_batches", slow)
        with pytest.raises(Conflict, match="moved"):
            await backup.export("acme", file, silent)
    kept = list(read_batches(file))
    assert not any(batch.head.get("end") for batch in kept)
    assert not any(batch.head.get("collection") == "notes" for batch in kept), "they were read where they are no more"
    again = tmp_path / "again.roost"
    await backup.export("acme", again, silent)
    notes = [batch for batch in read_batches(again) if batch.head.get("collection") == "notes"]
    assert sum(len(batch.documents) for batch in notes) == 30


async def test_nothing_is_imported_into_an_app_that_is_deleted_meanwhile(
    served: Roost, backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is purged does not come back."""
    file, lifecycle = tmp_path / "acme.roost", served.backend.control.lifecycle
    await backup.export("acme", file, silent)
    insert, inserted = module._insert, []

    async def delete_after(collection: Any, documents: Any) -> None:
        await insert(collection, documents)
        inserted.append(collection)
        await lifecycle.settle((await lifecycle.delete("acme-two")).id, 30)

    monkeypatch.setattr(module, "_insert", delete_after)
    with pytest.raises(Conflict, match="deleted"):
        await backup.fill(file, "acme-two", silent)
    assert len(inserted) == 1
    assert await served.backend.tenants.get("acme-two") is None
    assert [await one.count_documents({"app_id": "acme-two"}) for one in inserted] == [0]


async def test_a_clone_cannot_be_searched_for_what_was_taken_out(served: Roost, backup: Backup) -> None:
    """The words that searches look in are kept beside the record: they are those of the copy."""
    await backup.clone("acme", "acme-test", Anonymiser(check_rules({"notes": {"text": "text"}})), silent)
    tenant = await served.backend.tenants.get("acme-test")
    assert tenant is not None
    async with served.backend.placements.administer(tenant) as handle:
        kept = await handle.raw["notes"].find({"app_id": "acme-test"}).to_list()
    assert len(kept) == 30
    assert "confidential" not in str(kept)
    async with connect(served, "acme-test") as client:
        assert (await client.call("find", "notes", {"$search": "confidential"}))["data"] == []
    async with connect(served, "acme") as client:
        assert (await client.call("find", "notes", {"$search": "confidential"}))["data"] != []


@pytest.mark.parametrize("field", ["_id.a", "_id.i", "app_id.x", "_id"])
def test_rules_do_not_change_whose_a_document_is(field: str) -> None:
    with pytest.raises(DeclarationError, match="no field"):
        check_rules({"notes": {field: {"value": "globex"}}})


async def test_a_change_cannot_make_a_document_another_apps(served: Roost, backup: Backup) -> None:
    def change(collection: str, document: dict[str, Any]) -> dict[str, Any]:
        document["_id"]["a"] = document["app_id"] = "globex"
        return document

    await backup.clone("acme", "acme-test", change, silent)
    async with connect(served, "globex") as eve:
        assert (await eve.call("find", "notes", {}))["total"] == 0


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ({"email": "email"}, "ada"),
        ({"email": "drop"}, "ada"),
        ({"username": {"value": "X"}, "email": "email"}, "x"),
        ({"username": "drop"}, None),
    ],
)
def test_a_user_keeps_the_key_of_his_name_alone(rules: Any, key: str | None) -> None:
    """The field in which the app has names decides, not another one that is changed too."""
    user = {"username": "Ada", "email": "ada@example.org", KEY: "ada"}
    assert Anonymiser(check_rules({"users": rules}))("users", user).get(KEY) == key


def test_a_key_never_outlasts_the_name_it_was_made_of() -> None:
    user = {"email": "ada@example.org", KEY: "ada@example.org"}
    changed = Anonymiser(check_rules({"users": {"email": "email"}}))("users", user)
    assert changed[KEY] == changed["email"] != "ada@example.org"


async def test_rules_for_what_there_is_not_are_told(served: Roost, backup: Backup, tmp_path: Path) -> None:
    """A slip of the pen must not leave real people's data in the copy without a word."""
    rules = check_rules({"nots": {"text": "text"}})
    with pytest.raises(BadRequest, match="no collection nots"):
        await backup.clone("acme", "acme-test", Anonymiser(rules), silent, named=[*rules])
    assert await served.backend.tenants.get("acme-test") is None
    assert served.settings.mongodb_uri is not None
    env = environment(served.settings.mongodb_uri.get_secret_value(), served.settings.database)
    file = tmp_path / "rules.yaml"
    file.write_text("notes: {text: text, txet: drop}\npapers: {text: text}\nsessions: {x: drop}\n", encoding="utf-8")
    cloned = await run("tenants", "clone", "acme", "acme-test", "--anonymise", file, env=env)
    assert cloned.code == 0, cloned.err
    assert "notes.txet was in no document" in cloned.err
    assert "notes.text was" not in cloned.err


async def test_an_anonymised_clone_has_no_log_of_what_real_people_did(served: Roost, tmp_path: Path) -> None:
    """Names and addresses are all over it, in details too, where no rule for a field finds them."""
    assert served.settings.mongodb_uri is not None
    env = environment(served.settings.mongodb_uri.get_secret_value(), served.settings.database)

    async def logged(app_id: str, *options: str) -> list[str]:
        cloned = await run("tenants", "clone", "acme", app_id, *options, env=env)
        assert cloned.code == 0, cloned.err
        tenant = await served.backend.tenants.get(app_id)
        assert tenant is not None
        async with served.backend.placements.administer(tenant) as handle:
            kept = await handle.raw["audit_log"].find({"app_id": app_id}).to_list()
        return [entry["event"] for entry in kept if entry["event"] in ("sign-up", "sign-in")]

    async with connect(served, "acme") as ada:
        await ada.login("ada")
    await served.backend.audit.settled()
    rules, own = tmp_path / "rules.yaml", tmp_path / "own.yaml"
    rules.write_text("users: {username: name}\n", encoding="utf-8")
    own.write_text("audit_log: {address: drop, details: drop}\n", encoding="utf-8")
    whole = await logged("acme-whole")
    assert whole != []
    assert await logged("acme-test", "--anonymise", str(rules)) == []
    assert await logged("acme-own", "--anonymise", str(own)) == whole


def test_parts_without_documents_are_no_place_to_go_on_from(tmp_path: Path) -> None:
    file = tmp_path / "odd.roost"
    with file.open("wb") as out:
        write_batch(out, {"format": "roost-archive", "version": 1, "app_id": "acme", "at": "", "tenant": {}})
        write_batch(out, {"collection": "notes", "count": 0})
    with pytest.raises(BadRequest, match="could go on"):
        module._begun(file, "acme", resume=True)
