"""Reads the declarative file. Every mistake in it is told at once, with its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from services.declaration.tenant import Declaration


class DeclarationError(Exception):
    """The file has mistakes; each line names the place and what is wrong there."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def parse(text: str) -> Declaration:
    """The declaration in a YAML text.

    Raises:
        DeclarationError: every mistake, each with its path such as `tenants[0].services.messages.paginate.max`.
    """
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:
        raise DeclarationError([f"not valid YAML: {error}"]) from error
    return check(content)


def check(content: object) -> Declaration:
    """The declaration in plain values.

    Raises:
        DeclarationError: every mistake with its path.
    """
    try:
        return Declaration.model_validate(content if content is not None else {})
    except ValidationError as error:
        raise DeclarationError([f"{_place(fault['loc'])}: {_sentence(fault)}" for fault in error.errors()]) from error


def read(file: Path) -> Declaration:
    """The declaration in a file.

    Raises:
        DeclarationError: the file cannot be read, or it has mistakes.
    """
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError([f"{file}: {getattr(error, 'strerror', None) or error}"]) from error


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that is written twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} must be text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' is written twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for part in location:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part != "[key]":
            place += f".{part}" if place else part
    return place or "the file"


def _sentence(fault: Mapping[str, Any]) -> str:
    if fault["loc"][-1:] == ("[key]",):
        return "is not a known key"
    if fault["type"] == "extra_forbidden":
        return "is not a known key"
    if fault["type"] == "missing":
        return "is missing"
    message: str = fault["msg"]
    message = message.removeprefix("Value error, ")
    given = fault["input"]
    return f"{message} (not {given!r})" if isinstance(given, (str, int, float, bool)) else message
