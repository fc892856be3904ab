"""HTML and SVG as text, in which nothing is markup that was not made here: whatever else is given is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """The text as it is to be read; markup stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(_printable(text)))


def joined(parts: Iterable[str], between: str = "") -> Markup:
    return Markup(escaped(between).join(escaped(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: object) -> Markup:
    """An element. `class_` is the attribute class, an underscore a hyphen; an attribute that is None is left out, and
    numbers have two decimals at most."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_printable(_value(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = joined(children)
    return Markup(f"<{name}{written}>{inner}</{name}>" if inner or name not in VOID else f"<{name}{written}/>")


VOID = frozenset({"circle", "line", "meta", "path", "polyline", "rect"})
"""Elements that are closed at once where they hold nothing."""


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _printable(text: str) -> str:
    """Without the control characters and lone surrogates that no document may hold."""
    return "".join(
        c if c in "\n\t" or (c >= " " and not _is_surrogate(c)) else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _is_surrogate(character: str) -> bool:
    return 0xD800 <= ord(character) <= 0xDFFF
