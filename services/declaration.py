"""The declarative file: tenants and their data services as YAML, checked as a whole before anything is applied."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hooks.rules import check_rule
from hooks.schema import Schema
from hooks.stamp import check_stamp
from hooks.tenant import TENANT_ID, AuthSettings, EmailSettings, ExternalSettings, PasswordSettings
from services.mail.templates import Kind, Template, check_page, check_template, one_line

RESERVED_PATHS = frozenset(
    "authentication users accounts sessions api-keys audit-log rooms tenants apps health example docs socket.io".split()
)
"""Paths of Roost's own services and pages."""
RESERVED_COLLECTIONS = frozenset("users sessions account_tokens api_keys identities audit_log login_attempts".split())
"""Collections of Roost's own services in a tenant's database."""

MAX_INDEXES = 16
"""Of each kind, for one service."""

METHODS = ("find", "get", "create", "update", "patch", "remove")
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}(/[A-Za-z][A-Za-z0-9_-]{0,62}){0,3}")
_COLLECTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class DeclarationError(Exception):
    """The file has mistakes; each line names the place and what is wrong there."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _check_origin(origin: str) -> str:
    parts = urlsplit(origin)
    plain = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or not parts.hostname or origin != plain or "@" in origin or "*" in origin:
        raise ValueError("must be scheme://host or scheme://host:port, such as https://app.example.com")
    if origin != origin.lower():
        raise ValueError("must be in lower case")
    return origin


Origin = Annotated[str, AfterValidator(_check_origin)]
RuleWord = Literal["public", "authenticated", "nobody"]


def _check_index_field(field: str) -> str:
    parts = field.removeprefix("-").split(".")
    if not all(_FIELD.fullmatch(part) for part in parts) or parts[0] in ("app_id", "_id"):
        raise ValueError("must be a field's name, or -name for descending order")
    return field


def _check_field(field: str) -> str:
    if not _FIELD.fullmatch(field) or field in ("app_id", "_id"):
        raise ValueError("must be a field name of letters, digits and '_'")
    return field


def _check_stamped(field: str) -> str:
    if not _FIELD.fullmatch(field) or field == "app_id":
        raise ValueError("must be a field name of letters, digits and '_'")
    return field


def _check_rule(rule: Any) -> Any:
    check_rule(rule)
    return rule


def _check_stamp(value: Any) -> Any:
    check_stamp(value)
    return value


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


IndexFields = Annotated[
    tuple[Annotated[str, AfterValidator(_check_index_field)], ...], Field(min_length=1, max_length=8)
]


class Paginate(_Model):
    """How many records a page has when the client does not say, and at most."""

    default: Annotated[int, Field(ge=1, le=10_000)] = 10
    max: Annotated[int, Field(ge=1, le=10_000)] = 50

    @model_validator(mode="after")
    def _check_order(self) -> Paginate:
        if self.default > self.max:
            raise ValueError("default may not be larger than max")
        return self


class RoomsDeclaration(_Model):
    """Events go only to the connections that have joined the room which a record's field names."""

    by: str
    join: RuleWord = "authenticated"
    """Who may join a room; into `nobody` only plug-ins let connections."""

    @field_validator("by")
    @classmethod
    def _check_by(cls, field: str) -> str:
        if not _FIELD.fullmatch(field) or field == "app_id":
            raise ValueError("must be a field name of letters, digits and '_'")
        return field


