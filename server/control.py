"""The control plane, put together: what makes and deletes apps, and the services by which managers ask for it."""

from __future__ import annotations

from hooks.tenant import Tenant
from server.settings import Settings
from services.application import Application
from services.audience import Audience
from services.audit import Audit
from services.authentication.keys import Keys
from services.control.belonging import hand_in
from services.control.configuration import Configuration
from services.control.creators import Creators
from services.control.founding import Founding
from services.control.grace import Grace
from services.control.herald import Herald
from services.control.lifecycle import Lifecycle
from services.control.moves.moves import Moves
from services.control.nodes import Nodes
from services.control.operations import Operations
from services.control.purge import Purge
from services.control.runner import Runner
from services.control.sagas import Sagas
from services.control.services import operations, tenants
from services.control.steps import OwnSteps
from services.control.tenants import Tenants
from services.database.deployment import Deployment
from services.entities.grants import Grants
from services.entities.provisioning import Memberships, Provisioning
from services.entities.records import Entities
from services.isolation import Isolation
from services.registration import Registration
from services.tenant_hooks import TenantHooks


class Control:
    """What the server and the command line share of it."""

    def __init__(
        self,
        settings: Settings,
        deployment: Deployment,
        apps: Tenants,
        keys: Keys,
        audit: Audit,
        *,
        isolation: Isolation,
        nodes: Nodes,
    ) -> None:
        database, id = settings.database, settings.control_plane
        self._tenants = apps
        self._audit = audit
        self._id = id
        self._most = settings.tenants_per_creator
        self.founding = Founding(deployment, keys, apps, database=database, id=id)
        self.operations = Operations(deployment, database=database)
        self.sagas = Sagas()
        self.runner = Runner(self.operations, self.sagas, apps)
        self.creators = Creators(deployment, database=database)
        self.lifecycle = Lifecycle(
            apps,
            self.operations,
            self.runner,
            self.sagas,
            audit,
            creators=self.creators,
            control_plane=id,
            placement=settings.placement,
        )
        self.purge = Purge(deployment, apps.placements, database=database)
        self.moves: Moves | None = None
        """How apps' data is moved, once it is known where all of it may be."""
        self.grace = Grace(nodes)
        OwnSteps(
            apps,
            keys,
            purge=self.purge,
            audit=audit,
            hooks=self._hooks,
            quiet=self.grace,
            control_plane=id,
        ).hand_in(self.sagas)

        async def plane() -> Tenant:
            # The command line may make apps before any server has run.
            return await apps.get(id) or await self.founding.ensure_tenant()

        entities = Entities(isolation)
        self.provisioning = Provisioning(entities, plane, permissions=settings.creator_permissions)
        self._entities, self._plane = entities, plane
        hand_in(self.provisioning, self.sagas)

    def offer(self, app: Application, configuration: Configuration, grants: Grants) -> None:
        """Registers the services for managers, and tells the control plane's clients of what happens to apps."""
        memberships = Memberships(self._entities, grants, self._plane)
        shown = [self._offer_tenants(app, path, configuration, memberships) for path in (tenants.PATH, tenants.ALIAS)]
        service = operations.TenantOperationsService(
            self.operations, self.lifecycle, control_plane=self._id, moves=self.moves
        )
        work = app.use(operations.PATH, service, hooks=service.hooks())
        work.audience = Audience(operations.HEARING)
        herald = Herald(self._tenants, shown, work, control_plane=self._id)
        self.runner.on_progress(herald.follow)
        self.lifecycle.on_update(herald.change)
        self.lifecycle.hooks = lambda: app.tenants

    def _offer_tenants(
        self, app: Application, path: str, configuration: Configuration, memberships: Memberships
    ) -> Registration:
        service = tenants.TenantsService(
            self._tenants,
            self.lifecycle,
            self.operations,
            configuration,
            audit=self._audit,
            memberships=memberships,
            control_plane=self._id,
            most=self._most,
        )
        offered = app.use(path, service, hooks=service.hooks())
        offered.audience = Audience(tenants.HEARING)
        return offered

    def _hooks(self) -> TenantHooks:
        return self.lifecycle.hooks()
