"""Azure, Mooncake, BurstGPT and plain tables: what is read, and what is refused where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoal.benchmarks.workload.traces.azure import read_azure
from shoal.benchmarks.workload.traces.burstgpt import read_burstgpt
from shoal.benchmarks.workload.traces.mooncake import read_mooncake
from shoal.benchmarks.workload.traces.row import RecordedRows, TraceRow
from shoal.benchmarks.workload.traces.table import INPUT, OUTPUT, START_S, read_table
from shoal.errors import ConfigError

Reader = Callable[[Path], RecordedRows]

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
TABLE = "start_s,num_input_tokens,num_output_tokens"


def csv_file(folder: Path, *lines: str) -> Path:
    path = folder / "trace.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def jsonl_file(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mooncake_row(timestamp: float, length: int, ids: list[int]) -> dict[str, Any]:
    return {"timestamp": timestamp, "input_length": length, "output_length": 5, "hash_ids": ids}


def test_azure_times_have_seven_decimals(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        AZURE,
        "2023-11-16 18:15:46.6805900,374,44",
        "2023-11-16 18:15:46.6805989,396,109",
        "2023-11-17 00:00:00.0000000,1,1",
    )
    rows = list(read_azure(path))
    assert [(r.num_input_tokens, r.num_output_tokens) for r in rows] == [
        (374, 44),
        (396, 109),
        (1, 1),
    ]
    assert rows[0].start_s == 0
    assert rows[1].start_s == pytest.approx(8e-6, abs=1e-6)
    assert rows[2].start_s == pytest.approx(5 * 3600 + 44 * 60 + 13.31941, abs=1e-5)
    assert all(row.block_ids is None for row in rows)


def test_azure_times_may_have_an_offset(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path, AZURE, "2024-05-10 00:00:00.009930+00:00,1,1", "2024-05-10 02:00:01+01:00,1,1"
    )
    assert read_azure(path).row(1).start_s == pytest.approx(3600.99007)


def test_mooncake_times_are_milliseconds_and_blocks_are_kept(tmp_path: Path) -> None:
    path = jsonl_file(tmp_path, mooncake_row(2500, 512, [4]), mooncake_row(3100, 513, [4, 7]))
    rows = read_mooncake(path)
    assert rows.num_rows == 2
    assert rows.row(0) == TraceRow(0.0, 512, 5, (4,))
    assert rows.row(1) == TraceRow(pytest.approx(0.6), 513, 5, (4, 7))


def test_burstgpt_requests_that_failed_are_left_out(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        BURSTGPT,
        "5,ChatGPT,472,18,490,Conversation log",
        "45,ChatGPT,1087,0,1087,Conversation log",
        "118.5,GPT-4,417,276,693,API log",
    )
    rows = read_burstgpt(path)
    assert list(rows) == [TraceRow(0.0, 472, 18), TraceRow(113.5, 417, 276)]
    assert rows.num_failed == 1


def test_a_trace_of_nothing_but_failures_is_refused(tmp_path: Path) -> None:
    path = csv_file(tmp_path, BURSTGPT, "5,m,1,0,1,l", "6,m,1,0,1,l")
    with pytest.raises(ConfigError, match="has no requests but 2 that failed"):
        read_burstgpt(path)


@pytest.mark.parametrize("start", START_S)
def test_a_table_names_its_time(tmp_path: Path, start: str) -> None:
    path = csv_file(tmp_path, f"other,{start},input_len,output_len", "x,10,3,4", "y,12.5,5,6")
    assert list(read_table(path)) == [TraceRow(0.0, 3, 4), TraceRow(2.5, 5, 6)]


def test_a_table_names_its_lengths(tmp_path: Path) -> None:
    for num_input in INPUT:
        for num_output in OUTPUT:
            path = jsonl_file(tmp_path, {"time": 1, num_input: 3, num_output: 4})
            assert list(read_table(path)) == [TraceRow(0.0, 3, 4)]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (
            "when,input_len,output_len",
            "no column for the start in seconds; it may be called start_s",
        ),
        ("time,inputs,output_len", "no column for the prompt's tokens; .* has: time, inputs"),
        ("time,input_len,outputs", "no column for the answer's tokens"),
    ],
)
def test_a_table_without_a_column_is_refused(tmp_path: Path, header: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_table(csv_file(tmp_path, header, "1,2,3"))


@pytest.mark.parametrize(
    ("read", "header", "first"),
    [
        (read_azure, AZURE, "2023-11-16 18:15:46,{},{}"),
        (read_burstgpt, BURSTGPT, "5,ChatGPT,{},{},0,API log"),
        (read_table, TABLE, "5,{},{}"),
    ],
)
@pytest.mark.parametrize(("lengths", "value"), [(("x", 3), "'x'"), ((4, -2), "'-2'")])
def test_bad_lengths_are_refused_by_line_and_column(
    tmp_path: Path, read: Reader, header: str, first: str, lengths: tuple[Any, Any], value: str
) -> None:
    path = csv_file(tmp_path, header, first.format(1, 1), first.format(*lengths))
    with pytest.raises(ConfigError, match=rf"trace\.csv, line 3, column .*: {value} is not a"):
        read(path)


@pytest.mark.parametrize(
    ("read", "header"), [(read_azure, AZURE), (read_burstgpt, BURSTGPT), (read_table, TABLE)]
)
def test_a_trace_without_requests_is_refused(tmp_path: Path, read: Reader, header: str) -> None:
    with pytest.raises(ConfigError, match=r"trace\.csv has no (requests|rows)"):
        read(csv_file(tmp_path, header))


@pytest.mark.parametrize(
    ("read", "header", "early", "late"),
    [
        (read_azure, AZURE, "2023-11-16 18:15:46,1,1", "2023-11-16 18:15:48,1,1"),
        (read_burstgpt, BURSTGPT, "5,m,1,1,2,l", "7,m,1,1,2,l"),
        (read_table, TABLE, "5,1,1", "7,1,1"),
    ],
)
def test_times_that_go_back_are_refused(
    tmp_path: Path, read: Reader, header: str, early: str, late: str
) -> None:
    assert read(csv_file(tmp_path, header, early, early, late)).num_rows == 3
    problem = r"trace\.csv, line 4: this request starts 2 s before the one above it; sort the file"
    with pytest.raises(ConfigError, match=problem):
        read(csv_file(tmp_path, header, early, late, early))


def test_an_azure_time_that_is_none_is_refused(tmp_path: Path) -> None:
    path = csv_file(tmp_path, AZURE, "yesterday,1,1")
    with pytest.raises(ConfigError, match="line 2, column TIMESTAMP: 'yesterday' is not a date"):
        read_azure(path)


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([1], "has 1 entries; 513 tokens are 2 blocks of 512"),
        ([1, 2, 3], "has 3 entries; 513 tokens are 2 blocks of 512"),
        ([1, "2"], "is not a list of whole numbers"),
        (None, "None is not a list of whole numbers"),
    ],
)
def test_blocks_that_do_not_fit_the_length_are_refused(
    tmp_path: Path, ids: Any, problem: str
) -> None:
    path = jsonl_file(tmp_path, mooncake_row(0, 3, [0]), mooncake_row(0, 513, ids))
    with pytest.raises(ConfigError, match=rf"line 2, column hash_ids: .*{problem}"):
        read_mooncake(path)
