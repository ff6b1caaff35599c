"""JSON schema of a policy document, for editors, people and the custom resource definition."""

from __future__ import annotations

from typing import Any

import msgspec

from shoal.settings.meanings import meanings

from . import documents
from .documents import PolicyDocument


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12."""
    found = msgspec.json.schema(PolicyDocument)
    texts = meanings(documents)
    for name, definition in found["$defs"].items():
        fields = msgspec.structs.fields(getattr(documents, name))
        for field in fields:
            if meaning := texts.get(name, {}).get(field.name):
                definition["properties"][field.encode_name]["description"] = meaning
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scaling policy of shoal autoscale",
        **found,
    }


def schema_text() -> str:
    """As `shoal autoscale schema` prints it and docs/scaling-policy.schema.json has it."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"
