"""Caches (TENANCY CK-1..4): every key carries its tenant and epoch, and budgets are each tenant's own."""

from __future__ import annotations

import ast
import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.errors import Unavailable
from hooks.tenant import Tenant
from services import cache as caches
from services.cache import Cache, Shelves, key

ACME, GLOBEX = Tenant("acme", "Acme"), Tenant("globex", "Globex")
ROOT = Path(__file__).parents[3]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_tenants_do_not_share_entries() -> None:
    """CK-1: the same kind and id in two tenants are two entries."""
    cache = Cache()
    cache.of(ACME).put("user", "1", "ada", seconds=10)
    assert cache.of(ACME).get("user", "1") == "ada"
    assert cache.of(GLOBEX).get("user", "1") is None


_words = st.text(min_size=1, max_size=8)


@given(st.tuples(_words, _words), st.tuples(_words, _words))
def test_no_kind_or_id_reaches_into_another_entry(one: tuple[str, str], other: tuple[str, str]) -> None:
    """CK-1: ids are escaped, so different entries never have the same key."""
    assert (key("acme", 1, *one) == key("acme", 1, *other)) == (one == other)
    assert key("acme", 1, *one).startswith("t:acme:e1:")


def test_a_value_lasts_for_its_seconds() -> None:
    clock = Clock()
    part = Cache(clock=clock).of(ACME)
    part.put("user", "1", "ada", seconds=10)
    clock.now = 9.9
    assert part.get("user", "1") == "ada"
    clock.now = 10
    assert part.get("user", "1") is None


def test_a_noisy_tenant_pushes_out_its_own_entries_alone() -> None:
    """CK-2: by number and by bytes."""
    cache = Cache(entries=10, size=1000)
    cache.of(GLOBEX).put("user", "1", "eve", seconds=10)
    for number in range(1000):
        cache.of(ACME).put("user", str(number), number, seconds=10, size=1)
    assert [number for number in range(1000) if cache.of(ACME).get("user", str(number)) is not None] == [
        *range(990, 1000)
    ]
    cache.of(ACME).put("user", "large", "x", seconds=10, size=995)
    assert cache.of(ACME).get("user", "large") == "x"
    assert cache.of(ACME).get("user", "990") is None
    cache.of(ACME).put("user", "too large", "x", seconds=10, size=1001)
    assert cache.of(ACME).get("user", "too large") is None
    assert cache.of(GLOBEX).get("user", "1") == "eve"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyzuvw"), st.integers(0, 6)), max_size=60))
def test_budgets_hold_whatever_happens(puts: list[tuple[str, str, int]]) -> None:
    """CK-2: never more entries or bytes than allowed; what a tenant has depends on its own puts alone."""
    both, alone = Shelves[int](entries=3, size=10), Shelves[int](entries=3, size=10)
    for tenant, id, size in puts:
        both.put(tenant, id, size, size)
        if tenant == "a":
            alone.put(tenant, id, size, size)
        for each in "ab":
            kept = [*both.of(each)]
            assert len(kept) <= 3
            assert sum(value for _, value in kept) <= 10
    assert [*both.of("a")] == [*alone.of("a")]


def test_shelves_are_bounded_too() -> None:
    shelves: Shelves[int] = Shelves(tenants=2)
    for tenant in ("one", "two", "three"):
        shelves.put(tenant, "x", 1)
    assert [shelves.get(tenant, "x") for tenant in ("one", "two", "three")] == [None, 1, 1]
    assert len(shelves) == 2


def test_a_tenant_that_has_changed_finds_nothing_older() -> None:
    """CK-4: the epoch is in the key; a deleted tenant's entries go all at once."""
    cache = Cache()
    cache.of(ACME).put("user", "1", "ada", seconds=10)
    assert cache.of(replace(ACME, epoch=2)).get("user", "1") is None
    cache.of(GLOBEX).put("user", "1", "eve", seconds=10)
    cache.forget("acme")
    assert cache.of(ACME).get("user", "1") is None
    assert cache.of(GLOBEX).get("user", "1") == "eve"


def test_a_value_that_is_too_large_pushes_nothing_out() -> None:
    shelves: Shelves[str] = Shelves(size=100)
    shelves.put("acme", "small", "a", 10)
    shelves.put("acme", "grown", "b", 10)
    shelves.put("acme", "grown", "c", 101)
    shelves.put("globex", "large", "d", 101)
    assert shelves.all() == [("acme", "small", "a")], "what was kept under its name is no longer true"


