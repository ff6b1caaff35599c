"""The state of a scaler as plain data and back, exactly: what a log begins with.

Only objects of classes in `core` are taken, and only such are made again: nothing in a file can
name other code. Floats survive to the bit. A state whose fields are not today's is refused.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
from collections import deque
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Any

from shoal.errors import ShoalError

from .. import core
from ..core.spec import ScalingSpec
from ..core.state import ScalerState

_TAG = "~"
"""Key of what JSON has no form for: {"~": kind, ...}."""


class SnapshotUnfit(ShoalError):
    """A state that today's code cannot go on with."""


def to_plain(state: ScalerState) -> Any:
    """Of lists, dicts with string keys, strings and finite numbers alone."""
    return _Encoder().encode(state)


def from_plain(data: Any, spec: ScalingSpec) -> ScalerState:
    """The state again. Raises SnapshotUnfit when it is of another version of the code."""
    try:
        state = _decode(data)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise SnapshotUnfit(f"not a state: {type(error).__name__}: {error}") from None
    if not isinstance(state, ScalerState):
        raise SnapshotUnfit(f"not a state, but {type(state).__name__}")
    today = {type(found): set(_attributes(found)) for found in _objects(ScalerState.of(spec))}
    for found in _objects(state):
        expected = today.get(type(found), _field_names(found))
        if expected is not None and set(_attributes(found)) != expected:
            raise SnapshotUnfit(f"{type(found).__name__} has other fields today")
    return state


class _Encoder:
    def __init__(self) -> None:
        self._seen: set[int] = set()

    def encode(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return {_TAG: "enum", "class": _name(type(value)), "value": value.value}
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if isfinite(value) else {_TAG: "float", "value": repr(value)}
        if not _is_frozen(value):
            # What two places share would be two things after a load.
            assert id(value) not in self._seen, f"{type(value).__name__} is shared"
            self._seen.add(id(value))
        if isinstance(value, list):
            return [self.encode(each) for each in value]
        if isinstance(value, tuple):
            return {_TAG: "tuple", "items": [self.encode(each) for each in value]}
        if isinstance(value, deque):
            items = [self.encode(each) for each in value]
            return {_TAG: "deque", "items": items, "maxlen": value.maxlen}
        if isinstance(value, dict):
            pairs = [[self.encode(key), self.encode(each)] for key, each in value.items()]
            return {_TAG: "dict", "items": pairs}
        attributes = {key: self.encode(each) for key, each in _attributes(value).items()}
        return {_TAG: "object", "class": _name(type(value)), "attributes": attributes}


def _decode(data: Any) -> Any:
    if isinstance(data, list):
        return [_decode(each) for each in data]
    if not isinstance(data, dict):
        return data
    match data[_TAG]:
        case "enum":
            return _classes()[data["class"]](data["value"])
        case "float":
            return float(data["value"])
        case "tuple":
            return tuple(map(_decode, data["items"]))
        case "deque":
            return deque(map(_decode, data["items"]), data["maxlen"])
        case "dict":
            return {_decode(key): _decode(value) for key, value in data["items"]}
        case "object":
            cls = _classes()[data["class"]]
            made = cls.__new__(cls)
            for key, value in data["attributes"].items():
                object.__setattr__(made, key, _decode(value))
            return made
    raise ValueError(f"no kind {data[_TAG]!r}")


@cache
def _classes() -> dict[str, Any]:
    """Every class that a module of the core defines, by module and name."""
    found = {}
    for module_info in pkgutil.iter_modules(core.__path__):
        module = importlib.import_module(f"{core.__name__}.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                found[_name(value)] = value
    return found


def _name(cls: type) -> str:
    prefix = f"{core.__name__}."
    if not cls.__module__.startswith(prefix):
        raise TypeError(f"{cls.__module__}.{cls.__qualname__} is no class of the core")
    return f"{cls.__module__.removeprefix(prefix)}.{cls.__qualname__}"


def _attributes(value: Any) -> dict[str, Any]:
    slots = [
        slot for cls in type(value).__mro__ for slot in _slots(cls) if not slot.startswith("__")
    ]
    found = {slot: getattr(value, slot) for slot in slots if hasattr(value, slot)}
    return found | dict(getattr(value, "__dict__", {}))


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_frozen(value: Any) -> bool:
    parameters = getattr(value, "__dataclass_params__", None)
    return isinstance(value, tuple) or (parameters is not None and parameters.frozen)


def _field_names(value: Any) -> set[str] | None:
    return {field.name for field in fields(value)} if is_dataclass(value) else None


def _objects(value: Any) -> Iterator[Any]:
    """All objects of the core below one."""
    if isinstance(value, enum.Enum) or value is None or isinstance(value, bool | int | str | float):
        return
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _objects(key)
            yield from _objects(each)
    elif isinstance(value, list | tuple | deque):
        for each in value:
            yield from _objects(each)
    else:
        yield value
        for each in _attributes(value).values():
            yield from _objects(each)
