"""JSON schemas of settings files, for editors and people: types, ranges, defaults, meanings.

Types and ranges come from the settings themselves, meanings from the text below each field.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec

from .meanings import meanings


def documented_schema(
    kind: type[msgspec.Struct], *modules: ModuleType, title: str
) -> dict[str, Any]:
    """JSON Schema 2020-12 of a `kind` whose structs are defined in these modules."""
    found = msgspec.json.schema(kind)
    for module in modules:
        for name, texts in meanings(module).items():
            if name not in found["$defs"]:
                continue
            for field in msgspec.structs.fields(getattr(module, name)):
                if meaning := texts.get(field.name):
                    found["$defs"][name]["properties"][field.encode_name]["description"] = meaning
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **found}


def schema_text(schema: dict[str, Any]) -> str:
    """As it is printed, and as the docs have it."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"
