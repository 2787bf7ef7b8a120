"""TENANCY 10.2: roles, their permissions, whom they are given to, and the APIs and clients of a tenant."""

from __future__ import annotations

import pytest

from hooks.permission import TENANT_LEVEL
from server.main import Roost
from tests.integration.entities.people import (
    HUB,
    NORTH,
    SOUTH,
    TRANSPORTS,
    administrator,
    make_person,
    make_role,
    person,
    refusal,
)
from tests.support.client import fresh, rest

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
SERVICES = {
    "organizations": ("organizations", {"name": "probe"}),
    "members": ("organization_members", {"org_id": "o", "user_id": "u"}),
    "invitations": ("organization_members", {"org_id": "o", "email": "a@b.example"}),
    "roles": ("roles", {"name": "probe"}),
    "user-roles": ("users", {"user_id": "u", "role_id": "r"}),
    "resource-servers": ("resource_servers", {"identifier": "probe"}),
    "clients": ("clients", {"name": "probe"}),
    "connections": ("connections", {"name": "probe", "strategy": "oidc"}),
    "connection-overrides": ("connections", {"connection_id": "c"}),
}


@each_transport
@pytest.mark.parametrize("path", SERVICES)
async def test_each_method_asks_for_its_permission(served: Roost, transport: str, path: str) -> None:
    """10.2: strangers are asked to log in (401), who lacks the permission is refused (403, TK-4)."""
    noun, data = SERVICES[path]
    read_only, _ = await make_person(served, NORTH, f"read:{noun}")
    plain, _ = await make_person(served, NORTH)
    calls = {"create": (data,), "patch": ("some", data), "update": ("some", data), "remove": ("some",)}
    async with rest(served, NORTH) as stranger:
        assert (await refusal(stranger, "find", path)).code == 401
        assert (await refusal(stranger, "create", path, data)).code == 401
    async with person(served, NORTH, transport, read_only) as reader, person(served, NORTH, transport, plain) as nobody:
        assert "data" in await reader.call("find", path)
        for method, arguments in calls.items():
            for caller in (reader, nobody):
                assert (await refusal(caller, method, path, *arguments)).code in (403, 405), method
        if path != "organizations":
            assert (await refusal(nobody, "find", path)).code == 403


@each_transport
async def test_roles_are_replaced_patched_and_removed(served: Roost, transport: str) -> None:
    """10.2 roles: all methods; SY-3: `rev` counts each write."""
    async with administrator(served, NORTH, transport) as ada:
        role = await ada.call(
            "create", "roles", {"name": fresh("Editor"), "description": "edits", "metadata": {"a": 1}}
        )
        id = role["_id"]
        assert role["name"] == role["name"].lower()
        patched = await ada.call("patch", "roles", id, {"description": "still"})
        assert (patched["rev"], patched["metadata"]) == (2, {"a": 1})
        replaced = await ada.call("update", "roles", id, {"name": role["name"]})
        assert (replaced["rev"], replaced["created_at"]) == (3, role["created_at"])
        assert not {"description", "metadata"} & set(replaced)
        assert (await refusal(ada, "create", "roles", {"name": role["name"].upper()})).code == 409
        assert (await refusal(ada, "patch", "roles", id, {"unknown": 1})).code == 400
        assert (await refusal(ada, "patch", "roles", None, {"description": "all"})).code == 405
        assert (await refusal(ada, "patch", "roles", id, {"$inc": {"rev": 5}})).code == 400
        await ada.call("remove", "roles", id)
        assert (await refusal(ada, "get", "roles", id)).code == 404


@each_transport
async def test_a_role_that_somebody_has_goes_by_cascade_alone(served: Roost, transport: str) -> None:
    """10.2 roles: delete while assigned is 409, with `cascade` it is taken from everybody."""
    _, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH, transport) as ada:
        org = (await ada.call("create", "organizations", {"name": fresh("org")}))["_id"]
        roles = [await make_role(ada, "read:roles") for _ in range(2)]
        member = await ada.call("create", "members", {"org_id": org, "user_id": user_id, "roles": [roles[0]]})
        await ada.call("create", "user-roles", {"user_id": user_id, "role_id": roles[1]})
        for role in roles:
            error = await refusal(ada, "remove", "roles", role)
            assert (error.code, error.data) == (409, {"reason": "RoleAssigned"})
            assert (await ada.call("find", f"roles/{role}/permissions"))["total"] == 1
            assert (await refusal(ada, "remove", "roles", role, {"cascade": "yes"})).code == 400
            await ada.call("remove", "roles", role, {"cascade": True})
            assert (await refusal(ada, "find", f"roles/{role}/permissions")).code == 404
        assert (await ada.call("find", "members", {"_id": member["_id"]}))["data"][0]["roles"] == []
        assert (await ada.call("find", "user-roles", {"user_id": user_id}))["total"] == 0


