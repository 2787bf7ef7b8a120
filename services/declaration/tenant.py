"""A tenant in the declarative file, and the whole file: where services have to agree with each other."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from hooks.tenant import TENANT_ID
from services.declaration.auth import AuthDeclaration
from services.declaration.model import Strict, as_tuple
from services.declaration.placement import PlacementDeclaration
from services.declaration.service import COLLECTION, ServiceDeclaration, searched_fields
from services.origins import canonical_origin

RESERVED_PATHS = frozenset(
    """
    accounts api-keys apps audit-log authentication
    clients connection-overrides connections
    docs domains
    example
    health
    identities invitations
    jobs
    members metrics
    oauth organizations
    quotas
    ready resource-servers roles rooms
    sessions settings socket.io sync-status
    tenant-operations tenants
    user-roles users
    """.split()
)
"""Paths of Roost's own services and pages."""

_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}(/[A-Za-z][A-Za-z0-9_-]{0,62}){0,3}")


Origin = Annotated[str, AfterValidator(canonical_origin)]
Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""The name of a plan, a region, an entity."""

OPERATED = frozenset({"require_origin", "limits", "plan", "region", "sync_exclude"})
"""Keys of a tenant that its operators may set as well, by `services/control/configuration.py`."""


class RateDeclaration(Strict):
    """At most `limit` in `seconds`."""

    limit: Annotated[int, Field(ge=1, le=10_000_000)]
    seconds: Annotated[float, Field(ge=0.001, le=86_400, strict=False)] = 1.0


class LimitsDeclaration(Strict):
    """How much of the server the tenant may take."""

    max_concurrent_connections: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """Sockets at once over all processes; without it, what the plan says."""
    enforce: Literal["refuse", "evict_oldest"] = "refuse"
    rates: dict[
        Literal["connect", "event", "http", "auth", "write", "broadcast", "search"],
        dict[Literal["tenant", "user", "address"], RateDeclaration],
    ] = {}
    """How fast calls may come, by their kind and by whose they are."""
    quotas: dict[Literal["calls", "writes"], Annotated[int, Field(ge=0, le=10**12)]] = {}
    """Units of a month."""


class TenantDeclaration(Strict):
    """One tenant."""

    id: str
    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    allowed_origins: tuple[Origin, ...] = ()
    require_origin: bool = False
    limits: LimitsDeclaration = LimitsDeclaration()
    plan: Word = "default"
    region: Word | None = None
    sync_exclude: tuple[Word, ...] = ()
    placement: PlacementDeclaration | None = None
    """Where the data of a new tenant is kept; without it, in the shared database."""
    auth: AuthDeclaration = AuthDeclaration()
    services: dict[str, ServiceDeclaration] = {}

    @field_validator("allowed_origins", "sync_exclude", mode="before")
    @classmethod
    def _accept_list(cls, values: Any) -> Any:
        return as_tuple(values)

    @field_validator("id")
    @classmethod
    def _check_id(cls, id: str) -> str:
        if not TENANT_ID.fullmatch(id):
            raise ValueError("must be 3 to 63 lower case letters, digits and inner hyphens")
        return id

    @field_validator("services", mode="before")
    @classmethod
    def _accept_empty(cls, services: Any) -> Any:
        if not isinstance(services, dict):
            return services
        return {path: {} if declared is None else declared for path, declared in services.items()}

    @field_validator("services")
    @classmethod
    def _check_paths(cls, services: dict[str, ServiceDeclaration]) -> dict[str, ServiceDeclaration]:
        for path, declared in services.items():
            if not _PATH.fullmatch(path) or path.split("/")[0].startswith("__"):
                raise ValueError(f"'{path}' cannot be a service's path: letters, digits, '-', '_' and '/'")
            if path.split("/")[0] in RESERVED_PATHS:
                raise ValueError(f"'{path}' is a path of Roost itself")
            if declared.collection is None and not COLLECTION.fullmatch(path):
                raise ValueError(f"'{path}' has a '/': name its collection")
        searched = searched_fields(services)
        unique: dict[str, set[str]] = {}
        for path, declared in services.items():
            fields = {field.removeprefix("-").split(".")[0] for fields in declared.unique for field in fields}
            unique.setdefault(declared.collection or path, set()).update(fields)
        for path, declared in services.items():
            if told := unique[declared.collection or path].intersection(declared.hidden):
                raise ValueError(
                    f"'{path}' hides {', '.join(sorted(told))}: a conflict would tell what a unique field holds"
                )
            shown = set(declared.hidden).intersection(searched.get(declared.collection or path, ()))
            if shown and (declared.search or "$search" in declared.operators):
                raise ValueError(f"'{path}' hides {', '.join(sorted(shown))}: words there cannot be searched for")
        return services

    def stored(self) -> dict[str, Any]:
        """What the catalogue keeps of it, as plain values: the name, origins, auth and services.

        Of what operators may set as well, only what is declared: the rest stays as they have set it.
        """
        kept = self.model_dump(
            mode="json", by_alias=True, exclude={"id", "placement", *(OPERATED - self.model_fields_set)}
        )
        kept["name"] = self.name or self.id
        return kept


class Declaration(Strict):
    """The whole file."""

    tenants: tuple[TenantDeclaration, ...]

    @field_validator("tenants", mode="before")
    @classmethod
    def _accept_list(cls, tenants: Any) -> Any:
        if tenants == []:
            raise ValueError("names no tenant")
        return as_tuple(tenants)

    @model_validator(mode="after")
    def _check_unique(self) -> Declaration:
        ids = [tenant.id for tenant in self.tenants]
        for id in ids:
            if ids.count(id) > 1:
                raise ValueError(f"the tenant '{id}' is declared twice")
        return self
