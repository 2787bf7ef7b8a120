"""The collections that a tenant's database has: those of Roost itself, and those of the services that the tenant declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from services import audit, users
from services.accounts import tokens as account_tokens
from services.authentication import api_keys, codes, identities, ledger, oauth_states
from services.database.schema import CollectionSchema, Index, Words
from services.declaration import ServiceDeclaration
from services.entities import registry as entities

OWN_COLLECTIONS: tuple[CollectionSchema, ...] = (
    *users.COLLECTIONS,
    *ledger.COLLECTIONS,
    *identities.COLLECTIONS,
    *oauth_states.COLLECTIONS,
    *codes.COLLECTIONS,
    *api_keys.COLLECTIONS,
    *account_tokens.COLLECTIONS,
    *audit.COLLECTIONS,
    *entities.COLLECTIONS,
)
"""What Roost itself keeps of every tenant."""


def schemas_of(services: Mapping[str, ServiceDeclaration]) -> list[CollectionSchema]:
    """What declared services need."""
    found: dict[str, tuple[Index | Words, ...]] = {}
    for path, service in services.items():
        name = service.collection or path
        found[name] = (*found.get(name, ()), *_indexes(service))
    return [CollectionSchema(name, tuple(dict.fromkeys(indexes))) for name, indexes in found.items()]


def _indexes(service: ServiceDeclaration) -> Iterator[Index | Words]:
    """What a service needs besides the listing by id: its own id, and what is declared."""
    if service.id != "_id":
        yield Index((("app_id", 1), (service.id, 1)), unique=True)
    for fields in service.indexes:
        keys = [_key(field) for field in fields]
        # Sorted pages end with the id: see `services/mongo.py`.
        yield Index((("app_id", 1), *keys, ("_id", keys[-1][1])))
    for fields in service.unique:
        yield Index((("app_id", 1), *map(_key, fields)), unique=True)
    if service.search:
        yield Words()


def _key(field: str) -> tuple[str, int]:
    return (field[1:], -1) if field.startswith("-") else (field, 1)
