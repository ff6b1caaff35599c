from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shoal.router.control.schema import schema, schema_text

FILE = Path(__file__).parents[3] / "docs" / "router-config.schema.json"


def test_the_one_in_the_docs_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), (
        "run: shoal route --print-schema > docs/router-config.schema.json"
    )


def test_it_tells_what_is_allowed_and_what_it_means() -> None:
    port = schema()["$defs"]["ListenConfig"]["properties"]["port"]
    assert (port["minimum"], port["maximum"], port["default"]) == (0, 65_535, 8080)
    assert port["description"] == "0: any free port."


def test_an_editor_that_knows_it_finds_the_mistakes_that_we_find() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(msgspec.json.decode(schema_text()))
    validator.check_schema(validator.schema)
    assert validator.is_valid({"listen": {"port": 1}, "hedge": {"after_s": 1}})
    for wrong in ({"listen": {"port": -1}}, {"hedge": {}}, {"lsten": {}}, {"retry": {"x": 1}}):
        assert not validator.is_valid(wrong)
