"""Errors as the official client sees them: of the right class, and never a call without an answer."""

from __future__ import annotations

from typing import Any

from tests.acceptance.javascript import failed, run
from tests.acceptance.transports import each_transport

EXPECTED: dict[str, tuple[int, str, str | None]] = {
    "anonymous": (401, "NotAuthenticated", "Not authenticated"),
    "service": (404, "NotFound", "Service 'nothing' not found"),
    "constructor": (404, "NotFound", "Service 'constructor' not found"),
    "method": (405, "MethodNotAllowed", "Method 'fly' not allowed on service 'notes'"),
    "notOffered": (405, "MethodNotAllowed", "Method 'find' not allowed on service 'authentication'"),
    "ruledOut": (405, "MethodNotAllowed", None),
    "unknownId": (404, "NotFound", "No record found for id '123456789012345678901234'"),
    "nullId": (400, "BadRequest", None),
    "objectId": (400, "BadRequest", None),
    "invalid": (400, "BadRequest", "validation failed"),
    "operator": (400, "BadRequest", "Invalid query parameter $where"),
    "filter": (400, "BadRequest", "Invalid filter value $where"),
    "nested": (400, "BadRequest", "Invalid query parameter $where"),
    "updateAll": (400, "BadRequest", None),
    "notMulti": (405, "MethodNotAllowed", "Can not create multiple entries"),
    "appId": (400, "BadRequest", None),
    "queryAppId": (400, "BadRequest", None),
    "operatorData": (400, "BadRequest", None),
}
PACKETS = {
    "proto": (404, "NotFound"),
    "protoMethod": (405, "MethodNotAllowed"),
    "noPath": (404, "NotFound"),
    "numberPath": (404, "NotFound"),
    "tooMany": (400, "BadRequest"),
}


@each_transport
async def test_every_failure_is_a_feathers_error(url: str, transports: list[str]) -> None:
    found = await run("errors", url=url, appId="acme", transports=transports)

    wrong = {name: found[name] for name, expected in EXPECTED.items() if not failed(found[name], *expected)}
    assert wrong == {}
    assert found["alive"]["result"]["text"] == "one"


async def test_packets_that_no_client_should_send_are_answered(url: str) -> None:
    found = await run("errors", url=url, appId="acme")

    assert {name: _answer(found[name]) for name in PACKETS} == PACKETS
    none, page = found["noQuery"]["result"]
    assert none is None
    assert page["total"] == 1


async def test_invalid_data_is_told_field_by_field(url: str) -> None:
    found = await run("errors", url=url, appId="acme")

    faults = found["invalid"]["error"]["data"]
    assert {fault["path"] for fault in faults} == {"/", "/n"}
    assert any("text" in fault["message"] for fault in faults)


def _answer(outcome: Any) -> tuple[int, str] | Any:
    match outcome:
        case {"result": [{"code": code, "name": name}]}:
            return code, name
    return outcome
