"""Prometheus text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from .families import FAMILIES, Family
from .snapshot import Snapshot, Value

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(snapshot: Snapshot) -> str:
    """All families the router has, those without a value included: a name that exists is zero or
    absent, never misspelt. Families of the snapshot that are not known here are left out.
    """
    lines: list[str] = []
    for family in FAMILIES.values():
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
    if not isinstance(value, list):
        yield (
            f"{family.name}{{{pairs}}} {_number(value)}"
            if pairs
            else (f"{family.name} {_number(value)}")
        )
        return
    *counts, total = value
    separator = "," if pairs else ""
    edges = [*map(_number, family.edges), "+Inf"]
    cumulative = list(accumulate(counts))
    for edge, count in zip(edges, cumulative, strict=True):
        yield f'{family.name}_bucket{{{pairs}{separator}le="{edge}"}} {_number(count)}'
    suffix = f"{{{pairs}}}" if pairs else ""
    yield f"{family.name}_sum{suffix} {_number(total)}"
    yield f"{family.name}_count{suffix} {_number(cumulative[-1])}"


def _number(value: float) -> str:
    return repr(float(value)) if value != int(value) else str(int(value))


def _escape_label(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
