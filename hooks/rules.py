"""The language of access rules, and what a rule means for one caller: everything, nothing, or a query.

    "public" | "authenticated" | "nobody"
    {"permission": "posts:write"}                 the caller's `permissions` hold it
    {"any": [rule, ...]}  {"all": [rule, ...]}
    {"owner_id": "$user._id"}                     a query; `$user.<path>` and `$now` stand for the caller's values

A comparison with a `$user` value that the caller does not have is false. So a stranger passes a query only by branches that
do not ask who he is, such as `{"$or": [{"public": true}, {"owner_id": "$user._id"}]}`. Values are single ones and lists of
them: an object, which a database could take for operators, and null, which equals what is missing, are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bson import ObjectId

from hooks.context import Record

Rule = str | Mapping[str, Any]
Rules = Mapping[str, Rule]
"""A rule by method, and under `default` for the methods that are not named."""

WORDS: Final = ("public", "authenticated", "nobody")
DEFAULT: Final = "default"
USER: Final = "$user."
NOW: Final = "$now"
MAX_PARTS: Final = 50
"""Conditions of one rule, all levels together."""
MAX_VALUES: Final = 100
"""Values of one list in a rule."""

Scope = bool | dict[str, Any]
"""What a caller reaches: True is every record, False none, else a query that no `$user` is left in."""


@dataclass(frozen=True, slots=True)
class _Missing:
    """A `$user` value that the caller does not have."""


_MISSING: Final = _Missing()


_OPERATORS: Final = frozenset({"$in", "$nin", "$lt", "$lte", "$gt", "$gte", "$ne"})
_RANGES: Final = frozenset({"$lt", "$lte", "$gt", "$gte"})


def rule_for(rules: Rules, method: str) -> Rule:
    """The rule of a method; what is not declared is open to nobody."""
    return rules.get(method, rules.get(DEFAULT, "nobody"))


def check_rule(rule: object) -> None:
    """Refuses what is no rule.

    Raises:
        ValueError: with a sentence that says what is wrong.
    """
    _check(rule, [MAX_PARTS])


def scope_of(rule: Rule, user: Record | None, now: datetime | None = None) -> Scope:
    """What the caller reaches under the rule; `user` is None for a stranger."""
    if isinstance(rule, str):
        return rule == "public" or (rule == "authenticated" and user is not None)
    if "permission" in rule:
        return rule["permission"] in permissions_of(user)
    if "any" in rule:
        return _any([scope_of(part, user, now) for part in rule["any"]])
    if "all" in rule:
        return _all([scope_of(part, user, now) for part in rule["all"]])
    return _render_query(rule, user, now or datetime.now(UTC))


def permissions_of(user: Record | None) -> Sequence[str]:
    """The caller's permissions; a `permissions` field that is no list holds none."""
    held = (user or {}).get("permissions", ())
    return held if isinstance(held, (list, tuple)) else ()


def needs_login(rule: Rule) -> bool:
    """Whether no stranger can ever pass: then he is told to log in rather than that nothing was found."""
    return scope_of(rule, None) is False


def fields_of(rule: Rule) -> frozenset[str]:
    """The top-level fields of records that the rule looks at."""
    if isinstance(rule, str) or "permission" in rule:
        return frozenset()
    for combined in ("any", "all"):
        if combined in rule:
            return frozenset[str]().union(*(fields_of(part) for part in rule[combined]))
    return _query_fields(rule)


def user_fields_of(rule: Any) -> frozenset[str]:
    """The top-level fields of the caller's record that a rule, or a template of one, asks for."""
    if isinstance(rule, str):
        return frozenset({rule.removeprefix(USER).partition(".")[0]} if rule.startswith(USER) else ())
    if isinstance(rule, Mapping):
        if "permission" in rule:
            return frozenset({"permissions"})
        rule = list(rule.values())
    if not isinstance(rule, list):
        return frozenset()
    return frozenset[str]().union(*map(user_fields_of, rule))


def user_value(user: Record | None, path: str) -> Any:
    """The value at a dotted path of the caller's record, None where there is none; ids as the texts that clients see."""
    value: Any = user
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value if _plain(item) is not None]
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, ObjectId):
        return str(value)
    return value if isinstance(value, (str, bool, int, float, datetime)) else None


def _any(scopes: Sequence[Scope]) -> Scope:
    if any(scope is True for scope in scopes):
        return True
    queries = [scope for scope in scopes if not isinstance(scope, bool)]
    if not queries:
        return False
    return queries[0] if len(queries) == 1 else {"$or": queries}


def _all(scopes: Sequence[Scope]) -> Scope:
    if any(scope is False for scope in scopes):
        return False
    queries = [scope for scope in scopes if not isinstance(scope, bool)]
    if not queries:
        return True
    return queries[0] if len(queries) == 1 else {"$and": queries}


def _render_query(template: Mapping[str, Any], user: Record | None, now: datetime) -> Scope:
    parts: list[Scope] = []
    for key, value in template.items():
        if key == "$or":
            parts.append(_any([_render_query(branch, user, now) for branch in value]))
        elif key == "$and":
            parts.append(_all([_render_query(branch, user, now) for branch in value]))
        else:
            rendered = _render(value, user, now)
            parts.append(False if rendered is _MISSING else {key: rendered})
    plain: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, dict) and len(part) == 1 and plain.keys().isdisjoint(part):
            plain.update(part)
    if sum(len(part) for part in parts if isinstance(part, dict)) == len(plain):
        return False if any(part is False for part in parts) else (plain or True)
    return _all(parts)


