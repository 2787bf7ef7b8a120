"""Patches with update operators, and fields that clients do not write: over every store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bson import ObjectId

from hooks.context import Params, Record
from hooks.errors import BadRequest, Conflict, NotFound
from services.update import UPDATE_OPERATORS
from tests.integration.services.conftest import MakeService
from tests.integration.services.places import Ask

ALL = frozenset(UPDATE_OPERATORS)


async def test_each_operator(make: MakeService, ask: Ask) -> None:
    service = make(updates=ALL)
    record: Any = await service.create({"n": 1, "m": 5, "tags": ["a", "b"], "at": {"x": 1, "y": 2}, "old": True}, ask())
    id = record["_id"]
    steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"text": "new", "$set": {"at.x": 9}}, {"text": "new", "at": {"x": 9, "y": 2}}),
        ({"$unset": {"old": True, "at.y": 1}}, {"old": None, "at": {"x": 9}}),
        ({"$inc": {"n": 2, "likes": 1}}, {"n": 3, "likes": 1}),
        ({"$mul": {"n": 2}, "$min": {"m": 3}, "$max": {"likes": 7}}, {"n": 6, "m": 3, "likes": 7}),
        ({"$push": {"tags": "c"}}, {"tags": ["a", "b", "c"]}),
        ({"$push": {"tags": {"$each": ["d", "e"], "$position": 0, "$slice": 4}}}, {"tags": ["d", "e", "a", "b"]}),
        ({"$addToSet": {"tags": {"$each": ["a", "z"]}}}, {"tags": ["d", "e", "a", "b", "z"]}),
        ({"$pull": {"tags": {"$in": ["d", "e"]}}}, {"tags": ["a", "b", "z"]}),
        ({"$inc": {}}, {}),
    ]
    for data, changed in steps:
        record = {name: value for name, value in {**record, **changed}.items() if value is not None}
        assert await service.patch(id, data, ask()) == record
        assert await service.get(id, ask()) == record


async def test_of_many_records(make: MakeService, ask: Ask, other: Ask) -> None:
    service = make(updates=ALL, multi=frozenset({"create", "patch"}))
    await service.create([{"n": number} for number in range(3)], ask())
    await service.create({"n": 1}, other())
    patched: Any = await service.patch(None, {"$inc": {"n": 10}}, ask({"n": {"$gt": 0}, "$sort": {"n": 1}}))
    assert [record["n"] for record in patched] == [11, 12]
    assert [record["n"] for record in await service.find(ask({"$sort": {"n": 1}}))] == [0, 11, 12]  # type: ignore[index]
    assert [record["n"] for record in await service.find(other())] == [1]  # type: ignore[index]


async def test_calls_at_once_all_count(make: MakeService, ask: Ask) -> None:
    service = make(updates=ALL)
    record: Any = await service.create({"n": 0}, ask())
    await asyncio.gather(*(service.patch(record["_id"], {"$inc": {"n": 1}}, ask()) for _ in range(20)))
    assert (await service.get(record["_id"], ask()))["n"] == 20


@pytest.mark.parametrize("updates", [frozenset(), frozenset({"$inc"})])
async def test_only_what_is_offered(make: MakeService, ask: Ask, updates: frozenset[str]) -> None:
    service = make(updates=updates)
    record: Any = await service.create({"n": 1}, ask())
    for data in ({"$set": {"n": 2}}, {"n": 2, "$push": {"a": 1}}, {"$rename": {"n": "m"}}):
        for provider in ("socketio", None):
            with pytest.raises(BadRequest, match="may not begin"):
                await service.patch(record["_id"], data, ask({}, provider))
    for call in (service.create({"$inc": {"n": 1}}, ask()), service.update(record["_id"], {"$inc": {"n": 1}}, ask())):
        with pytest.raises(BadRequest, match="may not begin"):
            await call
    assert await service.get(record["_id"], ask()) == record


FORBIDDEN: list[tuple[str, Any]] = [
    *[(operator, 1) for operator in ("$set", "$inc", "$min", "$max", "$mul", "$push", "$addToSet", "$pull", "$unset")]
]


@pytest.mark.parametrize(("operator", "operand"), FORBIDDEN)
@pytest.mark.parametrize(
    "path", ["app_id", "app_id.x", "_id", "_id.a", "_id.i", "customid", "customid.x", "__search__.a"]
)
@pytest.mark.parametrize("provider", ["socketio", None])
async def test_no_operator_reaches_what_binds_a_record(
    make: MakeService, ask: Ask, operator: str, operand: Any, path: str, provider: str | None
) -> None:
    service = make(updates=ALL, id="customid", multi=frozenset({"patch"}))
    await service.create({"customid": "x", "n": 1}, ask())
    for id in ("x", None):
        with pytest.raises(BadRequest):
            await service.patch(id, {"n": 2, operator: {path: operand}}, ask({}, provider))
    assert (await service.get("x", ask()))["n"] == 1


async def test_what_does_not_fit_the_record(make: MakeService, ask: Ask) -> None:
    service = make(updates=ALL)
    record: Any = await service.create({"text": "x", "n": 1, "big": 2**62, "tags": ["a"]}, ask())
    for data in (
        {"$inc": {"text": 1}}, {"$push": {"n": 1}}, {"$inc": {"tags": 1}}, {"$set": {"n.x": 1}}, {"$pull": {"n": 1}},
        {"$inc": {"big": 2**62}}, {"$addToSet": {"text": "a"}}, {"$set": {"tags.x": 1}},
    ):  # fmt: skip
        with pytest.raises(BadRequest):
            await service.patch(record["_id"], data, ask())
    assert await service.get(record["_id"], ask()) == record
    with pytest.raises(NotFound):
        await service.patch(str(ObjectId()), {"$inc": {"n": 1}}, ask())
    with pytest.raises(NotFound):
        await service.patch(record["_id"], {"$inc": {"n": 1}}, ask({"n": 2}))


def at_most(bound: int) -> Any:
    def verify(record: Record) -> None:
        if record["n"] > bound:
            raise BadRequest("too many")

    return verify


def verified(ask: Ask, bound: int) -> Params:
    params = ask()
    params.verify = at_most(bound)
    return params


async def test_a_result_that_does_not_pass_is_not_kept(make: MakeService, ask: Ask) -> None:
    service = make(updates=ALL, multi=frozenset({"patch"}))
    record: Any = await service.create({"n": 1}, ask())
    id = record["_id"]
    assert await service.patch(id, {"$inc": {"n": 1}}, verified(ask, 2)) == {"_id": id, "n": 2}
    with pytest.raises(BadRequest, match="too many"):
        await service.patch(id, {"$inc": {"n": 1}}, verified(ask, 2))
    with pytest.raises(BadRequest, match="one record at a time"):
        await service.patch(None, {"$inc": {"n": 1}}, verified(ask, 9))
    with pytest.raises(NotFound):
        await service.patch("none", {"$inc": {"n": 1}}, verified(ask, 2))
    assert await service.get(id, ask()) == {"_id": id, "n": 2}


async def test_it_is_never_passed_by_calls_at_once(make: MakeService, ask: Ask) -> None:
    service = make(updates=ALL)
    record: Any = await service.create({"n": 0}, ask())
    calls = [service.patch(record["_id"], {"$inc": {"n": 1}}, verified(ask, 5)) for _ in range(12)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    kept: Any = (await service.get(record["_id"], ask()))["n"]
    assert kept == sum(isinstance(outcome, dict) for outcome in done) <= 5
    assert all(isinstance(outcome, (dict, BadRequest, Conflict)) for outcome in done)


async def test_a_replacement_keeps_what_clients_do_not_write(make: MakeService, ask: Ask) -> None:
    service = make(readonly=frozenset({"role", "score"}))
    record: Any = await service.create({"text": "a", "role": "admin", "old": 1}, ask({}, None))
    id = record["_id"]
    assert await service.update(id, {"text": "b"}, ask()) == {"_id": id, "text": "b", "role": "admin"}
    assert await service.update(id, {"text": "c", "score": 1}, ask({}, None)) == {"_id": id, "text": "c", "score": 1}
    with pytest.raises(NotFound):
        await service.update(id, {"text": "d"}, ask({"text": "x"}))


@pytest.mark.parametrize(
    "options", [{"updates": frozenset({"$rename"})}, {"search": ("a", "a")}, {"search": tuple("abcdefghi")}]
)
def test_options_that_no_service_has(make: MakeService, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each names the option.
        make(**options)
