"""JSON schema of the configuration file, for editors and people: types, ranges, defaults, meanings.

Types and ranges come from the settings themselves, meanings from the text below each field.
"""

from __future__ import annotations

import ast
import inspect
from typing import Any

import msgspec

from ..settings import access, config, discovery, listen, protection, routing
from ..settings.config import RouterConfig


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12."""
    found = msgspec.json.schema(RouterConfig)
    for name, meanings in _meanings().items():
        if name not in found["$defs"]:
            continue
        for field, meaning in meanings.items():
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


def _meanings() -> dict[str, dict[str, str]]:
    """By struct and field: the string that follows the field in the source."""
    meanings: dict[str, dict[str, str]] = {}
    for module in (access, config, discovery, listen, protection, routing):
        for struct in ast.parse(inspect.getsource(module)).body:
            if not isinstance(struct, ast.ClassDef):
                continue
            for field, text in zip(struct.body, struct.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                ):
                    meaning = " ".join(str(text.value.value).split())
                    meanings.setdefault(struct.name, {})[field.target.id] = meaning
    return meanings
