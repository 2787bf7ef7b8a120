"""The herald: tells clients of the control plane, and nobody else, what happens to apps and how far it is."""

from __future__ import annotations

from collections.abc import Sequence

from hooks.context import Record
from hooks.errors import NotFound
from hooks.tenant import Tenant
from services.control.operations import SUCCEEDED, Operation
from services.control.sagas import DELETE, PROVISION
from services.control.services.tenants import shown
from services.control.tenants import Tenants
from services.registration import Registration


class Herald:
    """Turns what a `Runner` and a `Lifecycle` tell into events of the services `tenants` and `tenant-operations`."""

    def __init__(
        self, tenants: Tenants, apps: Sequence[Registration], operations: Registration, *, control_plane: str
    ) -> None:
        """`apps` are the registrations that show apps; `control_plane` is its tenant's id."""
        self._tenants = tenants
        self._apps = apps
        self._operations = operations
        self._control_plane = control_plane

    async def follow(self, operation: Operation) -> None:
        """An operation has come further, in this process."""
        begins = _begins(operation)
        plane = await self._plane()
        await self._operations.emit("created" if begins else "patched", operation.shown(), tenant=plane)
        if operation.kind == DELETE and operation.state == SUCCEEDED:
            await self._tell("removed", {"_id": operation.app_id}, plane)
        elif operation.state == SUCCEEDED or (operation.kind == DELETE and begins):
            event = "created" if operation.kind == PROVISION else "patched"
            await self._tell_of(operation.app_id, event, plane)

    async def change(self, tenant: Tenant) -> None:
        """An app was changed, in this process."""
        await self._tell_of(tenant.id, "patched", await self._plane())

    async def _tell_of(self, app_id: str, event: str, plane: Tenant) -> None:
        try:
            record = shown(await self._tenants.document(app_id))
        except NotFound:
            return
        await self._tell(event, record, plane)

    async def _tell(self, event: str, record: Record, plane: Tenant) -> None:
        for registration in self._apps:
            await registration.emit(event, record, tenant=plane)

    async def _plane(self) -> Tenant:
        plane = await self._tenants.get(self._control_plane)
        assert plane is not None
        return plane


def _begins(operation: Operation) -> bool:
    """Whether it has just been taken up, for the first time."""
    return operation.fence == 1 and all(step["state"] == "pending" for step in operation.steps)