class ServiceDeclaration(_Model):
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
    search: Annotated[tuple[Annotated[str, AfterValidator(_check_field)], ...], Field(max_length=8)] = ()
    """The fields in which `$search` looks for words. Naming them offers it."""
    updates: tuple[Literal["$set", "$unset", "$inc", "$min", "$max", "$mul", "$push", "$pull", "$addToSet"], ...] = ()
    """Update operators that `patch` takes at the top of its data."""
    readonly: tuple[Annotated[str, AfterValidator(_check_field)], ...] = ()
    """Fields that no client may write."""
    hidden: tuple[Annotated[str, AfterValidator(_check_field)], ...] = ()
    """Fields that never leave the server, and by which no client may filter, sort or select."""
    stamp: dict[Annotated[str, AfterValidator(_check_stamped)], Annotated[Any, AfterValidator(_check_stamp)]] = {}
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
        return _as_tuple(multi)

    @field_validator("operators", "search", "updates", "readonly", "hidden", mode="before")
    @classmethod
    def _accept_plain_lists(cls, names: Any) -> Any:
        return _as_tuple(names)

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
        return tuple((fields,) if isinstance(fields, str) else _as_tuple(fields) for fields in indexes)

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
            if not _COLLECTION.fullmatch(collection):
                raise ValueError("must be letters, digits, '-' and '_', beginning with a letter")
            if collection in RESERVED_COLLECTIONS:
                raise ValueError(f"'{collection}' is a collection of Roost itself")
        return collection

    @field_validator("id")
    @classmethod
    def _check_id(cls, field: str) -> str:
        if not _FIELD.fullmatch(field) or field == "app_id":
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


Strategy = Literal["local", "jwt", "refresh", "anonymous", "api_key", "external"]


class ExternalDeclaration(_Model):
    """An identity provider whose tokens log in: its keys are given here, or fetched from where it publishes them."""

    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    audience: Annotated[str, Field(min_length=1, max_length=512)]
    jwks_url: Annotated[str, Field(max_length=2048)] | None = None
    jwks: dict[str, Any] | None = None
    tenant_claim: Annotated[str, Field(min_length=1, max_length=128)] = "tid"
    tenant_value: Annotated[str, Field(min_length=1, max_length=512)]

    @model_validator(mode="after")
    def _check_keys(self) -> ExternalDeclaration:
        if (self.jwks_url is None) == (self.jwks is None):
            raise ValueError("needs either jwks_url or jwks")
        if self.jwks_url is not None and urlsplit(self.jwks_url).scheme not in ("https", "http"):
            raise ValueError("jwks_url must be an https address")
        return self


class PasswordDeclaration(_Model):
    """How many characters a new password has. Only the least may be raised much: long ones are never refused."""

    min: Annotated[int, Field(ge=8, le=64)] = 8
    max: Annotated[int, Field(ge=64, le=128)] = 128


class TemplateDeclaration(_Model):
    """A mail of the tenant's own wording, with the placeholders of `services/mail/templates.py`."""

    subject: Annotated[str, Field(max_length=200)]
    text: Annotated[str, Field(min_length=1, max_length=20_000)]
    html: Annotated[str, Field(min_length=1, max_length=100_000)] | None = None


class EmailDeclaration(_Model):
    """The mails that the tenant's users get."""

    from_name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    url: Annotated[str, AfterValidator(check_page)] | None = None
    templates: dict[Kind, TemplateDeclaration] = {}

    @field_validator("from_name")
    @classmethod
    def _check_from_name(cls, name: str | None) -> str | None:
        if name is not None and name != one_line(name, 64):
            raise ValueError("must be one line without control characters")
        return name

    @field_validator("templates")
    @classmethod
    def _check_templates(cls, declared: dict[Kind, TemplateDeclaration]) -> dict[Kind, TemplateDeclaration]:
        for kind, template in declared.items():
            try:
                check_template(kind, Template(**template.model_dump()))
            except ValueError as error:
                raise ValueError(f"{kind}: {error}") from error
        return declared


