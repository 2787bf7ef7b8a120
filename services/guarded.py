"""Writes that access rules or schemas have to judge: tried in this process first, and made only on what they were tried on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from hooks.context import Guard, Record
from hooks.errors import Conflict, Forbidden
from services.isolation import ScopedCollection
from services.predicate import compile_filter
from services.store import Document, Filter
from services.update import roots

ATTEMPTS = 10
"""How often a change starts again when others have come between what it read and what it writes."""
NOT_CREATED = "You are not allowed to create such a record"
NOT_CHANGED = "You are not allowed to change the record like this"

Outcome = TypeVar("Outcome", Record, list[Record])


def admit(guard: Guard, records: Sequence[Record], refusal: str) -> None:
    """Lets through records that the access rule reaches.

    Raises:
        Forbidden: one of them is out of its reach.
    """
    if guard.scope is not None and not all(map(compile_filter(guard.scope), records)):
        raise Forbidden(refusal)


def touches(guard: Guard | None, update: Document) -> bool:
    """Whether an update may change who reaches or reads a record."""
    return guard is not None and not roots(update).isdisjoint(guard.fields | guard.watch)


def noted(guard: Guard | None, outcome: Outcome) -> Outcome:
    """The outcome, of which the guard keeps copies: hooks may change it before the event goes out."""
    if guard is not None:
        for record in outcome if isinstance(outcome, list) else [outcome]:
            guard.after[record["_id"]] = {**record}
    return outcome


async def attempt(
    collection: ScopedCollection,
    chosen: Filter,
    *,
    pinned: Iterable[str],
    guard: Guard | None,
    change: Callable[[Record], Record],
    write: Callable[[Filter, Record], Awaitable[Record | None]],
) -> Record | None:
    """Changes the record that `chosen` names; None when there is none.

    `change` says what becomes of it, and may refuse; `write` brings that about where the filter still matches, which
    holds the `pinned` fields to what they were, and those on which the guard's answers depend.

    Raises:
        Forbidden: the outcome is out of the guard's reach. Conflict: others are faster again and again.
    """
    fields = {*pinned} if guard is None else {*pinned, *guard.fields, *guard.watch}
    for _ in range(ATTEMPTS):
        found = await collection.find(chosen, limit=1)
        if not found:
            return None
        old = found[0]
        changed = change(old)
        if guard is not None:
            admit(guard, [changed], NOT_CHANGED)
        written = await write({"$and": [chosen, _unchanged(old, fields)]}, changed)
        if written is not None:
            if guard is not None:
                guard.before[old["_id"]] = old
            return written
    raise Conflict("Others are changing this record at the same moment: try again")


def _unchanged(record: Record, fields: Iterable[str]) -> Filter:
    """The condition that the fields still hold what they hold in the record; the id always does."""
    same: Document = {}
    single: list[Document] = []
    for field in fields:
        if field == "_id":
            continue
        if field not in record:
            same[field] = {"$exists": False}
            continue
        # To a database null equals what is missing, and a value any list that has it.
        same[field] = {"$eq": record[field]} if record[field] is not None else {"$eq": None, "$exists": True}
        if not isinstance(record[field], list):
            single.append({field: {"$type": ["array"]}})
    return {**same, "$nor": single} if single else same
