"""JSON schema of the configuration file, for editors and people: types, ranges, defaults, meanings.

Types and ranges come from the settings themselves, meanings from the text below each field.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shoal.settings.meanings import meanings

from ..settings import access, config, discovery, listen, protection, routing
from ..settings.config import RouterConfig


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12."""
    found = msgspec.json.schema(RouterConfig)
    for name, of_fields in meanings(access, config, discovery, listen, protection, routing).items():
        if name not in found["$defs"]:
            continue
        for field, meaning in of_fields.items():
            found["$defs"][name]["properties"][field]["description"] = meaning
    for section in found["$defs"]["RouterConfig"]["properties"].values():
        if "$ref" in section:
            del section["default"]  # each setting below it has its own
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of shoal route",
        **found,
    }


def schema_text() -> str:
    """As `shoal route --print-schema` prints it and docs/router-config.schema.json has it."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"