@each_transport
async def test_permissions_are_scopes_of_the_tenants_own_servers(served: Roost, transport: str) -> None:
    """10.2 permissions: a triple names a resource server of the tenant and one of its scopes, once."""
    server = fresh("https://API.north.example/")
    async with administrator(served, NORTH, transport) as ada, administrator(served, SOUTH) as south:
        await ada.call("create", "resource-servers", {"identifier": server, "scopes": [{"value": "read:things"}]})
        role = await make_role(ada)
        path = f"roles/{role}/permissions"
        made = await ada.call("create", path, {"rs_identifier": server.upper(), "permission": "read:things"})
        assert (made["role_id"], made["rs_identifier"]) == (role, server.lower())
        assert (await refusal(ada, "create", path, {"rs_identifier": server, "permission": "read:things"})).code == 409
        for wrong in (("none", "read:things"), (server, "write:things"), ("management", "read:tenants")):
            triple = dict(zip(("rs_identifier", "permission"), wrong, strict=True))
            assert (await refusal(ada, "create", path, triple)).code == 400
        theirs = await make_role(south)
        error = await refusal(
            south, "create", f"roles/{theirs}/permissions", {"rs_identifier": server, "permission": "read:things"}
        )
        assert error.code == 400
        assert (await refusal(ada, "find", f"roles/{theirs}/permissions")).code == 404
        assert (await refusal(ada, "remove", f"roles/{await make_role(ada)}/permissions", made["_id"])).code == 404
        await ada.call("remove", path, made["_id"])
        assert (await ada.call("find", path))["total"] == 0


@each_transport
async def test_nobody_gives_more_than_he_has(served: Roost, transport: str) -> None:
    """1.4: who may change roles, members and users does not make himself an administrator by it."""
    words = {word for word in TENANT_LEVEL if word.split(":")[1] in ("roles", "organization_members", "users")}
    address, user_id = await make_person(served, NORTH, *words, "read:organizations")
    async with administrator(served, NORTH) as ada, person(served, NORTH, transport, address) as eve:
        org = (await ada.call("create", "organizations", {"name": fresh("org")}))["_id"]
        strong, weak = await make_role(ada, "tenant:admin"), await make_role(ada, "read:roles")
        own = await make_role(eve, "read:roles")
        for path, data in (
            (f"roles/{own}/permissions", {"rs_identifier": "management", "permission": "tenant:admin"}),
            (f"roles/{own}/permissions", {"rs_identifier": "management", "permission": "delete:clients"}),
            ("user-roles", {"user_id": user_id, "role_id": strong}),
            ("members", {"org_id": org, "user_id": user_id, "roles": [strong]}),
            ("invitations", {"org_id": org, "email": address, "roles": [strong]}),
        ):
            assert (await refusal(eve, "create", path, data)).code == 403, path
        member = await eve.call("create", "members", {"org_id": org, "user_id": user_id, "roles": [weak]})
        assert (await refusal(eve, "patch", "members", member["_id"], {"roles": [strong]})).code == 403
        await eve.call("create", "user-roles", {"user_id": user_id, "role_id": weak})


@each_transport
async def test_roles_of_users_are_global_or_a_members(served: Roost, transport: str) -> None:
    """10.2 user-roles: without an organization it is kept as an empty text, so that it is unique too."""
    _, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH, transport) as ada:
        role = await make_role(ada)
        org = (await ada.call("create", "organizations", {"name": fresh("org")}))["_id"]
        given = await ada.call("create", "user-roles", {"user_id": user_id, "role_id": role, "org_id": None})
        assert given["org_id"] == ""
        for again in ({}, {"org_id": ""}):
            data = {"user_id": user_id, "role_id": role, **again}
            assert (await refusal(ada, "create", "user-roles", data)).code == 409
        inside = {"user_id": user_id, "role_id": role, "org_id": org}
        assert (await refusal(ada, "create", "user-roles", inside)).code == 400
        member = await ada.call("create", "members", {"org_id": org, "user_id": user_id})
        await ada.call("create", "user-roles", inside)
        assert (await ada.call("find", "user-roles", {"user_id": user_id, "org_id": ""}))["total"] == 1
        await ada.call("remove", "members", member["_id"])
        assert (await ada.call("find", "user-roles", {"user_id": user_id}))["total"] == 1
        for wrong in ({"user_id": "none"}, {"role_id": "none"}):
            data = {"user_id": user_id, "role_id": role, **wrong}
            assert (await refusal(ada, "create", "user-roles", data)).code == 400


