"""Request bodies for /openapi.json: msgspec decodes them, so FastAPI has to be told."""

from __future__ import annotations

from typing import Any

import msgspec


def json_body(body_type: type[msgspec.Struct]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes `body_type` as JSON."""
    (schema,), components = msgspec.json.schema_components(
        [body_type], ref_template="#/components/schemas/{name}"
    )
    name = schema["$ref"].rsplit("/", 1)[1]
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _inlined(components[name], components)}},
        }
    }


def _inlined(schema: Any, components: dict[str, Any]) -> Any:
    """A schema without references: the struct types have no place among FastAPI's components."""
    if isinstance(schema, list):
        return [_inlined(item, components) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(components[schema["$ref"].rsplit("/", 1)[1]], components)
    return {key: _inlined(value, components) for key, value in schema.items()}
