"""HTML and SVG written so that escaping cannot be forgotten.

Every plain string that goes into an element or an attribute is escaped; only `Markup`, which
elements are made of, is passed through.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .untrusted import printable

LEAVES = {"br", "circle", "line", "link", "meta", "path", "rect"}
"""Elements without content: written `<br/>`, which HTML and XML both take."""


class Markup(str):
    """Text that is already markup."""

    __slots__ = ()


Child = str | int | None
Attribute = str | int | float | bool | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """`<name attributes>children</name>`.

    A child of None is left out, so is an attribute of None or False; True writes it without a
    value. In attribute names a trailing underscore is dropped (`class_`), others become hyphens.
    """
    head = name + "".join(
        _attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    if name in LEAVES:
        return Markup(f"<{head}/>")
    return Markup(f"<{head}>{join(*children)}</{name}>")


def join(*parts: Child) -> Markup:
    """Parts one after the other, plain strings escaped."""
    return Markup("".join(_text(part) for part in parts if part is not None))


def table_of(head: Sequence[str], rows: Sequence[Markup]) -> Markup:
    """A table that scrolls by itself where it is wider than the page; `rows` are `<tr>`s."""
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", *(element("th", name) for name in head))),
            element("tbody", *rows),
        ),
        class_="scroll",
    )


def raw(content: str) -> Markup:
    """A style sheet or a script of ours, which must stand as it is; never text from elsewhere."""
    return Markup(content)


def _text(part: str | int) -> str:
    return part if isinstance(part, Markup) else escape(printable(part), quote=False)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f' {key}=""'
    if isinstance(value, float):
        value = compact(value)
    # Long lists of labels are ours and longer than any untrusted text may be.
    return f' {key}="{escape(printable(value, max_chars=1_000_000), quote=True)}"'


def compact(value: float) -> str:
    """A coordinate with at most one decimal: a tenth of a pixel is more than a screen shows."""
    return f"{value:.1f}".removesuffix(".0").replace("-0", "0", value == 0 or abs(value) < 0.05)
