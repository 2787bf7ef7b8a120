"""A data service in the declarative file: what it keeps and offers, and who may call what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from hooks.rules import check_rule
from hooks.schema import Schema
from hooks.stamp import check_stamp
from services.declaration.model import FIELD, IndexFields, Strict, as_tuple, check_field, check_stamped

RESERVED_COLLECTIONS = frozenset(
    "users sessions account_tokens api_keys identities oauth_states oauth_codes audit_log login_attempts "
    "organizations members invitations roles role_permissions user_roles resource_servers "
    "connections connection_overrides clients settings".split()
)
"""Collections of Roost's own services in a tenant's database."""

MAX_INDEXES = 16
"""Of each kind, for one service."""

RuleWord = Literal["public", "authenticated", "nobody"]
COLLECTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


def _check_rule(rule: Any) -> Any:
    check_rule(rule)
    return rule


def _check_stamp(value: Any) -> Any:
    check_stamp(value)
    return value


class Paginate(Strict):
    """How many records a page has when the client does not say, and at most."""

    default: Annotated[int, Field(ge=1, le=10_000)] = 10
    max: Annotated[int, Field(ge=1, le=10_000)] = 50

    @model_validator(mode="after")
    def _check_order(self) -> Paginate:
        if self.default > self.max:
            raise ValueError("default may not be larger than max")
        return self


class RoomsDeclaration(Strict):
    """Events go only to the connections that have joined the room which a record's field names."""

    by: str
    join: RuleWord = "authenticated"
    """Who may join a room; into `nobody` only plug-ins let connections."""

    @field_validator("by")
    @classmethod
    def _check_by(cls, field: str) -> str:
        if not FIELD.fullmatch(field) or field == "app_id":
            raise ValueError("must be a field name of letters, digits and '_'")
        return field


class ServiceDeclaration(Strict):
    """One data service of a tenant."""

    collection: str | None = None
    id: str = "_id"
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    paginate: Paginate | None = Paginate()
    """None, or `false` in the file, is a service whose `find` answers with a bare list."""
    multi: tuple[Literal["create", "patch", "remove"], ...] = ()
    indexes: tuple[IndexFields, ...] = ()
    """Lists of fields to find and sort by, `-field` for descending. Each index begins with the tenant by itself."""
    unique: tuple[IndexFields, ...] = ()
    """Lists of fields whose values no two of the tenant's records share."""
    operators: tuple[Literal["$exists", "$startsWith", "$search"], ...] = ()
    """Query operators that are offered besides the usual ones."""
    search: Annotated[tuple[Annotated[str, AfterValidator(check_field)], ...], Field(max_length=8)] = ()
    """The fields in which `$search` looks for words. Naming them offers it."""
    updates: tuple[Literal["$set", "$unset", "$inc", "$min", "$max", "$mul", "$push", "$pull", "$addToSet"], ...] = ()
    """Update operators that `patch` takes at the top of its data."""
    readonly: tuple[Annotated[str, AfterValidator(check_field)], ...] = ()
    """Fields that no client may write."""
    hidden: tuple[Annotated[str, AfterValidator(check_field)], ...] = ()
    """Fields that never leave the server, and by which no client may filter, sort or select."""
    stamp: dict[Annotated[str, AfterValidator(check_stamped)], Annotated[Any, AfterValidator(_check_stamp)]] = {}
    """What fields of new records hold, whatever clients send: plain values, `$user.<path>` or `$now`."""
    rooms: RoomsDeclaration | None = None
    rules: dict[
        Literal["default", "find", "get", "create", "update", "patch", "remove"],
        Annotated[Any, AfterValidator(_check_rule)],
    ] = {}
    """Who may call what: see `hooks/rules.py`."""

    @field_validator("paginate", mode="before")
    @classmethod
    def _accept_false(cls, paginate: Any) -> Any:
        return None if paginate is False else paginate

    @field_validator("multi", mode="before")
    @classmethod
    def _accept_words(cls, multi: Any) -> Any:
        if isinstance(multi, bool):
            return ("create", "patch", "remove") if multi else ()
        return as_tuple(multi)

    @field_validator("operators", "search", "updates", "readonly", "hidden", mode="before")
    @classmethod
    def _accept_plain_lists(cls, names: Any) -> Any:
        return as_tuple(names)

    @model_validator(mode="after")
    def _check_search(self) -> ServiceDeclaration:
        if "$search" in self.operators and not self.search:
            raise ValueError("$search needs fields to look in: name them under search")
        if len(set(self.search)) < len(self.search):
            raise ValueError("search names a field twice")
        if self.id in self.hidden:
            raise ValueError("the id of a record cannot be hidden")
        if self.rooms is not None and self.rooms.by in self.hidden:
            raise ValueError("the field of the rooms cannot be hidden: joining one would tell what it holds")
        if self.id in self.readonly:
            raise ValueError("the id is never written by a patch, and chosen by who creates a record: not for readonly")
        return self

    @field_validator("indexes", "unique", mode="before")
    @classmethod
    def _accept_lists(cls, indexes: Any) -> Any:
        if not isinstance(indexes, list):
            return indexes
        return tuple((fields,) if isinstance(fields, str) else as_tuple(fields) for fields in indexes)

    @field_validator("indexes", "unique")
    @classmethod
    def _check_indexes(cls, indexes: tuple[IndexFields, ...]) -> tuple[IndexFields, ...]:
        if len(indexes) > MAX_INDEXES:
            raise ValueError(f"at most {MAX_INDEXES} are allowed")
        return indexes

    @field_validator("collection")
    @classmethod
    def _check_collection(cls, collection: str | None) -> str | None:
        if collection is not None:
            if not COLLECTION.fullmatch(collection):
                raise ValueError("must be letters, digits, '-' and '_', beginning with a letter")
            if collection in RESERVED_COLLECTIONS:
                raise ValueError(f"'{collection}' is a collection of Roost itself")
        return collection

    @field_validator("id")
    @classmethod
    def _check_id(cls, field: str) -> str:
        if not FIELD.fullmatch(field) or field == "app_id":
            raise ValueError("must be a field name of letters, digits and '_'")
        return field

    @field_validator("schema_")
    @classmethod
    def _check_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            if "app_id" in schema:
                raise ValueError("app_id: is set by the server and cannot be declared")
            Schema(schema)
        return schema


def searched_fields(services: Mapping[str, ServiceDeclaration]) -> dict[str, tuple[str, ...]]:
    """The fields of each collection in which words are looked for. All services of a collection keep those words.

    Raises:
        ValueError: two services of one collection name different fields.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path, service in services.items():
        name = service.collection or path
        if service.search and found.setdefault(name, service.search) != service.search:
            raise ValueError(f"'{path}' searches '{name}' in other fields than another service of that collection")
    return found


def service_declarations(stored: Mapping[str, Any]) -> dict[str, ServiceDeclaration]:
    """A tenant's services out of the catalogue."""
    return {path: ServiceDeclaration.model_validate(declared) for path, declared in stored.items()}
