"""JSON schema of the configuration file, for editors and people."""

from __future__ import annotations

from typing import Any

from shoal.settings import schema as settings_schema

from ..settings import access, config, discovery, listen, protection, routing
from ..settings.config import RouterConfig


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12."""
    found = settings_schema.documented_schema(
        RouterConfig, access, config, discovery, listen, protection, routing,
        title="Configuration of shoal route",
    )  # fmt: skip
    for section in found["$defs"]["RouterConfig"]["properties"].values():
        if "$ref" in section:
            del section["default"]  # each setting below it has its own
    return found


def schema_text() -> str:
    """As `shoal route --print-schema` prints it and docs/router-config.schema.json has it."""
    return settings_schema.schema_text(schema())