@each_transport
async def test_resource_servers_keep_their_identifier(served: Roost, transport: str) -> None:
    """10.2 resource-servers: `identifier` immutable and unique per app, system audience names reserved."""
    async with administrator(served, NORTH, transport) as ada, administrator(served, SOUTH) as south:
        identifier = fresh("https://api.example/")
        made = await ada.call("create", "resource-servers", {"identifier": identifier, "name": "API"})
        assert (await refusal(ada, "create", "resource-servers", {"identifier": identifier.upper()})).code == 409
        await south.call("create", "resource-servers", {"identifier": identifier})
        assert (await refusal(ada, "patch", "resource-servers", made["_id"], {"identifier": "other"})).code == 400
        patched = await ada.call("patch", "resource-servers", made["_id"], {"scopes": [{"value": "a:b"}]})
        assert patched["scopes"] == [{"value": "a:b"}]
        twice = [{"value": "a:b"}, {"value": "a:b"}]
        assert (await refusal(ada, "patch", "resource-servers", made["_id"], {"scopes": twice})).code == 400
        replaced = await ada.call("update", "resource-servers", made["_id"], {"identifier": identifier})
        assert "scopes" not in replaced
        for reserved in ("management", "MANAGEMENT", "urn:roost:tenant:south", "URN:roost:x", "has space", ""):
            assert (await refusal(ada, "create", "resource-servers", {"identifier": reserved})).code == 400


@pytest.mark.parametrize(
    ("field", "url", "is_good"),
    [
        ("callbacks", "https://app.example/callback?x=1", True),
        ("callbacks", "http://localhost:3000/cb", True),
        ("callbacks", "http://app.example/cb", False),
        ("callbacks", "https://app.example/cb#f", False),
        ("callbacks", "https://*.app.example/cb", False),
        ("callbacks", "https://app.example\\@evil.example/", False),
        ("callbacks", "https://user@app.example/", False),
        ("callbacks", "javascript:alert(1)", False),
        ("callbacks", "https://APP.example/", False),
        ("callbacks", "//app.example/", False),
        ("allowed_logout_urls", "https://app.example/out", True),
        ("allowed_logout_urls", "ftp://app.example/", False),
        ("web_origins", "https://app.example:8443", True),
        ("web_origins", "https://app.example/", False),
        ("allowed_origins", "http://localhost:3030", True),
        ("allowed_origins", "null", False),
        ("allowed_origins", "*", False),
    ],
)
async def test_addresses_of_clients_are_exact(served: Roost, field: str, url: str, is_good: bool) -> None:
    """10.2 clients: URL lists validated."""
    async with administrator(served, NORTH) as ada:
        if is_good:
            made = await ada.call("create", "clients", {"name": fresh("client"), field: [url]})
            assert made[field] == [url]
            assert (await refusal(ada, "patch", "clients", made["_id"], {field: ["nonsense"]})).code == 400
        else:
            assert (await refusal(ada, "create", "clients", {"name": fresh("client"), field: [url]})).code == 400


@each_transport
async def test_what_one_tenant_has_is_nothing_to_another(served: Roost, transport: str) -> None:
    """PT-1, PR-7: with the ids of another tenant's entities every method answers 404, and lists are empty."""
    async with administrator(served, NORTH) as ada, administrator(served, SOUTH, transport) as eve:
        made = {
            "organizations": await ada.call("create", "organizations", {"name": fresh("org")}),
            "roles": await ada.call("create", "roles", {"name": fresh("role")}),
            "resource-servers": await ada.call("create", "resource-servers", {"identifier": fresh("rs")}),
            "clients": await ada.call("create", "clients", {"name": fresh("client")}),
        }
        for path, record in made.items():
            assert (await eve.call("find", path, {"_id": record["_id"]}))["total"] == 0
            assert (await refusal(eve, "get", path, record["_id"])).code == 404
            assert (await refusal(eve, "patch", path, record["_id"], {"metadata": {}})).code == 404
            assert (await refusal(eve, "remove", path, record["_id"])).code == 404
            assert await ada.call("get", path, record["_id"]) == record


async def test_in_the_control_plane_roles_may_manage_tenants(served: Roost) -> None:
    """1.4: the permissions of the resource server `management` about tenants exist in the control plane alone."""
    address, _ = await make_person(served, HUB, "create:roles", "update:roles", "read:roles", "read:tenants")
    async with person(served, HUB, "http", address) as ada:
        role = await make_role(ada, "read:tenants")
        error = await refusal(
            ada, "create", f"roles/{role}/permissions", {"rs_identifier": "management", "permission": "delete:tenants"}
        )
        assert error.code == 403


async def test_nobody_has_roles_and_no_role_permissions_without_end(
    served: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LIMITS N: every resource is bounded; whoever goes on past the bound is told of it."""
    monkeypatch.setattr("services.entities.roles.MOST_PERMISSIONS", 1)
    monkeypatch.setattr("services.entities.user_roles.MOST_ROLES", 1)
    _, user_id = await make_person(served, NORTH)
    async with administrator(served, NORTH) as ada:
        first, second = await make_role(ada, "read:roles"), await make_role(ada)
        triple = {"rs_identifier": "management", "permission": "read:clients"}
        assert (await refusal(ada, "create", f"roles/{first}/permissions", triple)).code == 400
        await ada.call("create", "user-roles", {"user_id": user_id, "role_id": first})
        assert (await refusal(ada, "create", "user-roles", {"user_id": user_id, "role_id": second})).code == 400
