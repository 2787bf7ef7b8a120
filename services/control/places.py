"""Places: where a declaration wants a new tenant's data to be, and whether that of one which exists is there."""

from __future__ import annotations

import os

from hooks.errors import BadRequest, Conflict
from hooks.tenant import Placement, Tenant
from services.declaration import TenantDeclaration
from services.declaration.placement import PlacementDeclaration
from services.placement.dedicated import Credentials, fresh_name
from services.placement.placements import SHARED

OWN_URI = "mongodb"
"""The name of the secret that holds the connection string of a tenant's own cluster."""


def place(declared: TenantDeclaration, database: str) -> Placement:
    """The placement of a new tenant; `database` is the name of the shared one."""
    wanted = declared.placement
    if wanted is None or wanted.model == SHARED:
        return Placement(database=database, region=declared.region)
    ref = None if wanted.uri_env is None else OWN_URI
    return Placement(wanted.model, wanted.cluster, fresh_name(declared.id), ref, declared.region)


def own_uri(id: str, wanted: PlacementDeclaration | None) -> str | None:
    """The connection string in the environment variable that a declaration names, if it names one.

    Raises:
        BadRequest: it is not there.
    """
    name = None if wanted is None else wanted.uri_env
    if name is None:
        return None
    uri = os.environ.get(name)
    if not uri:
        raise BadRequest(f"{name} is not set: it holds the connection string of '{id}'")
    return uri


async def check_place(tenant: Tenant, wanted: PlacementDeclaration, credentials: Credentials | None) -> None:
    """Lets through a tenant whose data is where `wanted` says; `credentials` are where connection strings are kept.

    Raises:
        Conflict: it is elsewhere. BadRequest: as `own_uri`.
    """
    here, uri = tenant.placement, own_uri(tenant.id, wanted)
    if (here.model, here.cluster) != (wanted.model, wanted.cluster):
        at = f"model '{here.model}', cluster '{here.cluster}'"
        raise Conflict(f"The data of '{tenant.id}' is elsewhere already ({at}): it can be moved when it is complete")
    if uri is None or credentials is None or here.credentials_ref is None:
        return
    known = await credentials.get(tenant.id, here.credentials_ref)
    if known is not None and known.value != uri:
        raise Conflict(
            f"The data of '{tenant.id}' is on the cluster that its secret '{here.credentials_ref}' names, "
            f"which is not what {wanted.uri_env} holds"
        )
