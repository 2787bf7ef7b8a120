"""HTML that cannot be broken into: whatever is not made here is escaped."""

from __future__ import annotations

from html import escape


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(element: str, /, *children: str | None, **attributes: str | None) -> Html:
    """An element. Children that are not `Html` are text; None is left out. `class_` is `class`, `data_x` is `data-x`."""
    opening = element + "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in _EMPTY:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(*children)}</{element}>")


def join(*children: str | None) -> Html:
    """The children one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children if child is not None))


_EMPTY = frozenset({"br", "input", "link", "meta"})
