"""Signing keys and the master key that seals them."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from hooks.errors import GeneralError, Unavailable
from services.authentication.keys import KeyRecord, Keys, MemoryKeyStore
from services.authentication.master import FILE, BrokenSeal, MasterKey

MASTER = MasterKey(b"m" * 32)


class CountingStore(MemoryKeyStore):
    """Counts the loads, and lets them wait for the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = 0
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, app_id: str) -> list[KeyRecord]:
        self.loads += 1
        found = await super().load(app_id)
        await self.gate.wait()
        if self.fails:
            raise Unavailable
        return found


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def keys(store: CountingStore) -> Keys:
    return Keys(store, MASTER)


def test_what_is_sealed_opens_for_its_place_alone() -> None:
    sealed = MASTER.seal(b"secret", "signing key", "acme", "k1")
    assert b"secret" not in sealed
    assert MASTER.open(sealed, "signing key", "acme", "k1") == b"secret"
    for place in [
        ("signing key", "acme", "k2"),
        ("signing key", "globex", "k1"),
        ("acme", "k1"),
        ("signing key", "acmek1"),
    ]:
        with pytest.raises(BrokenSeal):
            MASTER.open(sealed, *place)
    with pytest.raises(BrokenSeal):
        MasterKey(b"n" * 32).open(sealed, "signing key", "acme", "k1")


def test_a_seal_notices_every_changed_byte() -> None:
    sealed = MASTER.seal(b"secret", "a")
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(BrokenSeal):
            MASTER.open(bytes(changed), "a")
    for length in range(len(sealed)):
        with pytest.raises(BrokenSeal):
            MASTER.open(sealed[:length], "a")
    assert MASTER.seal(b"secret", "a") != sealed, "each seal has a nonce of its own"


def test_a_master_key_is_read_from_text_and_never_shown() -> None:
    text = "-_" * 21 + "8"
    assert (
        MasterKey.parse(text).open(
            MasterKey.parse(f" {text}=\n").seal(b"x"),
        )
        == b"x"
    )
    assert text not in repr(MasterKey.parse(text))
    for wrong in ("", "short", "A" * 42, "A" * 44, "A" * 42 + "*", "é" * 43):
        with pytest.raises(ValueError, match=r"32 random bytes.*token_urlsafe") as caught:
            MasterKey.parse(wrong)
        assert not wrong or wrong not in str(caught.value)


def test_a_directory_gets_one_key_for_its_owner_alone(tmp_path: Path) -> None:
    place = tmp_path / "data"
    sealed = MasterKey.in_directory(place).seal(b"x")
    assert MasterKey.in_directory(place).open(sealed) == b"x"
    assert [entry.name for entry in place.iterdir()] == [FILE]
    assert stat.S_IMODE((place / FILE).stat().st_mode) == 0o600
    (place / FILE).write_text("spoiled")
    with pytest.raises(ValueError, match="holds no master key"):
        MasterKey.in_directory(place)


async def test_at_rest_a_private_key_is_sealed(keys: Keys) -> None:
    record = await keys.create("acme")
    key = await keys.signing_key("acme")
    assert key.kid == record.kid
    assert set(record.public) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert KeyRecord.from_document(record.to_document()) == record
    secret = key.private.private_numbers().private_value.to_bytes(32)
    assert secret not in record.sealed
    assert key.kid not in repr(key)


async def test_a_record_that_was_moved_or_changed_does_not_sign(keys: Keys, store: CountingStore) -> None:
    mine, theirs = await keys.create("acme"), await keys.create("globex")
    for spoiled in (
        replace(mine, sealed=theirs.sealed),
        replace(mine, sealed=b""),
        replace(mine, app_id="initech"),
        replace(mine, public=theirs.public),
    ):
        store.records = {mine.kid: spoiled}
        keys.forget(spoiled.app_id)
        with pytest.raises(GeneralError):
            await keys.signing_key(spoiled.app_id)


async def test_another_master_key_verifies_but_does_not_sign(store: CountingStore, keys: Keys) -> None:
    record = await keys.create("acme")
    other = Keys(store, MasterKey(b"n" * 32))
    assert await other.verification_key("acme", record.kid) is not None
    with pytest.raises(GeneralError):
        await other.signing_key("acme")


async def test_a_key_id_means_nothing_in_another_tenant(keys: Keys) -> None:
    mine, theirs = await keys.create("acme"), await keys.create("globex")
    assert await keys.verification_key("acme", mine.kid) is not None
    assert await keys.verification_key("acme", theirs.kid) is None
    assert [key["kid"] for key in (await keys.jwks("acme"))["keys"]] == [mine.kid]
    assert "d" not in (await keys.jwks("acme"))["keys"][0]


async def test_a_store_that_answers_with_anothers_keys_is_not_believed(keys: Keys, store: CountingStore) -> None:
    theirs = await keys.create("globex")

    class Careless(CountingStore):
        async def load(self, app_id: str) -> list[KeyRecord]:
            return list(store.records.values())

    assert await Keys(Careless(), MASTER).verification_key("acme", theirs.kid) is None


async def test_keys_are_loaded_once_for_all_who_wait(keys: Keys, store: CountingStore) -> None:
    record = await keys.create("acme")
    store.gate.clear()
    waiting = [asyncio.create_task(keys.verification_key("acme", record.kid)) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    store.gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert None not in found[1:]
    assert store.loads == 1


async def test_a_load_that_fails_is_tried_again(keys: Keys, store: CountingStore) -> None:
    record = await keys.create("acme")
    store.fails = True
    with pytest.raises(Unavailable):
        await keys.verification_key("acme", record.kid)
    store.fails = False
    assert await keys.verification_key("acme", record.kid) is not None


async def test_a_load_from_before_a_change_is_not_kept(keys: Keys, store: CountingStore) -> None:
    store.gate.clear()
    early = asyncio.create_task(keys.jwks("acme"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    record = await keys.create("acme")
    store.gate.set()
    assert await early == {"keys": []}
    assert (await keys.signing_key("acme")).kid == record.kid


async def test_an_unknown_key_id_is_looked_for_once_a_moment(store: CountingStore) -> None:
    now = 100.0
    keys = Keys(store, MASTER, reload=1.0, clock=lambda: now)
    for _ in range(50):
        assert await keys.verification_key("acme", "unknown") is None
    assert store.loads == 1
    elsewhere = await Keys(store, MASTER).create("acme")
    assert await keys.verification_key("acme", elsewhere.kid) is None
    now += 1.0
    assert await keys.verification_key("acme", elsewhere.kid) is not None
    assert store.loads == 2


async def test_the_newest_key_signs_and_earlier_ones_verify(keys: Keys) -> None:
    first = await keys.create("acme")
    second = await keys.create("acme")
    assert (await keys.signing_key("acme")).kid == second.kid
    assert await keys.verification_key("acme", first.kid) is not None


async def test_ensure_makes_a_key_only_where_there_is_none(keys: Keys, store: CountingStore) -> None:
    with pytest.raises(GeneralError):
        await keys.signing_key("acme")
    await keys.ensure("acme")
    await keys.ensure("acme")
    assert len(store.records) == 1


async def test_keys_are_kept_for_the_most_recent_tenants(store: CountingStore) -> None:
    keys = Keys(store, MASTER, most_tenants=2)
    for tenant in ("a", "b", "a", "c"):
        await keys.jwks(tenant)
    assert [keys.ring(tenant) is not None for tenant in ("a", "b", "c")] == [True, False, True]
