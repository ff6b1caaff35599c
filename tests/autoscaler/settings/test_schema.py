from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shoal.autoscaler.settings.schema import schema, schema_text

FILE = Path(__file__).parents[3] / "docs" / "scaling-policy.schema.json"


def test_the_one_in_the_docs_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), (
        "run: shoal autoscale schema > docs/scaling-policy.schema.json"
    )


def test_it_tells_what_is_allowed_and_what_it_means() -> None:
    step = schema()["$defs"]["PaceSettings"]["properties"]["maxUpStep"]
    assert (step["minimum"], step["default"]) == (1, 4)
    assert step["description"] == "So many more in one decision are always allowed."


def test_an_editor_that_knows_it_finds_the_mistakes_that_we_find() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(msgspec.json.decode(schema_text()))
    validator.check_schema(validator.schema)
    head = {
        "apiVersion": "autoscaling.shoal.dev/v1alpha1",
        "kind": "ScalingPolicy",
        "metadata": {"name": "a"},
    }
    assert validator.is_valid({**head, "spec": {"model": "m", "slo": {"ttftSeconds": 2}}})
    for wrong in ({}, {"model": ""}, {"model": "m", "x": 1}, {"model": "m", "mode": "off"}):
        assert not validator.is_valid({**head, "spec": wrong})
