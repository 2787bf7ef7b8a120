"""`types.d.ts`: the services of a tenant as types for Feathers clients written in TypeScript."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.description import MethodDescription, ServiceDescription, TenantDescription
from services.shape import JsonSchema, Shape

_PRELUDE = """\
import type { Id, Paginated, Params } from '@feathersjs/feathers'

/** A value to equal, or conditions. */
export type Condition<T> = T | null | {
  $in?: (T | null)[]
  $nin?: (T | null)[]
  $ne?: T | null
  $lt?: T
  $lte?: T
  $gt?: T
  $gte?: T
}

/** Which records are meant. A field that holds a list matches when the list contains the value. */
export type Where<T> = { [K in keyof T]?: Condition<T[K] extends (infer Item)[] | undefined ? Item : T[K]> } & {
  $or?: Where<T>[]
  $and?: Where<T>[]
}

export type FieldOf<T> = Extract<keyof T, string>

/** What the answer shows; ids are always in it. */
export type Select<T> = { $select?: FieldOf<T>[] }

export type Find<T> = Where<T> & Select<T> & {
  $limit?: number
  $skip?: number
  $sort?: { [K in FieldOf<T>]?: 1 | -1 }
}

/** Pages by cursor: `$after: page.cursor.next` is the next one. */
export type ByCursor = {
  $after?: string | null
  $before?: string | null
  $cursor?: boolean
  $total?: boolean
}

export type Page<T> = Paginated<T> & { cursor?: { next: string | null; previous: string | null } }

/** Changes of an update operator, by field or dotted path. */
export type Changes<T> = { [K in FieldOf<T>]?: unknown } | { [path: string]: unknown }
"""

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


def typescript(tenant: TenantDescription) -> str:
    """The file's text. `feathers<ServiceTypes>()` then knows every service, method, record and event."""
    title = f"// The services of the app {_text(tenant.id)}, for: feathers<ServiceTypes>()\n"
    parts = [title + "// Written by `python -m server types`: changes are lost the next time.", _PRELUDE.rstrip()]
    for service in tenant.services:
        parts += _service(service)
    services = [f"  {_key(service.path)}: {service.type_name}Service" for service in tenant.services]
    parts.append("\n".join(["export interface ServiceTypes {", *services, "}"]))
    return "\n\n".join(parts) + "\n"


def _service(service: ServiceDescription) -> Iterator[str]:
    name = service.type_name
    yield _interface(f"{name}Record", service.record, f"A record of `{_comment(service.path)}`.")
    if service.method("create") or service.method("update"):
        yield _interface(f"{name}Data", service.data, "What a new record is made of.")
    if service.method("update") and (kept := _kept(service.data)):
        required = tuple(name for name in service.data.required if name not in kept)
        shape = Shape(service.data.properties, required, service.data.is_open)
        yield _interface(f"{name}Replacement", shape, "What a record is replaced by.")
    if service.method("patch"):
        part = Shape(service.data.properties, (), service.data.is_open)
        yield _interface(f"{name}Patch", part, "The fields that change.", _updates(service))
    if service.takes_queries:
        extra = " & ByCursor" if service.has_cursors else ""
        extra += " & { $search?: string }" if service.is_searchable else ""
        yield f"export type {name}Query = Find<{name}Record>{extra}"
    yield "\n".join(
        [
            f"export interface {name}Service {{",
            *(f"  {line}" for method in service.methods for line in _method(service, method)),
            *(f"  {line}" for line in _events(service)),
            "}",
        ]
    )


