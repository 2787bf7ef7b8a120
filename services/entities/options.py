"""What calls of entity services ask for besides a query: words such as `cascade`, and where in a path they stand."""

from __future__ import annotations

from typing import Any

from hooks.context import HookContext, Record
from hooks.errors import BadRequest, NotFound
from hooks.tenant import Tenant
from services.entities.records import Entities
from services.entities.registry import Entity
from services.registration import Hook


def take_flag(query: Record, name: str) -> tuple[Record, bool]:
    """The query without the flag, and whether it was set: `true`, or its text over REST.

    Raises:
        BadRequest: it is neither true nor false.
    """
    rest, found = take_option(query, name)
    for value in found:
        if value not in (True, False, "true", "false"):
            raise BadRequest(f"'{name}' is true or false")
    return rest, any(value in (True, "true") for value in found)


def take_option(query: Record, name: str) -> tuple[Record, list[Any]]:
    """The query without a word that is no condition, and the values that it had, wherever hooks have put them."""
    found: list[Any] = []

    def without(part: Record) -> Record:
        if name in part:
            found.append(part[name])
        return {key: value for key, value in part.items() if key != name}

    rest = without(query)
    branches = rest.get("$and")
    if isinstance(branches, list):
        rest["$and"] = [left for part in branches if isinstance(part, dict) and (left := without(part))]
    return rest, found


def narrow(query: Record, **conditions: Any) -> Record:
    """The query with more conditions, which nothing in it can undo."""
    return {**query, "$and": [*query.get("$and", []), conditions]}


def within(entities: Entities, parent: Entity, segment: str, field: str) -> Hook:
    """A before hook for a path such as `roles/:role/permissions`: the call reaches and makes records of that parent alone.

    Raises:
        NotFound: there is no such parent. BadRequest: the data names another.
    """

    async def confine(context: HookContext) -> None:
        params = context.params
        found = await entities.get(context.tenant, parent, params.route.get(segment))
        if found is None:
            raise NotFound(f"No {parent.name} found for id '{params.route.get(segment)}'")
        id = str(found["_id"])
        params.query = narrow(params.query, **{field: id})
        if context.method == "create" and isinstance(context.data, dict):
            if context.data.get(field, id) != id:
                raise BadRequest(f"The {field} is that of the path")
            context.data = {**context.data, field: id}

    return confine


async def required(entities: Entities, tenant: Tenant, entity: Entity, id: Any) -> Record:
    """The entity that data names.

    Raises:
        BadRequest: there is none.
    """
    found = await entities.get(tenant, entity, id)
    if found is None:
        raise BadRequest(f"There is no {entity.name} '{str(id)[:64]}'")
    return found
