"""The registry of entities: what is brought about in the database, and what nobody else may use."""

from __future__ import annotations

import pytest

from services.control.schemas import OWN_COLLECTIONS
from services.database.schema import Index
from services.declaration import RESERVED_COLLECTIONS, RESERVED_PATHS
from services.entities.names import canonical
from services.entities.registry import BY_COLLECTION, ENTITIES, PROTECTED


def test_every_entity_is_brought_about_and_reserved() -> None:
    """10.3: collections, and the paths of their services, are Roost's own."""
    for entity in ENTITIES:
        assert entity.schema in OWN_COLLECTIONS
        assert entity.collection in RESERVED_COLLECTIONS
        assert {path.split("/")[0] for path in entity.paths} <= RESERVED_PATHS


@pytest.mark.parametrize(
    ("collection", "fields"),
    [
        ("organizations", ("name",)),
        ("organizations", ("tenant_id",)),
        ("members", ("org_id", "user_id")),
        ("roles", ("name",)),
        ("roles", ("source_id",)),
        ("role_permissions", ("role_id", "rs_identifier", "permission")),
        ("user_roles", ("user_id", "org_id", "role_id")),
        ("resource_servers", ("identifier",)),
        ("resource_servers", ("source_id",)),
        ("connections", ("name",)),
        ("connections", ("source_id",)),
        ("connection_overrides", ("connection_id",)),
    ],
)
def test_the_unique_indexes_are_there(collection: str, fields: tuple[str, ...]) -> None:
    """10.3: all unique ones named."""
    unique = [
        tuple(field for field, _ in index.keys[1:])
        for index in BY_COLLECTION[collection].schema.indexes
        if isinstance(index, Index) and index.unique
    ]
    assert fields in unique


def test_what_is_synced_is_protected() -> None:
    """PR-1: a copy is the sync's alone."""
    assert {"roles", "role_permissions", "resource_servers", "connections"} == PROTECTED


@pytest.mark.parametrize("name", ["Admin", "ＡＤＭＩＮ", "ﬁn", "İstanbul", "ŸÀ", "ǅ", "ϓ", "ẞ", "K"])
def test_a_canonical_name_stays_as_it_is(name: str) -> None:
    """TK-12: one canonicalisation, which changes nothing the second time."""
    assert canonical(canonical(name)) == canonical(name)
