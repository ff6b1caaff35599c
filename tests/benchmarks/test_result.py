from __future__ import annotations

from pathlib import Path

import pytest

from shoal.benchmarks.result import decode, encode, write
from shoal.errors import ConfigError
from tests.benchmarks.report.test_html import make_comparison, make_run, make_sweep


@pytest.mark.parametrize("make", [make_run, make_sweep, make_comparison])
def test_what_is_written_is_read(make: object) -> None:
    result = make()  # type: ignore[operator]
    assert decode(encode(result), source="x") == result


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"schema": 3}'])
def test_what_is_no_result(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"a\.json"):
        decode(content, source="a.json")


def test_a_schema_of_the_future() -> None:
    with pytest.raises(ConfigError, match=r"shoal\.bench\.run/9"):
        decode(b'{"schema": "shoal.bench.run/9"}', source="a.json")


def test_fields_of_the_future_are_skipped() -> None:
    run = make_run()
    content = encode(run).replace(b'"name":', b'"colour": "red", "name":', 1)
    assert decode(content, source="x") == run


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write(make_run(), path)
    assert decode(path.read_bytes(), source="x") == make_run()
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
