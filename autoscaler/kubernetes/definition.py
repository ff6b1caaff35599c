"""The CustomResourceDefinition of ScalingPolicy, made from the types that read it.

`python -m shoal.autoscaler.kubernetes.definition > deploy/autoscaler/crd.yaml` writes it.
"""

from __future__ import annotations

import json
from typing import Any

from ..settings.documents import API_VERSION, KIND, PolicySpec
from ..settings.schema import schema

GROUP, VERSION = API_VERSION.split("/")
PLURAL = "scalingpolicies"
COLLECTION = f"/apis/{GROUP}/{VERSION}"

_COPIED = (
    "type", "description", "enum", "pattern", "minimum", "maximum", "minLength",
    "maxLength", "minItems", "maxItems", "required",
)  # fmt: skip
Schema = dict[str, Any]


def definition() -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND, "plural": PLURAL, "singular": "scalingpolicy",
                "shortNames": ["scp"], "categories": ["shoal"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }  # fmt: skip


def structural(found: Schema, definitions: dict[str, Schema]) -> Schema:
    """JSON Schema as Kubernetes takes it: no references, no alternatives, no unknown words.

    Unknown fields are the API server's business (it prunes or refuses them), so
    `additionalProperties: false` is left out. Defaults are told and not filled in: an object stays
    what its author applied, and follows when a default changes.
    """
    if "$ref" in found:
        target = definitions[found["$ref"].rpartition("/")[2]]
        siblings = {name: value for name, value in found.items() if name != "$ref"}
        return structural({**target, **siblings}, definitions)
    if "anyOf" in found:
        others = {name: value for name, value in found.items() if name != "anyOf"}
        [one] = [each for each in found["anyOf"] if each != {"type": "null"}]
        made = structural({**one, **others}, definitions)
        made["nullable"] = True
        return made
    made = {name: found[name] for name in _COPIED if found.get(name) not in (None, [])}
    if "enum" in made:
        made["type"] = "string"
    if isinstance(default := found.get("default"), bool | int | float | str):
        made["description"] = f"{made.get('description', '')} Default: {default}.".strip()
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in found:  # OpenAPI 3.0: a flag beside the bound
            made[bound], made[exclusive] = found[exclusive], True
    if "properties" in found:
        made["properties"] = {
            name: structural(each, definitions) for name, each in found["properties"].items()
        }
    if isinstance(values := found.get("additionalProperties"), dict):
        made["additionalProperties"] = structural(values, definitions)
    if "items" in found:
        made["items"] = structural(found["items"], definitions)
    return made


def _root() -> Schema:
    definitions: dict[str, Schema] = schema()["$defs"]
    spec = structural(definitions[PolicySpec.__name__], definitions)
    return {
        "type": "object",
        "description": "How the replicas that serve one model are scaled, and what for.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": _status(),
        },
    }


def _status() -> Schema:
    text, number = {"type": "string"}, {"type": "integer"}
    counts = ("desired", "current", "ready", "pending", "unschedulable", "draining")
    condition = {
        "type": text, "status": text, "reason": text, "message": text,
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "observedGeneration": {"type": "integer", "format": "int64"},
    }  # fmt: skip
    variant = {"name": text, **dict.fromkeys(counts, number)}
    return {
        "type": "object",
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "desired": {"type": "integer", "description": "Replicas of all variants."},
            "ready": number,
            "lastDecisionTime": {"type": "string", "format": "date-time"},
            "message": {"type": "string", "description": "Why it is as it is."},
            "variants": {
                "type": "array",
                "items": {"type": "object", "properties": variant, "required": ["name"]},
            },
            "conditions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": condition,
                    "required": ["type", "status"],
                },
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        },
    }


def _columns() -> list[dict[str, Any]]:
    ready = '.status.conditions[?(@.type=="Ready")]'
    return [
        {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if wide else {})}
        for name, kind, path, wide in (
            ("Model", "string", ".spec.model", False),
            ("Mode", "string", ".spec.mode", False),
            ("Desired", "integer", ".status.desired", False),
            ("Ready", "integer", ".status.ready", False),
            ("Scaling", "string", f"{ready}.status", False),
            ("Reason", "string", f"{ready}.reason", False),
            ("Decided", "date", ".status.lastDecisionTime", False),
            ("Age", "date", ".metadata.creationTimestamp", False),
            ("Message", "string", ".status.message", True),
        )
    ]


def text() -> str:
    """As YAML."""
    import yaml

    head = "# Made by: python -m shoal.autoscaler.kubernetes.definition\n"
    # Copied: what is there twice is written twice, for YAML's references are not for people.
    plain = json.loads(json.dumps(definition()))
    return head + yaml.safe_dump(plain, sort_keys=False, width=100, allow_unicode=True)


if __name__ == "__main__":
    print(text(), end="")
