"""Belonging: the steps by which a tenant gets its organization, its administrator and its first client, and loses them."""

from __future__ import annotations

from services.control.sagas import DELETE, PROVISION, Sagas, Step, Work
from services.entities.provisioning import Provisioning


def hand_in(provisioning: Provisioning, sagas: Sagas) -> None:
    """Adds the steps to those of others (CP-21, CP-25)."""

    async def organization(work: Work) -> None:
        await provisioning.ensure_organization(work.tenant)

    async def role(work: Work) -> None:
        await provisioning.ensure_admin_role()

    async def permissions(work: Work) -> None:
        await provisioning.ensure_permissions()

    async def creator(work: Work) -> None:
        user_id = work.operation.data.get("creator")
        await provisioning.ensure_creator(work.tenant, user_id if isinstance(user_id, str) else None)

    async def client(work: Work) -> None:
        await provisioning.ensure_client(work.tenant)

    async def memberships(work: Work) -> None:
        await provisioning.end_memberships(work.tenant)

    async def farewell(work: Work) -> None:
        await provisioning.remove_organization(work.tenant)

    sagas.add(
        PROVISION,
        Step("organization", organization),
        Step("admin-role", role),
        Step("default-permissions", permissions),
        Step("creator-membership", creator),
        Step("default-client", client),
    )
    sagas.add(DELETE, Step("memberships", memberships), Step("organization", farewell))
