"""Resolvers: functions per property that shape data, queries, results and what leaves the server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hooks.chain import AroundHook
from hooks.context import UNSET, HookContext, Params, Record
from hooks.errors import BadRequest, Forbidden
from hooks.internal import Internal, Kept, outside
from hooks.resolve import AT_ONCE, resolve_data, resolve_external, resolve_query, resolve_result
from hooks.tenancy import enforce_app_id
from hooks.tenant import Tenant
from services.application import Application, answer
from services.base import Service
from services.memory import MemoryService
from services.mongo import ServiceOptions
from services.query import Paginate
from services.registration import StepHooks

TENANT = Tenant("acme", "Acme")


def context_of(method: str, data: Any = None, query: Record | None = None) -> HookContext:
    params = Params(tenant=TENANT, query=query or {}, user={"_id": "ada"})
    return HookContext(app=Application(), service=Service(), path="people", method=method, params=params, data=data)


async def shout(value: Any, record: Record, context: HookContext) -> Any:
    await asyncio.sleep(0)
    return value if value is UNSET else str(value).upper()


def remove(value: Any, record: Record, context: HookContext) -> Any:
    return UNSET


def user_id(value: Any, record: Record, context: HookContext) -> Any:
    assert context.params.user is not None
    return context.params.user["_id"]


def full_name(value: Any, record: Record, context: HookContext) -> str:
    return f"{record['first']} {record['last']}"


def app_with(around: list[AroundHook], *, paginate: Paginate | None = None, after: StepHooks = ()) -> Application:
    app = Application()
    options = ServiceOptions("people", paginate=paginate, multi=frozenset({"create", "patch", "remove"}))
    app.use("people", MemoryService(options), rules="public", hooks={"around": {"all": around}, "after": after})
    return app


async def call(
    app: Application, method: str, data: Any = None, query: Record | None = None, id: Any = None
) -> HookContext:
    return await app.call(
        "people", method, Params(tenant=TENANT, query=query or {}, provider="socketio"), id=id, data=data
    )


ADA = {"_id": "1", "first": "Ada", "last": "Byron", "secret": "x"}
BOB = {"_id": "2", "first": "Bob", "last": "Dylan", "secret": "y"}


async def test_data_is_replaced_and_removed_item_by_item_and_the_callers_own_is_left_alone() -> None:
    sent = [{"name": "ada", "gone": 1}, {"gone": 2, "other": 3}]
    context = context_of("create", sent)
    resolve = resolve_data({"name": shout, "gone": remove, "by": user_id})
    await resolve(context)
    assert context.data == [{"name": "ADA", "by": "ada"}, {"other": 3, "by": "ada"}]
    assert sent == [{"name": "ada", "gone": 1}, {"gone": 2, "other": 3}]


async def test_all_functions_of_a_record_run_at_the_same_time() -> None:
    barrier = asyncio.Barrier(3)

    async def meet(value: Any, record: Record, context: HookContext) -> Any:
        await barrier.wait()
        return record["a"]

    context = context_of("create", {"a": 1})
    async with asyncio.timeout(5):
        await resolve_data({"a": meet, "b": meet, "c": meet})(context)
    assert context.data == {"a": 1, "b": 1, "c": 1}


async def test_no_more_than_so_many_records_are_resolved_at_once() -> None:
    running = most = 0

    async def count(value: Any, record: Record, context: HookContext) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return 1

    context = context_of("create", [{} for _ in range(3 * AT_ONCE)])
    await resolve_data({"n": count})(context)
    assert context.data == [{"n": 1}] * 3 * AT_ONCE
    assert most == AT_ONCE


async def test_failures_name_their_properties_and_tell_nothing_of_bugs() -> None:
    async def refuse(value: Any, record: Record, context: HookContext) -> Any:
        raise Forbidden("Not yours")

    def break_down(value: Any, record: Record, context: HookContext) -> Any:
        raise KeyError("the canary")

    with pytest.raises(BadRequest, match="Error resolving data") as caught:
        await resolve_data({"a": refuse, "b": break_down, "c": shout})(context_of("create", {"a": 1, "c": "x"}))
    data = caught.value.to_json()["data"]
    assert {name: (error["code"], error["message"]) for name, error in data.items()} == {
        "a": (403, "Not yours"),
        "b": (500, "Something went wrong on the server."),
    }
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_query_gets_conditions_that_a_client_cannot_undo() -> None:
    own = resolve_query({"owner": user_id})
    for sent in (
        {},
        {"owner": "bob"},
        {"owner": {"$ne": "ada"}},
        {"$and": [{"owner": "bob"}]},
        {"$or": [{"owner": "bob"}, {}]},
        {"$and": "x"},
    ):
        context = context_of("find", query={**sent, "$limit": 5})
        await own(context)
        assert context.params.query["owner"] == "ada"
        assert context.params.query["$limit"] == 5
        assert context.params.query.get("$or") == sent.get("$or")
        assert context.params.query.get("$and") in (None, "x")


async def test_a_query_is_seen_through_the_tenants_own_condition_which_stays() -> None:
    seen = []

    def note(value: Any, query: Record, context: HookContext) -> Any:
        seen.append((value, dict(query)))
        return UNSET if value == "drop" else value

    context = context_of("find", query={"owner": "drop", "n": 1})
    enforce_app_id(context)
    await resolve_query({"owner": note, "n": note, "missing": note})(context)
    everything = {"owner": "drop", "n": 1}
    assert seen == [("drop", everything), (1, everything), (UNSET, everything)]
    assert context.params.query == {"$and": [{"app_id": "acme"}, {"n": 1}]}
    with pytest.raises(ValueError, match="app_id"):
        resolve_query({"app_id": note})


@pytest.mark.parametrize("paginate", [None, Paginate(10, 50)])
async def test_results_are_computed_in_lists_pages_and_single_records(paginate: Paginate | None) -> None:
    app = app_with([resolve_result({"name": full_name, "secret": remove})], paginate=paginate)
    made = await call(app, "create", [ADA, BOB])
    shown = [
        {"_id": "1", "first": "Ada", "last": "Byron", "name": "Ada Byron"},
        {"_id": "2", "first": "Bob", "last": "Dylan", "name": "Bob Dylan"},
    ]
    assert made.result == shown
    found = (await call(app, "find", query={"$sort": {"_id": 1}})).result
    assert found == (shown if paginate is None else {"total": 2, "limit": 10, "skip": 0, "data": shown})
    assert (await call(app, "get", id="1")).result == shown[0]
    assert (await call(app, "remove", id="2")).result == shown[1]


async def test_only_selected_properties_are_computed() -> None:
    computed = []

    def name(value: Any, record: Record, context: HookContext) -> str:
        computed.append(record["_id"])
        return full_name(value, record, context)

    app = app_with([resolve_result({"name": name})])
    await call(app, "create", [ADA, BOB])
    computed.clear()

    assert (await call(app, "get", id="1", query={"$select": ["first"]})).result == {"_id": "1", "first": "Ada"}
    assert computed == []
    context = await call(app, "get", id="1", query={"$select": ["name"]})
    assert context.result == {"_id": "1", "name": "Ada Byron"}
    assert context.params.query == {"$select": ["name"]}
    assert (await call(app, "get", id="1", query={"$select": "name"})).result == {"_id": "1", "name": "Ada Byron"}
    computed.clear()

    patched = await call(app, "patch", {"last": "King"}, {"$select": ["first"]}, id="1")
    assert patched.result == {**ADA, "last": "King", "name": "Ada King"}
    assert answer(patched) == {"_id": "1", "first": "Ada"}
    assert computed == ["1"]


async def test_a_bad_select_is_still_refused() -> None:
    app = app_with([resolve_result({"name": full_name})])
    with pytest.raises(BadRequest, match="select"):
        await call(app, "find", query={"$select": {"name": 1}})


@pytest.mark.parametrize("paginate", [None, Paginate(10, 50)])
async def test_the_external_copy_leaves_and_the_server_itself_keeps_all(paginate: Paginate | None) -> None:
    app = app_with(
        [resolve_external({"secret": remove, "name": shout}), resolve_result({"name": full_name})], paginate=paginate
    )
    told: list[Any] = []
    app.deliver = lambda event: told.append(event.record)
    made = await call(app, "create", [ADA, BOB])
    shown = [
        {"_id": "1", "first": "Ada", "last": "Byron", "name": "ADA BYRON"},
        {"_id": "2", "first": "Bob", "last": "Dylan", "name": "BOB DYLAN"},
    ]
    assert answer(made) == shown == told
    assert made.result[0] == {**ADA, "name": "Ada Byron"}

    found = answer(await call(app, "find", query={"$sort": {"_id": 1}}))
    assert (found if paginate is None else found["data"]) == shown
    inside = Internal(app, Params(tenant=TENANT))
    assert (await inside.get("people", "1"))["secret"] == "x"


async def test_nested_records_of_other_services_are_shown_as_those_show_them() -> None:
    app = app_with([resolve_external({"secret": remove})])
    await call(app, "create", ADA)

    async def author(value: Any, record: Record, context: HookContext) -> Any:
        return await Internal(context.app, context.params).get("people", record["by"])

    async def all_authors(value: Any, record: Record, context: HookContext) -> Any:
        return {"list": await Internal(context.app, context.params).find("people")}

    notes = MemoryService(ServiceOptions("notes"))
    hooks = [resolve_external({}), resolve_result({"author": author, "authors": all_authors})]
    app.use("notes", notes, rules="public", hooks={"around": {"all": hooks}})
    made = await app.call("notes", "create", Params(tenant=TENANT, provider="rest"), data={"by": "1"})
    assert made.result["author"] == ADA
    safe = {"_id": "1", "first": "Ada", "last": "Byron"}
    assert isinstance(made.result["author"], Kept)
    assert made.dispatch["author"] == safe
    assert made.dispatch["authors"] == {"list": [safe]}


async def test_of_records_whose_safe_copies_are_unknown_nothing_leaves() -> None:
    def cut(context: HookContext) -> None:
        context.dispatch = context.result[:1]

    app = app_with([], after={"find": [cut]})
    await call(app, "create", [ADA, BOB])
    found = await Internal(app, Params(tenant=TENANT)).find("people")
    assert found == [ADA, BOB]
    assert outside({"people": found}) == {"people": [None, None]}


async def test_a_safe_copy_made_below_gets_the_computed_properties_too() -> None:
    def hide(context: HookContext) -> None:
        context.dispatch = {key: value for key, value in context.result.items() if key != "secret"}

    app = app_with([resolve_result({"name": full_name})], after={"create": [hide], "get": [hide]})
    made = await call(app, "create", ADA)
    assert made.dispatch == {"_id": "1", "first": "Ada", "last": "Byron", "name": "Ada Byron"}
    assert answer(await call(app, "get", id="1", query={"$select": ["name"]})) == {"_id": "1", "name": "Ada Byron"}
