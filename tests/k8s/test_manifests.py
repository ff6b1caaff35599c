"""All of `deploy/autoscaler` is taken by a real API server, and nothing of it is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .cluster.api import PLURALS, Api, Json, at
from .cluster.holds import holds

FOLDER = Path(__file__).parents[2] / "deploy" / "autoscaler"
OF_THE_CLUSTER = {"ClusterRole", "ClusterRoleBinding", "Namespace"}


def documents() -> Iterator[Any]:
    for path in sorted(FOLDER.rglob("*.yaml")):
        if path.name == "crd.yaml":
            continue  # all tests here run with it
        for number, document in enumerate(yaml.safe_load_all(path.read_text(encoding="utf-8"))):
            yield pytest.param(document, id=f"{path.relative_to(FOLDER)}-{number}")


@pytest.mark.parametrize("document", list(documents()))
async def test_it_is_taken(api: Api, namespace: str, document: Json) -> None:
    kind = document["kind"]
    where = None
    if kind in OF_THE_CLUSTER:
        # Others may have made one of this name in earnest.
        name = f"{document['metadata']['name']}-{namespace}"
        document = {**document, "metadata": {**document["metadata"], "name": name}}
    else:
        where = namespace
        document = {**document, "metadata": {**document["metadata"], "namespace": namespace}}
    created = await api.create(at(PLURALS[kind], where), document, dryRun="All")
    assert holds(created, document)
