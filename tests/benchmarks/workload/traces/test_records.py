"""Rows of CSV and JSONL files, and where errors say that they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.benchmarks.workload.traces.records import Record, columns_of, read_records
from shoal.errors import ConfigError


def record_of(**values: object) -> Record:
    return Record("trace.csv", 7, values)


def read(folder: Path, content: str | bytes) -> list[Record]:
    path = folder / "trace"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_records(path))


@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_csv_rows_have_the_lines_of_the_file(tmp_path: Path, begin: str) -> None:
    records = read(tmp_path, begin + 'a,b\r\n1,"x,\ny"\r\n\r\n2,z\r\n')
    assert [(r.line, dict(r.values)) for r in records] == [
        (3, {"a": "1", "b": "x,\ny"}),
        (5, {"a": "2", "b": "z"}),
    ]


@pytest.mark.parametrize("begin", ["", "\n", "\ufeff"])
def test_jsonl_is_known_by_its_first_character(tmp_path: Path, begin: str) -> None:
    records = read(tmp_path, begin + '{"a": 1}\n\n{"a": [2]}')
    assert [dict(r.values) for r in records] == [{"a": 1}, {"a": [2]}]
    first = 2 if begin == "\n" else 1
    assert [r.line for r in records] == [first, first + 2]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a": 1}\n{"a": }\n', "line 2 is not a JSON object"),
        ('{"a": 1}\n[1]\n', "line 2 is not a JSON object"),
        ('{"a": NaN}\n', "line 1 is not a JSON object"),
        ('[{"a": 1}]', "one JSON array; put one object on each line"),
        ("a,b\n1,2\n1,2,3\n", "line 3 has more values than the header has columns"),
        ("a,b\n1," + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
        (b"a,b\n1,\xff\n", "cannot read .*: 'utf-8' codec"),
    ],
)
def test_what_is_neither_is_refused(tmp_path: Path, content: str | bytes, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(tmp_path, content)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.csv: .*No such file"):
        list(read_records(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match=r"cannot read .*: .*Is a directory"):
        list(read_records(tmp_path))


def test_columns_are_those_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("time, prompt tokens\n1,2\n")
    assert columns_of(path) == ("time", "prompt tokens")


@pytest.mark.parametrize("content", ["", "\n\n", "a,b\n"])
def test_a_file_without_rows_has_no_columns(tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"t\.csv has no rows"):
        columns_of(path)


@pytest.mark.parametrize("value", ["12", " 12 ", 12, 12.0, "12.0", "1.2e1"])
def test_whole_numbers_in_any_spelling(value: object) -> None:
    assert record_of(n=value).count("n") == 12
    assert type(record_of(n=value).count("n")) is int


@pytest.mark.parametrize("value", ["", "x", "-1", -1, "nan", "inf", True, [1], {}, 10**400, "0x10"])
def test_what_is_no_number_is_refused(value: object) -> None:
    problem = r"trace\.csv, line 7, column n: .* is not a number of at least 0"
    with pytest.raises(ConfigError, match=problem):
        record_of(n=value).number("n")


def test_part_of_a_token_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"column n: '1\.5' is not a whole number"):
        record_of(n="1.5").count("n")


def test_a_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="line 7: there is no column n; it has: a, b"):
        record_of(a=1, b=2).number("n")


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match="column n: None stands where a value should be"):
        record_of(n=None).count("n")


@pytest.mark.parametrize("value", [" ", 5, None])
def test_text_must_be_text(value: object) -> None:
    with pytest.raises(ConfigError, match="line 7, column n"):
        record_of(n=value).text("n")
