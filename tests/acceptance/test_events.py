"""Live events, as the official client hears them."""

from __future__ import annotations

from typing import Any

from tests.acceptance.javascript import run
from tests.acceptance.transports import each_transport


@each_transport
async def test_the_sender_hears_its_own_event_before_the_answer(url: str, transports: list[str]) -> None:
    found = await run("events", url=url, appId="acme", transports=transports)

    assert found["order"] == [
        *("created", "create answered"),
        *("updated", "update answered"),
        *("patched", "patch answered"),
        *("removed", "remove answered"),
        *("created", "created"),
    ]


@each_transport
async def test_an_event_is_one_whole_record_for_all_who_may_read_it(url: str, transports: list[str]) -> None:
    found = await run("events", url=url, appId="acme", transports=transports)

    alice, bob = found["alice"], found["bob"]
    assert all(len(event["args"]) == 1 for event in bob)
    assert _told(bob[:6]) == [
        ("notes created", "one"),
        ("notes updated", "two"),
        ("notes patched", "three"),
        ("notes removed", "three"),
        ("notes created", "a"),
        ("notes created", "b"),
    ]
    assert alice[:6] == bob[:6]
    assert all(event["args"][0].keys() == {"_id", "text"} for event in bob)


async def test_those_who_are_not_logged_in_hear_only_what_is_public(url: str) -> None:
    found = await run("events", url=url, appId="acme")

    assert _told(found["guest"]) == [("board created", "for all")]
    assert _told(found["alice"][6:]) == [("board created", "for all")]
    assert _told(found["bob"][6:]) == [("notes created", "after logout"), ("board created", "for all")]


def _told(heard: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["event"], event["args"][0]["text"]) for event in heard]
