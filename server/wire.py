"""JSON <-> Python: what a frame may hold on its way in, and how values look on their way out.

In: nesting, keys and numbers are bounded before anything else sees the value. Out: dates are ISO strings with milliseconds
and `Z`, ObjectIds are hex strings, NaN and infinities are null.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import Any

import orjson
from bson import Decimal128, ObjectId

from hooks.errors import BadRequest
from hooks.internal import Kept

MAX_DEPTH = 32
MAX_KEY = 256
MAX_KEYS = 10_000
"""Keys and list items of one message, all levels together."""

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS
_PLAIN: tuple[Any, ...] = (dict, list, str, int)

FORBIDDEN_KEYS = frozenset({"", "__proto__", "constructor", "prototype"})


def encode(value: Any) -> bytes:
    """A value as JSON bytes.

    Raises:
        TypeError: for a type that has no wire form.
    """
    return orjson.dumps(value, default=_encode_other, option=_OPTIONS)


def decode(text: str | bytes) -> Any:
    """JSON as Python values.

    Raises:
        ValueError: malformed JSON.
    """
    return orjson.loads(text)


class SocketJson:
    """The JSON module that python-socketio is given."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return encode(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        return decode(text)


def check(value: Any) -> None:
    """Refuses what no service should ever see: deep nesting, dangerous keys, numbers that JSON cannot carry back.

    Keys with a leading `$` or a `.` pass here: they are operators and paths in queries, and `check_data` refuses them in
    data.

    Raises:
        BadRequest: with the offending key or the bound that was passed.
    """
    if type(value) is dict or type(value) is list:
        _check(value, 1, [MAX_KEYS], data=False)
    else:
        _check_scalar(value)


def check_data(value: Any, operators: Collection[str] = ()) -> None:
    """`check` for data: besides, no key may hold a `.` or begin with `$`, at any depth.

    `operators` may stand at the top all the same. What is below them is the service's to judge, key by key.

    Raises:
        BadRequest: with the offending key or the bound that was passed.
    """
    if operators and type(value) is dict:
        for key in value.keys() & operators:
            check(value[key])
        value = {key: child for key, child in value.items() if key not in operators}
    if type(value) is dict or type(value) is list:
        _check(value, 1, [MAX_KEYS], data=True)
    else:
        _check_scalar(value)


def _check(value: Any, depth: int, budget: list[int], *, data: bool) -> None:
    if depth > MAX_DEPTH:
        raise BadRequest(f"Nested too deeply: at most {MAX_DEPTH} levels are allowed")
    budget[0] -= len(value)
    if budget[0] < 0:
        raise BadRequest(f"Too many values: at most {MAX_KEYS} keys and list items are allowed")
    if type(value) is dict:
        for key in value:
            _check_key(key, data=data)
        children = value.values()
    else:
        children = value
    for child in children:
        kind = type(child)
        if kind is dict or kind is list:
            _check(child, depth + 1, budget, data=data)
        elif kind is not str:
            _check_scalar(child)


def _check_key(key: Any, *, data: bool) -> None:
    if type(key) is not str:
        raise BadRequest("Keys must be strings")
    if len(key) > MAX_KEY:
        raise BadRequest(f"A key is too long: at most {MAX_KEY} characters are allowed")
    if key.isalnum():
        if key not in FORBIDDEN_KEYS:
            return
    elif data and ("." in key or key[0:1] == "$"):
        raise BadRequest(f"Invalid key '{key}': keys may not begin with '$' or contain '.'")
    if key in FORBIDDEN_KEYS or "\0" in key or (key.startswith("__") and key.endswith("__")):
        raise BadRequest(f"Invalid key {key!r}")


def _check_scalar(value: Any) -> None:
    kind = type(value)
    if kind is float:
        if not math.isfinite(value):
            raise BadRequest("Numbers must be finite")
    elif kind is int and not -(2**63) <= value < 2**63:
        raise BadRequest("Integers must fit into 64 bits")
    elif kind is bytes:
        raise BadRequest("Binary values are not supported")


def _encode_other(value: Any) -> Any:
    if isinstance(value, (ObjectId, Decimal128)):
        return str(value)
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Kept):
        return value.outside
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    for plain in _PLAIN:
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"{type(value).__name__} has no wire form")
