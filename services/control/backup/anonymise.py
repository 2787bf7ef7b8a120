"""Anonymising: what becomes of people's data in a copy of a tenant, by a file of rules.

users:
  username: name          # user-1f2e3d4c: the same name becomes the same one everywhere
  email: email            # 1f2e3d4c@anonymised.invalid
  phone: drop
  bio: {value: "about me"}
  password: drop          # nobody logs in to the copy with his password
messages:
  text: text              # of the same length, of no words
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from services.authentication.names import name_key
from services.declaration import DeclarationError
from services.store import Document
from services.users import COLLECTION as USERS
from services.users import KEY

KINDS = ("drop", "null", "name", "email", "text", "hash")
NAMES = ("username", "email")
"""Fields of users that can be their names."""
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")

Change = Callable[[str, Document], Document]
"""What becomes of a document of a collection."""


class Anonymiser:
    """Changes documents by rules. The same value becomes the same one in one run, and another in the next."""

    def __init__(self, rules: Mapping[str, Mapping[str, Any]]) -> None:
        self._rules = rules
        self._key = secrets.token_bytes(32)
        self.unmet = {(collection, path) for collection, fields in rules.items() for path in fields}
        """Rules whose field was in no document yet."""

    def __call__(self, collection: str, document: Document) -> Document:
        """The document, changed in place."""
        rules = self._rules.get(collection, {})
        named = _named(document) if collection == USERS else None
        for path, rule in rules.items():
            if self._change(document, path.split("."), rule):
                self.unmet.discard((collection, path))
        if collection == USERS and KEY in document and not rules.keys().isdisjoint(NAMES):
            self._keep_key(document, named)
        return document

    def _change(self, document: Any, path: list[str], rule: Any) -> bool:
        """Whether the field was there."""
        if isinstance(document, list):
            return sum(self._change(item, path, rule) for item in document) > 0
        if not isinstance(document, dict) or path[0] not in document:
            return False
        if len(path) > 1:
            return self._change(document[path[0]], path[1:], rule)
        if rule == "drop":
            del document[path[0]]
        else:
            document[path[0]] = self._value(document[path[0]], rule)
        return True

    def _value(self, value: Any, rule: Any) -> Any:
        if isinstance(rule, Mapping):
            return rule["value"]
        if rule == "null" or value is None:
            return None
        if isinstance(value, list):
            return [self._value(item, rule) for item in value]
        text = str(value)
        digest = hmac.new(self._key, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
        forms = {
            "email": f"{digest[:16]}@anonymised.invalid",
            "name": f"user-{digest[:16]}",
            "text": (digest * (len(text) // len(digest) + 1))[: len(text)],
        }
        return forms.get(rule, digest)

    @staticmethod
    def _keep_key(document: Document, named: str | None) -> None:
        """A user whose name has changed is found by the new one, in the field in which the app has names."""
        name = None if named is None else document.get(named)
        if isinstance(name, str):
            document[KEY] = name_key(name)
        else:
            del document[KEY]


def _named(user: Document) -> str | None:
    """The field of a user whose normal form is the key; None is neither."""
    names = ((field, user.get(field)) for field in NAMES)
    return next((field for field, name in names if isinstance(name, str) and name_key(name) == user.get(KEY)), None)


def check_rules(rules: object) -> Mapping[str, Mapping[str, Any]]:
    """The rules of a file.

    Raises:
        DeclarationError: its mistakes, each with its place.
    """
    if not isinstance(rules, Mapping):
        raise DeclarationError(["must be an object of collections"])
    mistakes: list[str] = []
    for collection, fields in rules.items():
        if not isinstance(fields, Mapping):
            mistakes.append(f"{collection}: must be an object of fields")
            continue
        for name, rule in fields.items():
            known = rule in KINDS if isinstance(rule, str) else isinstance(rule, Mapping) and {*rule} == {"value"}
            if not isinstance(name, str) or not _FIELD.fullmatch(name) or name.split(".")[0] in ("_id", "app_id"):
                mistakes.append(f"{collection}.{name}: is no field that can be changed")
            elif not known:
                mistakes.append(f"{collection}.{name}: must be {', '.join(KINDS)} or {{value: ...}}")
    if mistakes:
        raise DeclarationError(mistakes)
    return rules
