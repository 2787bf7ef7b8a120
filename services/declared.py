"""The data services that tenants declare: built from the catalogue's entry when a tenant is first called for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from hooks.coercion import coerce_query
from hooks.conditions import Conditions
from hooks.protect import protect
from hooks.schema import Schema, convert_ids, validate_data
from hooks.stamp import stamp
from hooks.tenant import Tenant
from services.application import Application
from services.declaration import ServiceDeclaration, searched_fields
from services.isolation import Isolation
from services.mongo import MongoService, ServiceOptions
from services.query import Paginate
from services.registration import Hook, HooksByKind, Registration, Rooms

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
        searched = searched_fields(tenant.services)
        built = {path: self._build(path, declared, searched) for path, declared in tenant.services.items()}
        if kept is None or kept[0].epoch <= tenant.epoch:
            self._built[tenant.id] = (tenant, built)
            self._built.move_to_end(tenant.id)
            while len(self._built) > MOST_TENANTS:
                self._built.popitem(last=False)
        return built

    def _build(self, path: str, declared: ServiceDeclaration, searched: Mapping[str, tuple[str, ...]]) -> Registration:
        page = declared.paginate
        name = declared.collection or path
        operators = frozenset[str](declared.operators)
        options = ServiceOptions(
            collection=name,
            id=declared.id,
            paginate=None if page is None else Paginate(page.default, page.max),
            multi=frozenset(declared.multi),
            operators=operators | {"$search"} if declared.search else operators,
            search=searched.get(name, ()),
            updates=frozenset(declared.updates),
            readonly=frozenset(declared.readonly),
            hidden=frozenset(declared.hidden),
        )
        before: dict[str, list[Hook]] = {"create": [stamp(declared.stamp)] if declared.stamp else []}
        conditions = None
        if declared.schema_ is not None:
            schema = Schema(declared.schema_)
            conditions = Conditions(schema.fields)
            validate = validate_data(schema)
            before["all"] = [coerce_query(schema), convert_ids(schema)] if schema.has_ids else [coerce_query(schema)]
            before |= {"create": [*before["create"], validate], "update": [validate], "patch": [validate]}
        hooks: HooksByKind = {"before": before}
        if declared.hidden:
            hooks["after"] = {"all": [protect(*declared.hidden)]}
        rooms = None if declared.rooms is None else Rooms(declared.rooms.by, declared.rooms.join)
        service = MongoService(self._isolation, options)
        return self._app.register(path, service, hooks=hooks, rules=declared.rules, rooms=rooms, conditions=conditions)
