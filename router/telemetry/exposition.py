"""Prometheus text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import accumulate

from .families import FAMILIES, Family
from .snapshot import Snapshot, Value

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(snapshot: Snapshot, only: Collection[str] = ()) -> str:
    """All families the router has, those without a value too, so that none seems misspelt.

    Families that are not known here are left out. With `only`: none but those.
    """
    lines: list[str] = []
    for family in FAMILIES.values():
        if only and family.name not in only:
            continue
        lines.append(f"# HELP {family.name} {_escape_help(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        children = snapshot.get(family.name, {})
        for labels in sorted(children):
            lines.extend(_samples(family, labels, children[labels]))
    lines.append("")
    return "\n".join(lines)


def _samples(family: Family, labels: tuple[str, ...], value: Value) -> Iterator[str]:
    pairs = ",".join(
        f'{name}="{_escape_label(text)}"' for name, text in zip(family.labels, labels, strict=True)
    )
    suffix = f"{{{pairs}}}" if pairs else ""
    if not isinstance(value, list):
        yield f"{family.name}{suffix} {value!r}"
        return
    *counts, total = value
    separator = "," if pairs else ""
    edges = [*map(repr, family.edges), "+Inf"]
    cumulative = list(accumulate(counts))
    for edge, count in zip(edges, cumulative, strict=True):
        yield f'{family.name}_bucket{{{pairs}{separator}le="{edge}"}} {count!r}'
    yield f"{family.name}_sum{suffix} {total!r}"
    yield f"{family.name}_count{suffix} {cumulative[-1]!r}"


def _escape_label(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
