"""Two apps on one server share nothing, and a client that names no app is told so."""

from __future__ import annotations

from typing import Any

from tests.acceptance.javascript import failed, run
from tests.acceptance.transports import each_transport


@each_transport
async def test_a_connection_without_a_known_app_is_refused_with_the_reason(url: str, transports: list[str]) -> None:
    found = await run("handshake", url=url, transports=transports)

    for name, code, word in [
        ("missing", 400, "appId"),
        ("empty", 400, "appId"),
        ("unknown", 404, "'nope'"),
        ("malformed", 404, "'../acme'"),
        ("list", 404, "'acme,globex'"),
    ]:
        refusal = found[name]
        assert word in refusal["message"], name
        assert refusal["data"]["code"] == code, name
        assert refusal["data"]["message"] == refusal["message"]
        assert not refusal["active"], "a refused client does not try again"
        assert not refusal["connected"]
    assert found["goodOrigin"]["result"][0] is None
    # A foreign page does not even get as far as an answer of the protocol.
    assert "error" in found["origin"]["message"]
    assert not found["origin"]["connected"]


@each_transport
async def test_the_same_name_in_two_apps_is_two_people(url: str, transports: list[str]) -> None:
    found = await run("tenancy", url=url, transports=transports)

    assert found["acmeUser"]["username"] == found["globexUser"]["username"] == "alice"
    assert found["acmeUser"]["_id"] != found["globexUser"]["_id"]
    assert found["users"]["data"] == [found["globexUser"]]
    assert failed(found["user"], 404, "NotFound")
    assert failed(found["foreignPassword"], 401, "NotAuthenticated", "Invalid login")


async def test_a_token_of_one_app_is_none_in_another(url: str) -> None:
    found = await run("tenancy", url=url)

    assert failed(found["foreignToken"], 403, "Forbidden")
    assert failed(found["afterForeignToken"], 401, "NotAuthenticated")
    assert failed(found["foreignTokenOverRest"], 403, "Forbidden")


@each_transport
async def test_no_method_reaches_a_record_of_the_other_app(url: str, transports: list[str]) -> None:
    found = await run("tenancy", url=url, transports=transports)

    for method in ("get", "patch", "update", "remove"):
        assert failed(found[method], 404, "NotFound"), method
    own = {found["ids"]["theirs"], "the-same"}
    assert {note["_id"] for note in found["find"]["data"]} == own
    assert found["find"]["total"] == 2
    assert {note["_id"] for note in found["patchAll"]} == own
    assert {note["_id"] for note in found["removeAll"]} == own
    assert found["board"]["total"] == 0

    assert [note["text"] for note in found["sameId"]["result"]] == ["both", "both"]
    assert found["acmeNotes"]["data"] == [
        {"_id": "the-same", "text": "both"},
        {"_id": found["ids"]["mine"], "text": "secret of acme"},
    ]


@each_transport
async def test_no_event_crosses_from_one_app_to_the_other(url: str, transports: list[str]) -> None:
    found = await run("tenancy", url=url, transports=transports)

    assert _told(found["acmeHeard"]) == [
        ("notes created", "secret of acme"),
        ("board created", "public in acme"),
        ("notes created", "both"),
        ("notes created", "last of acme"),
    ]
    globex = _told(found["globexHeard"])
    assert globex[:2] == [("notes created", "secret of globex"), ("notes created", "both")]
    assert sorted(globex[2:6]) == sorted(
        (f"notes {event}", text) for event in ("patched", "removed") for text in ("secret of globex", "both")
    )
    assert globex[6:] == [("notes created", "last of globex")]


def _told(heard: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["event"], event["args"][0]["text"]) for event in heard]
