"""The declarative file: tenants and their data services as YAML, checked as a whole before anything is applied."""

from __future__ import annotations

from services.declaration.auth import AuthDeclaration, auth_settings
from services.declaration.file import DeclarationError, check, parse, read
from services.declaration.service import (
    RESERVED_COLLECTIONS,
    Paginate,
    RoomsDeclaration,
    ServiceDeclaration,
    searched_fields,
    service_declarations,
)
from services.declaration.tenant import RESERVED_PATHS, Declaration, TenantDeclaration

__all__ = [
    "RESERVED_COLLECTIONS",
    "RESERVED_PATHS",
    "AuthDeclaration",
    "Declaration",
    "DeclarationError",
    "Paginate",
    "RoomsDeclaration",
    "ServiceDeclaration",
    "TenantDeclaration",
    "auth_settings",
    "check",
    "parse",
    "read",
    "searched_fields",
    "service_declarations",
]
