"""JSON schema of a policy document, for editors, people and the custom resource definition."""

from __future__ import annotations

from typing import Any

from shoal.settings import schema as settings_schema

from . import documents
from .documents import PolicyDocument


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12."""
    return settings_schema.documented_schema(
        PolicyDocument, documents, title="Scaling policy of shoal autoscale"
    )


def schema_text() -> str:
    """As `shoal autoscale schema` prints it and docs/scaling-policy.schema.json has it."""
    return settings_schema.schema_text(schema())
