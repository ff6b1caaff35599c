"""What msgspec found wrong with a configuration, as a sentence with the way to mend it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

import msgspec
from msgspec import inspect

_PLACE = re.compile(r"^(?P<what>.*) - at `(?:key in )?\$(?P<path>[^`]*)`$", re.DOTALL)
_STEP = re.compile(r"\.(?P<field>[^.\[]+)|\[(?P<index>[^\]]*)\]")
_UNKNOWN = re.compile(r"unknown field `(?P<name>.*)`")
_ENUM = re.compile(r"^Invalid enum value (?P<value>.*)$", re.DOTALL)


def explain(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> str:
    """ "routing.policy: 'x' is not one of cost, round_robin, ..."; `kind` is what was decoded."""
    found = _PLACE.match(str(error))
    what, path = (found["what"], found["path"]) if found else (str(error), "")
    place = path.lstrip(".") or "the configuration"
    unknown, enum = _UNKNOWN.search(what), _ENUM.match(what)
    if unknown is not None:
        fields = [field.encode_name for found in _structs(kind, path) for field in found.fields]
        close = difflib.get_close_matches(unknown["name"], fields, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{place} has no setting {unknown['name']!r}{hint}. It has: {', '.join(fields)}"
    if enum is not None:
        allowed = [str(value) for found in _types(kind, path) for value in _literals(found)]
        return f"{place}: {enum['value']} is not one of {', '.join(allowed)}"
    ranges = [text for found in _types(kind, path) if (text := _range(found))]
    allowed_range = f" (allowed: {', or '.join(ranges)})" if ranges else ""
    return f"{place}: {what[:1].lower()}{what[1:]}{allowed_range}"


def _structs(root: type[msgspec.Struct], path: str) -> Iterator[inspect.StructType]:
    for kind in _types(root, path):
        if isinstance(kind, inspect.StructType):
            yield kind


def _types(root: type[msgspec.Struct], path: str) -> list[inspect.Type]:
    """The types a value at `path` below a `root` may have."""
    types = [_bare(inspect.type_info(root))]
    for step in _STEP.finditer(path):
        types = [below for kind in types for below in _below(kind, step["field"])]
    return [kind for found in types for kind in _alternatives(found)]


def _below(kind: inspect.Type, field: str | None) -> Iterator[inspect.Type]:
    for alternative in _alternatives(kind):
        if field is not None and isinstance(alternative, inspect.StructType):
            yield from (f.type for f in alternative.fields if f.encode_name == field)
        elif field is None and isinstance(alternative, inspect.VarTupleType):
            yield alternative.item_type
        elif field is None and isinstance(alternative, inspect.DictType):
            yield alternative.value_type


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    kind = _bare(kind)
    return [_bare(each) for each in kind.types] if isinstance(kind, inspect.UnionType) else [kind]


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _literals(kind: inspect.Type) -> tuple[object, ...]:
    return kind.values if isinstance(kind, inspect.LiteralType) else ()


def _range(kind: inspect.Type) -> str:
    if not isinstance(kind, inspect.IntType | inspect.FloatType):
        return ""
    bounds = (
        ("above", kind.gt), ("at least", kind.ge), ("below", kind.lt), ("at most", kind.le),
    )  # fmt: skip
    return ", ".join(f"{word} {bound:.10g}" for word, bound in bounds if bound is not None)