async def test_what_is_loaded_has_its_weight() -> None:
    """CK-2: values that are loaded keep within the tenant's bytes as well."""
    cache = Cache(size=100)

    async def load() -> str:
        return "x" * 40

    for number in range(10):
        assert await cache.of(ACME).fetch("settings", str(number), load, seconds=10, weigh=len) == "x" * 40
    assert len(cache.shelves) == 2


async def test_many_who_ask_at_once_make_one_load() -> None:
    part, loads, go_on = Cache().of(ACME), 0, asyncio.Event()

    async def load() -> str:
        nonlocal loads
        loads += 1
        await go_on.wait()
        return "ada"

    asked = [asyncio.ensure_future(part.fetch("user", "1", load, seconds=10)) for _ in range(100)]
    await asyncio.sleep(0)
    asked[0].cancel()
    go_on.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[1:] == ["ada"] * 99, "one who gives up does not take it from the others"
    assert await part.fetch("user", "1", load, seconds=10) == "ada"
    assert loads == 1


async def test_an_error_is_told_to_all_and_not_kept() -> None:
    part, failures = Cache().of(ACME), [Unavailable()]

    async def load() -> str:
        if failures:
            raise failures.pop()
        return "ada"

    failed = await asyncio.gather(
        *(part.fetch("user", "1", load, seconds=10) for _ in range(3)), return_exceptions=True
    )
    assert [type(error) for error in failed] == [Unavailable] * 3
    assert await part.fetch("user", "1", load, seconds=10) == "ada"


async def test_a_load_from_before_a_change_does_not_win() -> None:
    part, go_on = Cache().of(ACME), asyncio.Event()

    async def load() -> str:
        await go_on.wait()
        return "old"

    asked = asyncio.ensure_future(part.fetch("user", "1", load, seconds=10))
    await asyncio.sleep(0)
    part.drop("user", "1")
    go_on.set()
    assert await asked == "old"
    assert part.get("user", "1") is None


async def test_a_load_from_before_all_was_forgotten_does_not_win() -> None:
    cache, go_on = Cache(), asyncio.Event()

    async def load() -> str:
        await go_on.wait()
        return "old"

    asked = [asyncio.ensure_future(cache.of(one).fetch("user", "1", load, seconds=10)) for one in (ACME, GLOBEX)]
    await asyncio.sleep(0)
    cache.forget("acme")
    go_on.set()
    assert await asyncio.gather(*asked) == ["old", "old"]
    assert (cache.of(ACME).get("user", "1"), cache.of(GLOBEX).get("user", "1")) == (None, "old")


PURE = {
    ("services/query.py", "lru_cache"),
    ("server/addresses.py", "lru_cache"),
    ("services/authentication/policy.py", "cache"),
    ("services/application.py", "_NO_ROUTE"),
}
"""Results of pure functions over what is no tenant's, and constants."""
_CONTAINERS = ("dict", "list", "set", "OrderedDict", "WeakKeyDictionary")


def _kept_by_modules(tree: ast.Module) -> set[str]:
    """The caching decorators that a module imports, and the empty containers that it could fill."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "functools")
    found = {name.name for node in imports for name in node.names} & {"lru_cache", "cache"}
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            value, target = node.value, node.targets[0] if isinstance(node, ast.Assign) else node.target
            empty = (isinstance(value, ast.Dict) and not value.keys) or (isinstance(value, ast.List) and not value.elts)
            made = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _CONTAINERS
            if empty or (made and isinstance(value, ast.Call) and not value.args):
                found.add(ast.unparse(target))
    return found


def test_no_module_keeps_data_of_tenants_beside_the_caches() -> None:
    """CK-3: no `lru_cache`, and no container that a module fills, outside of the places that are known to be harmless."""
    found: set[tuple[str, str]] = set()
    for folder in ("hooks", "services", "server"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            names = _kept_by_modules(ast.parse(file.read_text(encoding="utf-8")))
            found.update((file.relative_to(ROOT).as_posix(), name) for name in names)
    assert found == PURE
    assert _kept_by_modules(ast.parse("users = {}\nfrom functools import lru_cache")) == {"users", "lru_cache"}


@pytest.mark.parametrize("name", ["put", "get", "of"])
def test_the_cache_itself_offers_nothing_without_a_tenant(name: str) -> None:
    """CK-1: raw keys are impossible outside of the wrapper."""
    assert hasattr(Cache, name) == (name == "of")
    assert "tenant" in caches.Cache.of.__annotations__