def _render(value: Any, user: Record | None, now: datetime) -> Any:
    if isinstance(value, str):
        if value == NOW:
            return now
        if value.startswith(USER):
            found = user_value(user, value.removeprefix(USER))
            return _MISSING if found is None else found
        return value
    if isinstance(value, Mapping):
        rendered = {operator: _render_operand(operator, item, user, now) for operator, item in value.items()}
        return _MISSING if any(item is _MISSING for item in rendered.values()) else rendered
    if isinstance(value, list):
        items = [_render(item, user, now) for item in value]
        return _MISSING if any(item is _MISSING for item in items) else items
    return value


def _render_operand(operator: str, operand: Any, user: Record | None, now: datetime) -> Any:
    if operator not in ("$in", "$nin"):
        return _render(operand, user, now)
    given = operand if isinstance(operand, list) else [operand]
    items: list[Any] = []
    missing = 0
    for item in given:
        rendered = _render(item, user, now)
        if rendered is _MISSING:
            missing += 1
        elif isinstance(rendered, list) and not isinstance(item, list):
            items += rendered
        else:
            items.append(rendered)
    # Of the values that one shall have, some may be missing; of those that one may not have, none.
    return _MISSING if missing and (operator == "$nin" or missing == len(given)) else items


def _query_fields(template: Mapping[str, Any]) -> frozenset[str]:
    fields: frozenset[str] = frozenset()
    for key, value in template.items():
        if key in ("$or", "$and"):
            fields = fields.union(*(_query_fields(branch) for branch in value))
        else:
            fields |= {key.partition(".")[0]}
    return fields


def _check(rule: object, budget: list[int]) -> None:
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError(f"is too large: at most {MAX_PARTS} conditions are allowed")
    if isinstance(rule, str):
        if rule not in WORDS:
            raise ValueError(f"is one of {', '.join(WORDS)}, or a condition, not '{rule}'")
        return
    if not isinstance(rule, Mapping) or not rule:
        raise ValueError(f"is one of {', '.join(WORDS)}, or a condition such as {{owner_id: $user._id}}")
    for word in ("permission", "any", "all"):
        if word in rule and len(rule) > 1:
            raise ValueError(f"'{word}' stands alone: combine rules with any and all")
    if "permission" in rule:
        if not isinstance(rule["permission"], str) or not rule["permission"]:
            raise ValueError("permission: is the name of a permission")
        return
    for word in ("any", "all"):
        if word in rule:
            parts = rule[word]
            if not isinstance(parts, list) or not parts:
                raise ValueError(f"{word}: is a list of rules")
            for part in parts:
                _check(part, budget)
            return
    _check_query(rule, budget)


def _check_query(query: object, budget: list[int]) -> None:
    if not isinstance(query, Mapping) or not query:
        raise ValueError("a condition is an object of fields and values")
    for key, value in query.items():
        budget[0] -= 1
        if budget[0] < 0:
            raise ValueError(f"is too large: at most {MAX_PARTS} conditions are allowed")
        if key in ("$or", "$and"):
            if not isinstance(value, list) or not value:
                raise ValueError(f"{key}: is a list of conditions")
            for branch in value:
                _check_query(branch, budget)
            continue
        _check_field(key)
        if isinstance(value, Mapping):
            for operator, operand in (value or {"": None}).items():
                _check_operand(key, operator, operand)
        else:
            _check_value(key, value)


def _check_field(name: object) -> None:
    if not isinstance(name, str) or not all(part and part[0] != "$" for part in name.split(".")):
        raise ValueError(f"'{name}' is not a field, and of the operators only $or and $and stand here")
    if name.partition(".")[0] == "app_id" or name.startswith("_id."):
        raise ValueError(f"'{name}' is nothing that a rule can ask for")


def _check_operand(field: str, operator: str, operand: Any) -> None:
    if operator not in _OPERATORS:
        raise ValueError(f"{field}: '{operator}' is none of {', '.join(sorted(_OPERATORS))}")
    if operand == NOW and operator in _RANGES:
        return
    if operator in ("$in", "$nin"):
        if not isinstance(operand, list) and not (isinstance(operand, str) and operand.startswith(USER)):
            raise ValueError(f"{field}: {operator} needs a list")
    elif isinstance(operand, list):
        raise ValueError(f"{field}: {operator} needs a single value")
    _check_value(field, operand)


def _check_value(field: str, value: Any) -> None:
    if isinstance(value, list):
        if len(value) > MAX_VALUES:
            raise ValueError(f"{field}: a list has at most {MAX_VALUES} values")
        for item in value:
            _check_value(field, item)
    elif isinstance(value, str):
        if value == NOW:
            raise ValueError(f"{field}: {NOW} is compared by {', '.join(sorted(_RANGES))}")
        if value.startswith("$") and (not value.startswith(USER) or not all(value.split("."))):
            raise ValueError(f"{field}: '{value}' is neither {NOW} nor {USER}<field>")
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise ValueError(f"{field}: is compared with texts, numbers, true, false, null and lists of them")
