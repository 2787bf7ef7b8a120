"""pydantic models as shapes of records and queries."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from bson import ObjectId
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter, ValidationError, create_model
from pydantic_core import core_schema, to_jsonable_python

from hooks.fields import convert_query
from hooks.tenancy import FIELD


def _to_id(value: Any) -> ObjectId:
    if isinstance(value, ObjectId):
        return value
    if isinstance(value, str) and ObjectId.is_valid(value):
        return ObjectId(value)
    raise ValueError("must be an id of 24 hex digits")


class _AnyObjectId:
    """Lets pydantic take an ObjectId for what it is."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.is_instance_schema(ObjectId)


Id = Annotated[ObjectId, _AnyObjectId, BeforeValidator(_to_id), PlainSerializer(str, when_used="json")]
"""A model's field that holds the id of another record: hex text on the wire, an ObjectId in the store."""


class Model:
    """A pydantic model as a `hooks.schema.Shape`."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._whole = model
        self._part = _partial(model)
        names = {field.alias or name for name, field in model.model_fields.items()}
        self._server_fields = frozenset({"_id", FIELD}) - names
        self._adapters: dict[tuple[str, ...], TypeAdapter[Any]] = {}

    def read(self, record: Any, *, whole: bool) -> tuple[Any, list[dict[str, str]]]:
        """The record as the model dumps it; of a patch only the fields that were sent."""
        server: dict[str, Any] = {}
        if isinstance(record, Mapping):
            server = {key: record[key] for key in self._server_fields if key in record}
            record = {key: value for key, value in record.items() if key not in server}
        try:
            read = (self._whole if whole else self._part).model_validate(record)
        except ValidationError as error:
            return record, _faults(error)
        dumped = read.model_dump(by_alias=True, include=None if whole else read.model_fields_set)
        return {**_storable(dumped), **server}, []

    def read_query(self, query: Any) -> tuple[Any, list[dict[str, str]]]:
        """The query with each value as the type of its field has it; constraints such as `gt=0` do not count."""
        faults: list[dict[str, str]] = []

        def convert(place: str, value: Any, adapter: TypeAdapter[Any]) -> Any:
            if value is None or isinstance(value, dict):
                return value
            if isinstance(value, list):
                return [convert(f"{place}/{index}", item, adapter) for index, item in enumerate(value)]
            try:
                return _storable(adapter.validate_python(value))
            except ValidationError as error:
                if value == "":
                    return None
                faults.append({"path": place, "message": _faults(error)[0]["message"]})
                return value

        return convert_query(query, self._adapter, convert), faults

    def is_plain(self, path: str) -> bool:
        """A model may say anything of a value."""
        return False

    def requires(self, name: str) -> bool:
        """Whether a record must have the field."""
        fields = self._whole.model_fields
        return any(info.is_required() for own, info in fields.items() if (info.alias or own) == name)

    def convert(self, path: str, value: Any) -> Any:
        """A value at a path, or an item of the list there, as it is kept; lists item by item.

        Raises:
            ValueError: it has no form of the type.
        """
        adapter = self._adapter(path)
        if adapter is None:
            return value
        if isinstance(value, list):
            return [self.convert(path, item) for item in value]
        try:
            return _storable(adapter.validate_python(value))
        except ValidationError as error:
            raise ValueError(_faults(error)[0]["message"]) from error

    def _adapter(self, path: str) -> TypeAdapter[Any] | None:
        names = tuple("0" if name.isdecimal() else name for name in path.split("."))
        adapter = self._adapters.get(names)
        if adapter is None:
            annotation = _annotation_at(self._whole, names)
            if annotation is None:
                # Nothing is kept for paths that clients make up.
                return None
            adapter = self._adapters[names] = TypeAdapter(annotation)
        return adapter


def _partial(model: type[BaseModel]) -> type[BaseModel]:
    """The model with no field required; defaults are never part of a patch."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        optional = copy.copy(info)
        optional.default, optional.default_factory = None, None
        fields[name] = (info.annotation, optional)
    config = ConfigDict(**{**model.model_config, "validate_default": False})
    base = type(model.__name__, (model,), {"model_config": config, "__module__": model.__module__})
    return create_model(f"{model.__name__}Patch", __base__=base, **fields)


def _annotation_at(model: type[BaseModel], path: Sequence[str]) -> Any:
    """The type that a single value at a path is compared with, None when the model has no such path."""
    annotation: Any = model
    for name in path:
        annotation, is_list = _bare(annotation)
        if is_list and name.isdecimal():
            continue
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        fields = {field.alias or own: field for own, field in annotation.model_fields.items()}
        if name not in fields:
            return None
        annotation = fields[name].annotation
        if fields[name].metadata and any(isinstance(one, BeforeValidator) for one in fields[name].metadata):
            annotation = Annotated[(annotation, *fields[name].metadata)]
    bare, is_list = _bare(annotation)
    return bare if is_list else annotation


def _bare(annotation: Any) -> tuple[Any, bool]:
    """A type without `Optional` around it; of a list the type of its items, and that it is one."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            return _bare(members[0])
    if origin in (list, set, frozenset, tuple):
        members = [member for member in get_args(annotation) if member is not Ellipsis]
        if members:
            return _bare(members[0])[0], True
    return annotation, False


def _storable(value: Any) -> Any:
    """A dumped value as plain values that a store keeps: dates and ids as they are, all else as JSON has it."""
    kind = type(value)
    if kind is dict:
        return {key: _storable(child) for key, child in value.items()}
    if kind in (list, tuple, set, frozenset):
        return [_storable(child) for child in value]
    if value is None or kind in _PLAIN:
        return value
    return to_jsonable_python(value)


_PLAIN = frozenset({str, int, float, bool, datetime, ObjectId})


def _faults(error: ValidationError) -> list[dict[str, str]]:
    return [
        {
            "path": "/" + "/".join(map(str, fault["loc"])),
            "message": fault["msg"].removeprefix("Value error, ")[:300],
        }
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
