"""Calls at the edge of the protocol, answered as a Feathers server answers them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hooks.context import Params
from server.main import Roost
from services.base import Service
from tests.conftest import StartRoost
from tests.support.client import Client, Rest, connect, fresh, outcome, rest

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORM = "application/x-www-form-urlencoded"


class Mirror(Service):
    """Answers with what it is given."""

    async def create(self, data: Any, params: Params) -> Any:
        return data.get("answer", data) if isinstance(data, dict) else data

    async def echo(self, data: Any, params: Params) -> Any:
        return await self.create(data, params)


@pytest.fixture(scope="module", autouse=True)
def _mirror(shared: Roost) -> None:
    shared.app.use("mirror", Mirror(), methods=("create", "echo"), rules="public")


@pytest_asyncio.fixture(loop_scope="module")
async def socket(shared: Roost) -> AsyncIterator[Client]:
    async with connect(shared, "acme") as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def http(shared: Roost) -> AsyncIterator[Rest]:
    async with rest(shared, "acme") as client:
        yield client


@pytest.mark.parametrize("method", ["get", "update", "patch", "remove"])
async def test_a_call_that_forgets_its_id_does_not_mean_all_records(socket: Client, method: str) -> None:
    kept = await socket.call("create", "notes", {"word": fresh("kept")}, {})
    error = await outcome(socket, method, "notes")
    assert (error.code, error.wire["message"]) == (400, "Invalid id 'undefined'")
    assert await socket.call("get", "notes", kept["_id"], {}) == kept


@pytest.mark.parametrize("method", ["create", "echo"])
@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ("text", b"text"),
        ([], b"[]"),
        ({}, b"{}"),
        (1, b"1"),
        (True, b"true"),
        (None, b""),
        (0, b""),
        (False, b""),
        ("", b""),
    ],
)
async def test_what_is_false_is_no_content_and_text_is_text(http: Rest, method: str, answer: Any, body: bytes) -> None:
    headers = {} if method == "create" else {"X-Service-Method": method}
    reply = await http.request("POST", "/mirror", {"answer": answer}, headers=headers)
    assert (reply.status, reply.body) == (204 if not body else 201 if method == "create" else 200, body)
    if body:
        kind = "text/plain" if isinstance(answer, str) else "application/json"
        assert reply.headers["Content-Type"].startswith(kind)


@pytest.mark.parametrize(
    ("kind", "raw", "data"),
    [
        (FORM, b"a=1&b[c]=2&d[]=3&e=x+%C3%BC", {"a": "1", "b": {"c": "2"}, "d": ["3"], "e": "x ü"}),
        (FORM, b"a=" + b"x" * 20_000, {"a": "x" * 20_000}),
        ("application/json; charset=utf-8", b'{"a":1}', {"a": 1}),
    ],
    ids=["form", "large form", "json"],
)
async def test_bodies_are_read_by_their_type(http: Rest, kind: str, raw: bytes, data: Any) -> None:
    headers = {"Content-Type": kind, "X-Service-Method": "echo"}
    assert (await http.request("POST", "/mirror", raw=raw, headers=headers)).json == data


async def test_a_text_is_text_even_if_it_looks_like_json(http: Rest) -> None:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    reply = await http.request("POST", "/mirror", raw='{"a":"ü"}'.encode(), headers=headers)
    assert (reply.status, reply.body.decode()) == (201, '{"a":"ü"}')


@pytest.mark.parametrize("kind", ["text/plain", FORM])
async def test_a_text_that_is_not_utf_8_is_refused(http: Rest, kind: str) -> None:
    reply = await http.request("POST", "/mirror", raw=b"a=\xff", headers={"Content-Type": kind})
    assert (reply.status, reply.json["message"]) == (400, "The body is not UTF-8")


@pytest.mark.parametrize(
    ("verb", "path", "header", "method"),
    [
        ("GET", "/mirror", None, "find"),
        ("GET", "/mirror/1", None, "get"),
        ("PUT", "/mirror/1", None, "update"),
        ("PATCH", "/mirror", None, "patch"),
        ("DELETE", "/mirror/1", None, "remove"),
        ("POST", "/mirror", "ECHO", "ECHO"),
        ("POST", "/mirror", "setup", "setup"),
        ("POST", "/mirror", "create", "create"),
    ],
)
async def test_what_is_not_offered_is_named(http: Rest, verb: str, path: str, header: str | None, method: str) -> None:
    reply = await http.request(verb, path, {}, headers={} if header is None else {"X-Service-Method": header})
    assert (reply.status, reply.json["message"]) == (405, f"Method `{method}` is not supported by this endpoint.")


async def test_an_empty_method_header_is_none(http: Rest) -> None:
    assert (await http.request("POST", "/mirror", {"a": 1}, headers={"X-Service-Method": ""})).status == 201


async def test_of_a_limit_that_is_given_twice_the_first_counts(http: Rest) -> None:
    word = fresh("limit")
    await http.request("POST", "/notes", [{"word": word}] * 3)
    assert len((await http.request("GET", f"/notes?word={word}&$limit=1&$limit=2")).json) == 1


@pytest.mark.asyncio(loop_scope="function")
async def test_a_select_always_brings_both_ids(roosts: StartRoost) -> None:
    roost = await roosts(
        "tenants: [{id: acme, services: {codes: {id: code, paginate: false, rules: {default: public}}}}]"
    )
    async with connect(roost, "acme") as client:
        select = {"$select": ["n"]}
        created = await client.call("create", "codes", {"code": "x", "n": 1, "m": 2}, select)
        assert created == {"_id": created["_id"], "code": "x", "n": 1}
        assert await client.call("patch", "codes", "x", {"m": 3}, select) == created
        assert await client.call("find", "codes", select) == [created]
        assert await client.call("get", "codes", "x", {"$select": None}) == {**created, "m": 3}
