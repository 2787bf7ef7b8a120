"""The control plane, put together: what makes and deletes apps, and the services by which managers ask for it."""

from __future__ import annotations

from collections.abc import Callable

from hooks.tenant import Tenant
from server.settings import Settings
from services.audit import Audit
from services.authentication.keys import Keys
from services.control.belonging import hand_in
from services.control.founding import Founding
from services.control.lifecycle import Lifecycle
from services.control.operations import Operations
from services.control.purge import Purge
from services.control.runner import Runner
from services.control.sagas import Sagas
from services.control.steps import Grace, OwnSteps
from services.control.tenants import Tenants
from services.database.deployment import Deployment
from services.entities.provisioning import Provisioning
from services.entities.records import Entities
from services.isolation import Isolation
from services.tenant_hooks import TenantHooks


class Control:
    """What the server and the command line share of it."""

    def __init__(
        self,
        settings: Settings,
        deployment: Deployment,
        tenants: Tenants,
        keys: Keys,
        audit: Audit,
        *,
        isolation: Isolation,
    ) -> None:
        database, id = settings.database, settings.control_plane
        self.founding = Founding(deployment, keys, tenants, database=database, id=id)
        self.operations = Operations(deployment, database=database)
        self.sagas = Sagas()
        self.runner = Runner(self.operations, self.sagas, tenants)
        self.lifecycle = Lifecycle(tenants, self.operations, self.runner, self.sagas, audit, control_plane=id)
        self.purge = Purge(deployment, tenants.placements, database=database)
        self.grace = Grace()
        OwnSteps(
            tenants,
            keys,
            purge=self.purge,
            audit=audit,
            hooks=self._hooks,
            quiet=self.grace,
            control_plane=id,
        ).hand_in(self.sagas)

        async def plane() -> Tenant:
            # The command line may make apps before any server has run.
            return await tenants.get(id) or await self.founding.ensure_tenant()

        self.provisioning = Provisioning(Entities(isolation), plane)
        hand_in(self.provisioning, self.sagas)

    def follow(self, hooks: Callable[[], TenantHooks]) -> None:
        """Says where plug-ins register their hooks."""
        self.lifecycle.hooks = hooks

    def _hooks(self) -> TenantHooks:
        return self.lifecycle.hooks()
