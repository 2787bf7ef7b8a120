"""Query strings hold nothing but text: over REST, what is compared with a declared field gets that field's type first."""

from __future__ import annotations

from collections.abc import Callable

from hooks.context import HookContext
from hooks.schema import Schema, validate_query


def coerce_query(schema: Schema) -> Callable[[HookContext], None]:
    """A before hook for all methods: `validate_query`, for query strings alone.

    Calls over sockets carry their types, and pass as they are.

    Raises:
        BadRequest: `validation failed`, for texts that have no form of the type.
    """
    validate = validate_query(schema)

    def coerce(context: HookContext) -> None:
        if context.params.provider == "rest":
            validate(context)

    return coerce
