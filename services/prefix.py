"""A prefix as an anchored regular expression, and back: no other expression of a client is ever matched."""

from __future__ import annotations

import re


def pattern_of(prefix: str) -> str:
    """The expression for texts that begin with the prefix: all ASCII but letters and digits is escaped."""
    return "^" + "".join(c if c.isalnum() or not c.isascii() else "\\" + c for c in prefix)


def prefix_of(pattern: str) -> str:
    """The prefix that an expression of `pattern_of` stands for.

    Raises:
        ValueError: any other expression.
    """
    prefix = re.sub(r"\\(.)", r"\1", pattern[1:], flags=re.DOTALL)
    if pattern != pattern_of(prefix):
        raise ValueError("only prefixes are matched")
    return prefix