def _method(service: ServiceDescription, method: MethodDescription) -> Iterator[str]:
    record = f"{service.type_name}Record"
    some = f"params?: Params<Where<{record}> & Select<{record}>>"
    if not service.takes_queries:
        some = "params?: Params"
    data = f"{service.type_name}Data"
    replaced = f"{service.type_name}Replacement" if _kept(service.data) else data
    match method.name:
        case "find":
            found = f"Page<{record}>" if service.paginate else f"{record}[]"
            query = f"<{service.type_name}Query>" if service.takes_queries else ""
            yield f"find(params?: Params{query}): Promise<{found}>"
        case "get":
            yield f"get(id: Id, {some}): Promise<{record}>"
        case "create":
            shown = f"params?: Params<Select<{record}>>" if service.takes_queries else some
            if method.is_multi:
                yield f"create(data: {data}[], {shown}): Promise<{record}[]>"
            yield f"create(data: {data}, {shown}): Promise<{record}>"
        case "update":
            yield f"update(id: Id, data: {replaced}, {some}): Promise<{record}>"
        case "patch":
            if method.is_multi:
                yield f"patch(id: null, data: {service.type_name}Patch, {some}): Promise<{record}[]>"
            yield f"patch(id: Id, data: {service.type_name}Patch, {some}): Promise<{record}>"
        case "remove":
            if method.is_multi:
                yield f"remove(id: null, {some}): Promise<{record}[]>"
            id = "string | null" if service.kind == "login" else "Id"
            yield f"remove(id: {id}, {some}): Promise<{record}>"
        case _:
            yield f"{_key(method.name)}(data?: any, params?: Params): Promise<any>"


_ENDING = "{ reason: 'expired' | 'ended' }"


def _events(service: ServiceDescription) -> Iterator[str]:
    if service.events:
        names = " | ".join(_text(event.name) for event in service.events)
        heard = f"record: {service.type_name}Record" if service.kind != "login" else f"ending: {_ENDING}"
        for verb in ("on", "once", "off", "removeListener"):
            yield f"{verb}(event: {names}, listener: ({heard}) => void): this"


def _kept(shape: Shape) -> list[str]:
    """The required fields of new records that stay as they are when an update leaves them out."""
    return [name for name in shape.required if shape.properties[name].get("writeOnly")]


def _updates(service: ServiceDescription) -> list[str]:
    return [f"{operator}?: Changes<{service.type_name}Record>" for operator in service.updates]


def _interface(name: str, shape: Shape, comment: str, more: Sequence[str] = ()) -> str:
    lines = [f"/** {comment} */", f"export interface {name} {{"]
    for field, schema in shape.properties.items():
        mark = "" if field in shape.required else "?"
        lines.append(f"  {_key(field)}{mark}: {to_type(schema)}")
    lines += [f"  {line}" for line in more]
    if shape.is_open:
        lines.append("  [field: string]: unknown")
    return "\n".join([*lines, "}"])


def to_type(schema: JsonSchema | bool, depth: int = 0) -> str:
    """A JSON Schema as a type. What types cannot say, such as lengths, is left out; the type is never too narrow."""
    if isinstance(schema, bool) or depth > 20:
        return "never" if schema is False else "unknown"
    if "const" in schema:
        return _literal(schema["const"])
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return _union(_literal(value) for value in schema["enum"])
    for keyword in ("anyOf", "oneOf"):
        if isinstance(schema.get(keyword), list) and schema[keyword] and "type" not in schema:
            return _union(to_type(part, depth + 1) for part in schema[keyword])
    kinds = schema.get("type")
    if kinds is None:
        return "unknown"
    return _union(_kind(kind, schema, depth) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _kind(kind: str, schema: JsonSchema, depth: int) -> str:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "array":
        items = schema.get("items", True)
        item = (
            to_type(items, depth + 1)
            if isinstance(items, (Mapping, bool)) and "prefixItems" not in schema
            else "unknown"
        )
        return f"({item})[]" if " " in item and not item.startswith("{") else f"{item}[]"
    if kind == "object":
        return _object(schema, depth)
    return "unknown"


_PLAIN = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}


def _object(schema: JsonSchema, depth: int) -> str:
    required = schema.get("required", ())
    fields = [
        f"{_key(name)}{'' if name in required else '?'}: {to_type(part, depth + 1)}"
        for name, part in schema.get("properties", {}).items()
    ]
    if schema.get("additionalProperties", True) is not False or "patternProperties" in schema:
        fields.append("[field: string]: unknown")
    return f"{{ {'; '.join(fields)} }}" if fields else "Record<string, never>"


def _union(types: Iterator[str]) -> str:
    return " | ".join(dict.fromkeys(types))


def _literal(value: Any) -> str:
    """A constant as a type; for what is no plain value, the type of any such value."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return "unknown"


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    return json.dumps(text).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _comment(text: str) -> str:
    return text.replace("*/", "* /").replace("\n", " ")
