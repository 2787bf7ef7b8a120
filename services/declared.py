"""The data services that tenants declare: built from the catalogue's entry when a tenant is first called for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from hooks.coercion import coerce_query
from hooks.schema import Schema, convert_ids, validate_data
from hooks.tenant import Tenant
from services.application import Application
from services.declaration import ServiceDeclaration
from services.isolation import Isolation
from services.mongo import MongoService, ServiceOptions
from services.query import Paginate
from services.registration import Registration, Rooms

MOST_TENANTS = 10_000
"""For how many tenants built services are kept; the least recently called for goes first."""


class DeclaredServices:
    """Registrations by tenant. A new snapshot of a tenant gets new ones."""

    def __init__(self, app: Application, isolation: Isolation) -> None:
        self._app = app
        self._isolation = isolation
        self._built: OrderedDict[str, tuple[Tenant, Mapping[str, Registration]]] = OrderedDict()

    def __call__(self, tenant: Tenant) -> Mapping[str, Registration]:
        """The tenant's services by path."""
        kept = self._built.get(tenant.id)
        if kept is not None and kept[0] is tenant:
            return kept[1]
        built = {path: self._build(path, declared) for path, declared in tenant.services.items()}
        if kept is None or kept[0].epoch <= tenant.epoch:
            self._built[tenant.id] = (tenant, built)
            self._built.move_to_end(tenant.id)
            while len(self._built) > MOST_TENANTS:
                self._built.popitem(last=False)
        return built

    def _build(self, path: str, declared: ServiceDeclaration) -> Registration:
        page = declared.paginate
        options = ServiceOptions(
            collection=declared.collection or path,
            id=declared.id,
            paginate=None if page is None else Paginate(page.default, page.max),
            multi=frozenset(declared.multi),
        )
        hooks = {}
        if declared.schema_ is not None:
            schema = Schema(declared.schema_)
            validate = validate_data(schema)
            checks = {"create": [validate], "update": [validate], "patch": [validate]}
            ready = [coerce_query(schema), convert_ids(schema)] if schema.has_ids else [coerce_query(schema)]
            hooks = {"before": {"all": ready, **checks}}
        rooms = None if declared.rooms is None else Rooms(declared.rooms.by, declared.rooms.join)
        service = MongoService(self._isolation, options)
        return self._app.register(path, service, hooks=hooks, rules=declared.rules, rooms=rooms)
