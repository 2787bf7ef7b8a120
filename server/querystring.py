"""Query strings in the syntax of `qs`: `a[$gt]=1`, `$sort[n]=-1`, `$in[]=1&$in[]=2`, `$or[0][x]=1`; `+` is a space."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_plus

from hooks.errors import BadRequest

MAX_PARAMETERS = 1000
MAX_DEPTH = 32
MAX_LENGTH = 16_384

_Node = dict[str, Any]
"""Texts and further nodes by key; lists are nodes whose keys are indices."""
_APPENDED = 10**9
_IGNORED = frozenset({"__proto__", "constructor", "prototype"})


def parse(text: str, longest: int = MAX_LENGTH) -> dict[str, Any]:
    """The query as nested objects and lists; every value is a string. `longest` is in characters.

    A key that is given several times is a list; indices only order a list, however large they are.

    Raises:
        BadRequest: too long, too deep, too many parameters, or not UTF-8.
    """
    if len(text) > longest:
        raise BadRequest(f"The query string is too long: at most {longest} characters are allowed")
    parameters = [part for part in text.split("&") if part]
    if len(parameters) > MAX_PARAMETERS:
        raise BadRequest(f"Too many query parameters: at most {MAX_PARAMETERS} are allowed")
    root: _Node = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        path = _path(_decode(name))
        if path[0] and not _IGNORED.intersection(path):
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


def _put(node: _Node, path: list[str], value: str) -> None:
    for part in path[:-1]:
        key = part or _next_key(node)
        below = node.setdefault(key, {})
        if isinstance(below, str):
            below = node[key] = {_next_key({}): below}
        node = below
    key = path[-1] or _next_key(node)
    before = node.get(key)
    if before is None:
        node[key] = value
    elif isinstance(before, str):
        both: _Node = {_next_key({}): before}
        both[_next_key(both)] = value
        node[key] = both
    else:
        before[_next_key(before)] = value


def _next_key(node: _Node) -> str:
    """The key of a value that is appended: behind all indices that a client could mean."""
    return str(_APPENDED + len(node))


def _fold(node: _Node | str) -> Any:
    """Objects whose keys are all indices become lists, in the order of the indices."""
    if isinstance(node, str):
        return node
    if all(key.isascii() and key.isdecimal() for key in node):
        return [_fold(node[key]) for key in sorted(node, key=int)]
    if any(key.isdecimal() and int(key[:20]) >= _APPENDED for key in node):
        raise BadRequest("The query uses one name both for values and for an object")
    return {key: _fold(child) for key, child in node.items()}
