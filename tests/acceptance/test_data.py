"""The standard methods of a data service with the official client."""

from __future__ import annotations

from tests.acceptance.javascript import failed, run
from tests.acceptance.transports import each_transport


@each_transport
async def test_every_method_of_a_data_service(url: str, transports: list[str]) -> None:
    found = await run("data", url=url, appId="acme", transports=transports)

    key = found["created"]["_id"]
    assert found["created"] == {"_id": key, "text": "one", "n": 1}
    assert found["got"] == found["created"]
    assert found["patched"] == {"_id": key, "text": "one", "n": 2}
    assert found["updated"] == {"_id": key, "text": "uno"}
    assert found["chosen"]["_id"] == "my-own-id"
    assert failed(found["chosenAgain"], 409, "Conflict")
    assert found["removed"] == found["updated"]
    assert failed(found["gone"], 404, "NotFound", f"No record found for id '{key}'")
    assert found["odd"] == {**found["odd"], "text": "ünï✓ 🐦", "list": [1, None, {"deep": [True]}], "n": -0.5}
    assert found["transport"] == transports[-1]


async def test_queries_select_sort_and_page(url: str) -> None:
    found = await run("data", url=url, appId="acme")

    many = found["many"]
    assert [note["n"] for note in many] == [3, 4, 5, 6]
    page = [{"_id": many[index]["_id"], "n": many[index]["n"]} for index in (2, 1)]
    assert found["page"] == {"total": 4, "limit": 2, "skip": 1, "data": page}
    assert found["either"]["data"] == [found["updated"], many[0], many[1]]
    assert found["count"] == {"total": 6, "limit": 0, "skip": 0, "data": []}


async def test_many_records_at_once(url: str) -> None:
    found = await run("data", url=url, appId="acme")

    changed = [{**note, "done": True} for note in found["many"][2:]]
    assert sorted(found["patchedMany"], key=_n) == changed
    assert sorted(found["removedMany"], key=_n) == changed
    assert found["left"]["data"] == [found["chosen"], *found["many"][:2]]


def _n(note: dict[str, int]) -> int:
    return note["n"]
