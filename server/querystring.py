"""Query strings in the syntax of `qs`: `a[$gt]=1`, `$sort[n]=-1`, `$in[]=1&$in[]=2`, `$or[0][x]=1`; `+` is a space."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_plus

from hooks.errors import BadRequest

MAX_PARAMETERS = 1000
MAX_DEPTH = 32
MAX_LENGTH = 16_384

_IGNORED = frozenset({"__proto__", "constructor", "prototype"})


def parse(text: str) -> dict[str, Any]:
    """The query as nested objects and lists; every value is a string.

    A key that is given several times is a list; indices only order a list, however large they are.

    Raises:
        BadRequest: too long, too deep, too many parameters, or not UTF-8.
    """
    if len(text) > MAX_LENGTH:
        raise BadRequest(f"The query string is too long: at most {MAX_LENGTH} characters are allowed")
    parameters = [part for part in text.split("&") if part]
    if len(parameters) > MAX_PARAMETERS:
        raise BadRequest(f"Too many query parameters: at most {MAX_PARAMETERS} are allowed")
    root: dict[str, Any] = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        path = _path(_decode(name))
        if path and not _IGNORED.intersection(path):
            _put(root, path, _decode(value))
    return {key: _fold(value) for key, value in root.items()}


def _decode(text: str) -> str:
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError as error:
        raise BadRequest("The query string is not UTF-8") from error


def _path(name: str) -> list[str]:
    """`a[b][0]` as `["a", "b", "0"]`; what is not balanced is one literal key."""
    head, bracket, rest = name.partition("[")
    if not bracket:
        return [name]
    if not rest.endswith("]"):
        return [name]
    parts = rest[:-1].split("][")
    path = [head, *parts] if head else parts
    if len(path) > MAX_DEPTH:
        raise BadRequest(f"The query is nested too deeply: at most {MAX_DEPTH} levels are allowed")
    return path


class _Values(list[Any]):
    """Values of one key that was given several times, or with `[]`."""


def _put(node: dict[str, Any], path: list[str], value: str) -> None:
    for here, below in zip(path, path[1:], strict=False):
        if below == "" and len(path) == 2:
            break
        child = node.get(here)
        if not isinstance(child, dict):
            child = {} if child is None else {"": child}
            node[here] = child
        node = child
        path = path[1:]
    key = path[0]
    listed = len(path) > 1
    before = node.get(key)
    if before is None:
        node[key] = _Values([value]) if listed else value
    elif isinstance(before, _Values):
        before.append(value)
    elif isinstance(before, dict):
        before.setdefault("", _Values()).append(value)
    else:
        node[key] = _Values([before, value])


def _fold(value: Any) -> Any:
    """Objects whose keys are all indices become lists, in the order of the indices."""
    if isinstance(value, _Values):
        return list(value)
    if not isinstance(value, dict):
        return value
    folded = {key: _fold(child) for key, child in value.items()}
    if folded and all(key.isdecimal() and key.isascii() for key in folded if key != ""):
        extra = folded.pop("", [])
        ordered = [folded[key] for key in sorted(folded, key=int)]
        return ordered + (extra if isinstance(extra, list) else [extra])
    return folded
