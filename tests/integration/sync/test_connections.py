"""TENANCY 3.3, 10.2: connections with options by strategy and secrets that are only written, and how apps decorate them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.main import Roost
from services.control.secrets import Secret
from tests.integration.entities.people import TRANSPORTS
from tests.integration.sync.people import NORTH, SOUTH, administrator, make_person, person, refusal
from tests.support.client import Caller, fresh

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
MARK = "marker-7d1f6a-of-a-secret"


async def make_connection(caller: Caller, **more: Any) -> Any:
    """A new connection by OpenID Connect."""
    data = {"name": fresh("login"), "strategy": "oidc", "options": {"client_id": "abc"}, **more}
    return await caller.call("create", "connections", data)


async def kept(roost: Roost, app: str, connection: Any) -> Secret | None:
    """What the tenant's secrets have for the client secret of a connection."""
    return await roost.backend.secrets.get(app, f"connection.{connection['_id']}.client_secret")


@each_transport
async def test_secrets_are_written_and_never_read(served: Roost, transport: str) -> None:
    """3.3, RF-9, RF-10: no answer and no event shows a secret; omitted it stays, null clears it, its mask is refused."""
    reader, _ = await make_person(served, NORTH, "read:connections")
    async with administrator(served, NORTH, transport) as ada, person(served, NORTH, "socket", reader) as other:
        made = await make_connection(ada, secrets={"client_secret": MARK})
        assert made["secrets"] == {"client_secret": {"set": True, "source": "own", "hint": MARK[-4:]}}
        patched = await ada.call("patch", "connections", made["_id"], {"display_name": "Ours"})
        replaced = await ada.call("update", "connections", made["_id"], {"name": made["name"], "strategy": "oidc"})
        assert replaced["secrets"] == patched["secrets"] == made["secrets"]
        found = await kept(served, NORTH, made)
        assert found is not None
        assert found.value == MARK
        for mask in (MARK[-4:], f"••••{MARK[-4:]}", "********"):
            error = await refusal(ada, "patch", "connections", made["_id"], {"secrets": {"client_secret": mask}})
            assert error.code == 400
        shown = made["secrets"]
        assert (await refusal(ada, "patch", "connections", made["_id"], {"secrets": shown})).code == 400
        short = await ada.call("patch", "connections", made["_id"], {"secrets": {"client_secret": "short"}})
        assert short["secrets"] == {"client_secret": {"set": True, "source": "own"}}
        cleared = await ada.call("patch", "connections", made["_id"], {"secrets": {"client_secret": None}})
        assert cleared["secrets"] == {}
        assert await kept(served, NORTH, made) is None
        everything = [made, patched, replaced, await ada.call("find", "connections")]
        events = [event.arguments for event in await other.take_events()]  # type: ignore[union-attr]
    assert len(events) == 5
    assert MARK not in json.dumps([everything, events])


@each_transport
async def test_each_strategy_has_an_allow_list(served: Roost, transport: str) -> None:
    """SY-6: an option or a secret that a strategy does not list is refused, and so is an address that is none."""
    async with administrator(served, NORTH, transport) as ada:
        made = await make_connection(ada)
        refused: list[dict[str, Any]] = [
            {"options": {"unknown": 1}},
            {"options": {"directory": "of another strategy"}},
            {"options": {"issuer": "http://plain.example"}},
            {"options": {"issuer": "https://u:p@x.example"}},
            {"options": {"scopes": "openid"}},
            {"options": {"client_secret": MARK}},
            {"secrets": {"private_key": MARK}},
            {"strategy": "google"},
            {"source_id": "x"},
        ]
        for changes in refused:
            error = await refusal(ada, "patch", "connections", made["_id"], changes)
            assert error.code == 400, changes
            assert MARK not in json.dumps(error.wire)
        error = await refusal(ada, "create", "connections", {"name": fresh(), "strategy": "telepathy"})
        assert error.code == 400
        same = await refusal(ada, "create", "connections", {"name": made["name"].upper(), "strategy": "oidc"})
        assert same.code == 409


@each_transport
async def test_a_connection_that_is_not_made_leaves_no_secret(served: Roost, transport: str) -> None:
    """RF-9: neither a name that is taken nor a removal leaves something behind; 404 stores nothing."""
    async with administrator(served, NORTH, transport) as ada:
        before = {name.name for name in await served.backend.secrets.names(NORTH)}
        made = await make_connection(ada, secrets={"client_secret": MARK})
        again = {"name": made["name"], "strategy": "oidc", "secrets": {"client_secret": MARK}}
        assert (await refusal(ada, "create", "connections", again)).code == 409
        unknown = "0" * 24
        assert (await refusal(ada, "patch", "connections", unknown, {"secrets": {"client_secret": MARK}})).code == 404
        await ada.call("remove", "connections", made["_id"])
        assert {name.name for name in await served.backend.secrets.names(NORTH)} == before


@each_transport
async def test_a_change_that_is_refused_leaves_the_secret_as_it_was(served: Roost, transport: str) -> None:
    """RF-9, RF-10: nobody signs in by a secret whose writing was refused."""
    async with administrator(served, NORTH, transport) as ada:
        other = await make_connection(ada)
        made = await make_connection(ada, secrets={"client_secret": MARK})
        secrets = {"client_secret": "another-secret-altogether"}
        for change, code in (({"name": other["name"]}, 409), ({"strategy": "github"}, 400)):
            data = {**change, "secrets": secrets}
            assert (await refusal(ada, "patch", "connections", made["_id"], data)).code == code
            secret = await kept(served, NORTH, made)
            assert secret is not None
            assert secret.value == MARK


@each_transport
async def test_overrides_decorate_a_connection(served: Roost, transport: str) -> None:
    """3.3: one override a connection, of this app's; scopes where the connection allows them; it goes with the connection."""
    async with administrator(served, NORTH, transport) as ada, administrator(served, SOUTH, transport) as sue:
        plain = await make_connection(ada)
        generous = await make_connection(ada, options={"extra_scopes": True})
        foreign = await make_connection(sue)
        override = {"connection_id": plain["_id"], "display_name": "Sign in", "enabled": False}
        made = await ada.call("create", "connection-overrides", override)
        assert (await refusal(ada, "create", "connection-overrides", override)).code == 409
        nowhere = {"connection_id": foreign["_id"]}
        assert (await refusal(ada, "create", "connection-overrides", nowhere)).code == 400
        error = await refusal(ada, "patch", "connection-overrides", made["_id"], {"scopes": ["more"]})
        assert error.code == 400
        moved = {"connection_id": generous["_id"]}
        assert (await refusal(ada, "patch", "connection-overrides", made["_id"], moved)).code == 400
        wide = {"connection_id": generous["_id"], "scopes": ["more"]}
        assert (await ada.call("create", "connection-overrides", wide))["scopes"] == ["more"]
        await ada.call("remove", "connections", plain["_id"])
        assert (await refusal(ada, "get", "connection-overrides", made["_id"])).code == 404