class AuthDeclaration(_Model):
    """How the tenant's users log in."""

    username_field: Literal["username", "email"] = "username"
    strategies: tuple[Strategy, ...] = ("local", "jwt", "refresh", "api_key", "external")
    """Which of Roost's own ways of logging in there are."""
    access_token_lifetime: Annotated[int, Field(ge=10, le=31_536_000)] | None = None
    refresh_token_lifetime: Annotated[int, Field(ge=60, le=31_536_000)] = 30 * 24 * 60 * 60
    external: ExternalDeclaration | None = None
    enumeration: Literal["open", "protected"] = "open"
    """Whether a sign-up tells that a name is taken. `protected` tells nobody, and implies `require_verified`."""
    require_verified: bool = False
    """Whether a password logs in only after the user's e-mail address was confirmed."""
    password: PasswordDeclaration = PasswordDeclaration()
    email: EmailDeclaration = EmailDeclaration()

    @field_validator("strategies", mode="before")
    @classmethod
    def _accept_list(cls, strategies: Any) -> Any:
        return _as_tuple(strategies)


class TenantDeclaration(_Model):
    """One tenant."""

    id: str
    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    allowed_origins: tuple[Origin, ...] = ()
    auth: AuthDeclaration = AuthDeclaration()
    services: dict[str, ServiceDeclaration] = {}

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _accept_list(cls, origins: Any) -> Any:
        return _as_tuple(origins)

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
            if declared.collection is None and not _COLLECTION.fullmatch(path):
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
        """What the catalogue keeps of it, as plain values: the name, origins, auth and services."""
        kept = self.model_dump(mode="json", by_alias=True, exclude={"id"})
        kept["name"] = self.name or self.id
        return kept


class Declaration(_Model):
    """The whole file."""

    tenants: tuple[TenantDeclaration, ...]

    @field_validator("tenants", mode="before")
    @classmethod
    def _accept_list(cls, tenants: Any) -> Any:
        if tenants == []:
            raise ValueError("names no tenant")
        return _as_tuple(tenants)

    @model_validator(mode="after")
    def _check_unique(self) -> Declaration:
        ids = [tenant.id for tenant in self.tenants]
        for id in ids:
            if ids.count(id) > 1:
                raise ValueError(f"the tenant '{id}' is declared twice")
        return self


def parse(text: str) -> Declaration:
    """The declaration in a YAML text.

    Raises:
        DeclarationError: every mistake, each with its path such as `tenants[0].services.messages.paginate.max`.
    """
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:
        raise DeclarationError([f"not valid YAML: {error}"]) from error
    return check(content)


def check(content: object) -> Declaration:
    """The declaration in plain values.

    Raises:
        DeclarationError: every mistake with its path.
    """
    try:
        return Declaration.model_validate(content if content is not None else {})
    except ValidationError as error:
        raise DeclarationError([f"{_place(fault['loc'])}: {_sentence(fault)}" for fault in error.errors()]) from error


def read(file: Path) -> Declaration:
    """The declaration in a file.

    Raises:
        DeclarationError: the file cannot be read, or it has mistakes.
    """
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError([f"{file}: {getattr(error, 'strerror', None) or error}"]) from error


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


def auth_settings(stored: Mapping[str, Any]) -> AuthSettings:
    """A tenant's authentication out of the catalogue."""
    declared = AuthDeclaration.model_validate(stored)
    external = None if declared.external is None else ExternalSettings(**declared.external.model_dump())
    nested = {"external", "password", "email"}
    plain = {name: getattr(declared, name) for name in AuthDeclaration.model_fields if name not in nested}
    password, email = PasswordSettings(**declared.password.model_dump()), EmailSettings(**declared.email.model_dump())
    return AuthSettings(**plain, external=external, password=password, email=email)


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that is written twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} must be text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' is written twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for part in location:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part != "[key]":
            place += f".{part}" if place else part
    return place or "the file"


def _sentence(fault: Mapping[str, Any]) -> str:
    if fault["loc"][-1:] == ("[key]",):
        return "is not a known key"
    if fault["type"] == "extra_forbidden":
        return "is not a known key"
    if fault["type"] == "missing":
        return "is missing"
    message: str = fault["msg"]
    message = message.removeprefix("Value error, ")
    given = fault["input"]
    return f"{message} (not {given!r})" if isinstance(given, (str, int, float, bool)) else message
