"""TENANCY 10.2: invitations; their token is hashed, works once, and is bound to an address and an organization."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from server.main import Roost
from services.accounts.tokens import COLLECTION
from tests.integration.accounts.people import Mailbox
from tests.integration.entities.people import (
    NORTH,
    SOUTH,
    TRANSPORTS,
    administrator,
    make_person,
    make_role,
    person,
    refusal,
)
from tests.support.client import CallError, fresh, outcome, rest
from tests.support.placed import database_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)


@each_transport
async def test_who_is_invited_joins_with_the_roles(served: Roost, mailbox: Mailbox, transport: str) -> None:
    """10.2 invitations: find, create, remove and accept; single use."""
    address, user_id = await make_person(served, NORTH)
    await mailbox.news()
    async with administrator(served, NORTH, transport) as ada, person(served, NORTH, transport, address) as bob:
        org = await ada.call("create", "organizations", {"name": fresh("org"), "display_name": "The Club"})
        role = await make_role(ada, "read:roles")
        invited = await ada.call("create", "invitations", {"org_id": org["_id"], "email": address, "roles": [role]})
        assert (invited["email"], invited["roles"]) == (address, [role])
        letter = await mailbox.one()
        assert letter.to == address
        assert "The Club" in letter.subject
        assert letter.token not in str(invited)
        answer = await bob.call("accept", "invitations", {"token": letter.token})
        assert answer["organization"] == org["_id"]
        (member,) = (await ada.call("find", "members", {"user_id": user_id}))["data"]
        assert (member["org_id"], member["roles"]) == (org["_id"], [role])
        assert (await refusal(bob, "accept", "invitations", {"token": letter.token})).code == 400
        assert (await ada.call("find", "invitations", {"org_id": org["_id"]}))["total"] == 0


@each_transport
async def test_an_invitation_opens_to_its_address_alone(served: Roost, mailbox: Mailbox, transport: str) -> None:
    """10.2 invitations: bound to e-mail and organization; a wrong hand does not use it up, another app does not know it."""
    address, _ = await make_person(served, NORTH)
    other, _ = await make_person(served, NORTH)
    abroad, _ = await make_person(served, SOUTH, email=address)
    await mailbox.news()
    async with (
        administrator(served, NORTH) as ada,
        person(served, NORTH, transport, other) as eve,
        person(served, SOUTH, transport, abroad) as south,
        person(served, NORTH, transport, address) as bob,
        rest(served, NORTH) as stranger,
    ):
        org = await ada.call("create", "organizations", {"name": fresh("org")})
        await ada.call("create", "invitations", {"org_id": org["_id"], "email": address.upper()})
        token = (await mailbox.one()).token
        assert (await refusal(stranger, "accept", "invitations", {"token": token})).code == 401
        assert (await refusal(eve, "accept", "invitations", {"token": token})).code == 403
        assert (await refusal(south, "accept", "invitations", {"token": token})).code == 400
        for nonsense in ({}, {"token": {"$ne": None}}, {"token": "x" * 43}, "text", None):
            assert (await refusal(bob, "accept", "invitations", nonsense)).code == 400
        assert (await bob.call("accept", "invitations", {"token": token}))["status"] == "done"


async def test_fifty_hands_open_it_once(served: Roost, mailbox: Mailbox) -> None:
    """LIMITS 2: single-use tokens are consumed by one atomic delete."""
    address, user_id = await make_person(served, NORTH)
    await mailbox.news()
    async with administrator(served, NORTH) as ada, person(served, NORTH, "http", address) as bob:
        org = await ada.call("create", "organizations", {"name": fresh("org")})
        await ada.call("create", "invitations", {"org_id": org["_id"], "email": address})
        token = (await mailbox.one()).token
        calls = (outcome(bob, "accept", "invitations", {"token": token}) for _ in range(50))
        answers = await asyncio.gather(*calls)
        assert sum(not isinstance(answer, CallError) for answer in answers) == 1
        assert (await ada.call("find", "members", {"user_id": user_id}))["total"] == 1


async def test_what_is_taken_back_or_old_opens_nothing(served: Roost, mailbox: Mailbox) -> None:
    """10.2 invitations: TTL, and removal voids the token; the database has its hash alone."""
    address, _ = await make_person(served, NORTH)
    await mailbox.news()
    database = database_of(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, "http", address) as bob:
        first = await ada.call("create", "organizations", {"name": fresh("org")})
        invited = await ada.call("create", "invitations", {"org_id": first["_id"], "email": address})
        again = await refusal(ada, "create", "invitations", {"org_id": first["_id"], "email": address})
        assert again.code == 409
        token = (await mailbox.one()).token
        kept = await database[COLLECTION].find_one({"app_id": NORTH, "subject": f"invitation:{invited['_id']}"})
        assert kept is not None
        assert token not in str(kept)
        await ada.call("remove", "invitations", invited["_id"])
        assert (await refusal(bob, "accept", "invitations", {"token": token})).code == 400

    old, _ = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada, person(served, NORTH, "http", old) as bob:
        invited = await ada.call("create", "invitations", {"org_id": first["_id"], "email": old})
        token = (await mailbox.one()).token
        past = datetime.now(UTC) - timedelta(seconds=1)
        await database[COLLECTION].update_one(
            {"app_id": NORTH, "subject": f"invitation:{invited['_id']}"}, {"$set": {"expires_at": past}}
        )
        assert (await refusal(bob, "accept", "invitations", {"token": token})).code == 400
