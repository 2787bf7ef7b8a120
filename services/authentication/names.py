"""User names: what is a name, and the key under which names that look alike are one."""

from __future__ import annotations

import unicodedata

from hooks.errors import BadRequest

LONGEST = 128

_UNTYPABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: control characters, halves of surrogate pairs, line and paragraph separators."""


def check_name(name: object, field: str) -> str:
    """A name for a user as it is; `field` is what the tenant calls it, for the sentence.

    Raises:
        BadRequest: it is no text of 1 to 128 visible characters.
    """
    if not isinstance(name, str):
        raise BadRequest(f"The {field} must be a text")
    if len(name) > LONGEST:
        raise BadRequest(f"The {field} may have at most {LONGEST} characters")
    if any(unicodedata.category(char) in _UNTYPABLE for char in name):
        raise BadRequest(f"The {field} contains control characters")
    if not name_key(name):
        raise BadRequest(f"The {field} must not be empty")
    return name


def name_key(name: str) -> str:
    """The normal form of a name: compatibility forms (NFKC), case and invisible characters make no difference.

    It is a fixed point: the key of a key is the key.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", name).casefold())
    folded = unicodedata.normalize("NFKC", folded.casefold())
    visible = "".join(char for char in folded if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", visible).strip()
