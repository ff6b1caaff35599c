"""Custom resource definitions: ours in the least form, and released ones where they can be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .api import Api, ApiError, Json, at
from .eventually import eventually

MANIFESTS = Path(__file__).parents[1] / "manifests"
_DEFINITIONS = at("customresourcedefinitions")
ESTABLISHED_WITHIN_S = 60.0


def read_definition(path: Path) -> Json:
    # The released ones have megabytes; libyaml's loader reads them in a tenth of the time.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition: Json = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    return definition


async def define(api: Api, definition: Json) -> None:
    """Create it, or put it in the place of one with the same name; served when this returns."""
    path = at("customresourcedefinitions", name=definition["metadata"]["name"])
    try:
        await api.create(_DEFINITIONS, definition)
    except ApiError as error:
        if error.code != 409:
            raise
        old = await api.get(path)
        metadata = {**definition["metadata"], "resourceVersion": old["metadata"]["resourceVersion"]}
        await api.replace(path, {**definition, "metadata": metadata})
    spec = definition["spec"]
    version = next(each["name"] for each in spec["versions"] if each["served"])
    group = f"/apis/{spec['group']}/{version}"
    await eventually(
        lambda: _is_served(api, path, group), f"{group} to be served", ESTABLISHED_WITHIN_S
    )


async def _is_served(api: Api, path: str, group: str) -> bool:
    conditions = (await api.get(path)).get("status", {}).get("conditions") or []
    if not any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
        return False
    try:
        await api.get(group)
    except ApiError:
        return False
    return True
