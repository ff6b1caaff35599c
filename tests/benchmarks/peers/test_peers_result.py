"""The JSON file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.benchmarks.peers.peers_result import SCHEMA, decode, encode, write_whole
from shoal.errors import ConfigError
from tests.benchmarks.peers.lines import error_line, result_of, speed_line


def test_a_result_survives_the_file() -> None:
    result = result_of([
        speed_line("shoal", 0, "c1", 10.0), error_line("vllm", 0, "start", "no such file"),
    ])  # fmt: skip
    assert decode(encode(result), source="it") == result


def test_the_schema_is_named_with_its_version() -> None:
    assert f'"schema": "{SCHEMA}"'.encode() in encode(result_of([]))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"schema": 3}'])
def test_something_else_is_refused_by_its_name(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^old\.json is not a result of the peers benchmark"):
        decode(content, source="old.json")


def test_another_schema_is_refused() -> None:
    content = encode(result_of([])).replace(SCHEMA.encode(), b"shoal.bench.peers/99")
    with pytest.raises(ConfigError, match=r"'shoal\.bench\.peers/99' is not shoal\.bench\.peers/1"):
        decode(content, source="new.json")


def test_a_file_is_replaced_whole_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "results" / "peers.json"
    write_whole(b"first", path)
    write_whole(b"second", path)
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]
