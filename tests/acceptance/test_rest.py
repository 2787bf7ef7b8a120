"""The official REST client, which names its app in the header `x-app-id`."""

from __future__ import annotations

from tests.acceptance.javascript import failed, run


async def test_the_same_services_over_rest(url: str) -> None:
    found = await run("rest", url=url, appId="acme")

    assert found["session"].keys() == {"accessToken", "authentication", "user"}
    key = found["created"]["_id"]
    assert found["created"] == found["got"] == {"_id": key, "text": "over rest", "n": 1}
    assert found["patched"] == {"_id": key, "text": "patched", "n": 1}
    assert found["updated"] == found["removed"] == {"_id": key, "text": "updated"}
    assert found["found"] == {"total": 2, "limit": 1, "skip": 0, "data": [found["many"][1]]}
    assert found["oddGot"]["result"] == found["oddId"]


async def test_a_change_over_rest_is_heard_over_sockets(url: str) -> None:
    found = await run("rest", url=url, appId="acme")

    assert found["event"] == found["created"]


async def test_rest_failures_are_feathers_errors(url: str) -> None:
    found = await run("rest", url=url, appId="acme")

    assert failed(found["anonymous"], 401, "NotAuthenticated", "Not authenticated")
    assert failed(found["wrong"], 401, "NotAuthenticated", "Invalid login")
    assert failed(found["gone"], 404, "NotFound")
    assert failed(found["service"], 404, "NotFound", "Path /nothing not found")
    assert failed(found["after"], 401, "NotAuthenticated")
    assert found["public"]["result"]["total"] == 0


async def test_a_request_has_to_name_a_known_app(url: str) -> None:
    found = await run("rest", url=url, appId="acme")

    assert failed(found["noApp"], 400, "BadRequest")
    assert "x-app-id" in found["noApp"]["error"]["message"]
    assert failed(found["unknownApp"], 404, "NotFound")
    assert "'nope'" in found["unknownApp"]["error"]["message"]
