"""The chapter on organizations does what it says: its requests are sent, in their order, to a real server."""

from __future__ import annotations

import re
from typing import Any

import pytest

from server.main import Roost
from tests.integration.accounts.people import Mailbox
from tests.integration.entities.people import NORTH, make_person
from tests.integration.server.test_guide import blocks
from tests.support.client import rest

pytestmark = pytest.mark.asyncio(loop_scope="module")
_PLACE = re.compile(r"\{([a-z]+)\}")
NAMES = {"roles": "role", "organizations": "organization", "invitations": "invitation"}


async def test_the_requests_of_the_chapter(served: Roost, mailbox: Mailbox) -> None:
    """Roles, organizations, members, invitations and switching, as an app's developer reads of them."""
    ada, _ = await make_person(served, NORTH, "tenant:admin")
    _, bob = await make_person(served, NORTH)
    carol, _ = await make_person(served, NORTH, email="carol@example.com")
    await mailbox.news()
    async with rest(served, NORTH) as http:
        known = {"bob": bob}
        for name, address in (("ada", ada), ("carol", carol)):
            known[name] = (await http.login(address, field="email"))["accessToken"]
        http.headers.pop("Authorization")
        answers: list[Any] = []
        for block in blocks("organizations", "http"):
            head, _, body = block.partition("\n\n")
            if "{letter}" in body:
                known["letter"] = (await mailbox.one()).token
            target, *headers = _PLACE.sub(lambda found: known[found[1]], head).splitlines()
            sent = _PLACE.sub(lambda found: known[found[1]], body)
            verb, path = target.split(" ")
            fields = dict(header.split(": ", 1) for header in headers)
            reply = await http.request(verb, path, raw=sent.encode(), headers=fields)
            assert reply.status in (200, 201), (block, reply.body)
            answers.append(reply.json)
            noun = NAMES.get(path.strip("/"))
            if noun is not None and "_id" in reply.json:
                known[noun] = reply.json["_id"]
        payload = answers[-1]["authentication"]["payload"]
        assert (payload["tid"], payload["org_name"], payload["org_id"]) == (NORTH, "newsroom", known["organization"])
        assert payload["permissions"] == ["read:roles", "write:posts"]
