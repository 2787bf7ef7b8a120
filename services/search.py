"""Words of records for `$search`: the declared fields are kept a second time, under names that one text index knows.

A collection can have one text index only, and the apps that share it search in different fields. So the fields of each go
into numbered slots, beside the record and never seen outside, and the index is over the slots. Whatever changes a field
changes its slot alike, in the same command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIELD = "__search__"
"""Holds the slots. No client can send or name a field like this."""
SLOTS = ("a", "b", "c", "d", "e", "f", "g", "h")
LANGUAGE = "none"
"""Words as they are: no stems, and no language whose small words go missing."""
OVERRIDE = "__language__"
"""The field that would change the language of a record: none has it."""


def slots_of(record: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The slots of a record to be kept, `{FIELD: {slot: value}}`; nothing when it has none of the fields."""
    slots = {slot: record[field] for slot, field in zip(SLOTS, fields, strict=False) if field in record}
    return {FIELD: slots} if slots else {}


def with_slots(update: Mapping[str, Any], fields: Sequence[str]) -> Mapping[str, Any]:
    """An update that does to the slots what it does to their fields."""
    places = {field: f"{FIELD}.{slot}" for slot, field in zip(SLOTS, fields, strict=False)}
    both: dict[str, Any] = {}
    for operator, changes in update.items():
        copied = dict(changes)
        for path, value in changes.items():
            root, dot, rest = path.partition(".")
            if root in places:
                copied[f"{places[root]}{dot}{rest}"] = value
        both[operator] = copied
    return both


def backfill(fields: Sequence[str]) -> list[dict[str, Any]]:
    """The stages of an update that gives records the slots of these fields, and no others."""
    stages: list[dict[str, Any]] = [{"$unset": FIELD}]
    if fields:
        slots = {slot: f"${field}" for slot, field in zip(SLOTS, fields, strict=False)}
        stages.append({"$set": {FIELD: slots}})
    return stages
