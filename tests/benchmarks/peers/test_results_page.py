"""The page, from nothing but the JSON."""

from __future__ import annotations

import msgspec
import pytest

from shoal.benchmarks.peers.peers_result import Line, PeersResult, decode, encode
from shoal.benchmarks.peers.results_page import results_page
from tests.benchmarks.peers.lines import error_line, result_of, speed_line


def page_of(result: PeersResult) -> str:
    """By way of the file, as `make bench-peers` does it."""
    return results_page(decode(encode(result), source="test"))


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the table below a heading, the head of the table left out."""
    section = page.split(f"{heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_the_ratio_table_names_the_best_peer_and_the_number_of_repeats() -> None:
    page = page_of(
        result_of([
            speed_line("shoal", 0, "c1", 30.0), speed_line("shoal", 1, "c1", 42.0),
            speed_line("vllm", 0, "c1", 20.0), speed_line("vllm", 1, "c1", 22.0),
            speed_line("llama.cpp", 0, "c1", 40.0), speed_line("llama.cpp", 1, "c1", 40.0),
        ])
    )  # fmt: skip
    assert rows(page, "## Output tokens per second beside the best peer") == [
        ["title of c1", "shoal", "36.0", "llama.cpp", "40.0", "**0.90**", "0.75 to 1.05", "2"]
    ]


def test_without_a_peer_there_is_no_ratio() -> None:
    page = page_of(result_of([speed_line("shoal", 0, "c1", 30.0)]))
    (row,) = rows(page, "## Output tokens per second beside the best peer")
    assert row == ["title of c1", "shoal", "30.0", "–", "–", "–", "–", "0"]


def test_a_load_shows_medians_in_milliseconds_and_the_range() -> None:
    lines = [speed_line("vllm", repeat, "c8", 10.0 + repeat) for repeat in range(3)]
    assert rows(page_of(result_of(lines)), "## title of c8 (`c8`)") == [
        ["vllm", "11.0", "10.0 to 12.0", "22.0", "250.0 / 500.0", "20.0 / 40.0", "3"]
    ]


def test_a_contestant_in_process_has_no_latencies() -> None:
    line = Line(server="openvino", repeat=0, case="offline", figures={"output_tokens_per_s": 9.0})
    (row,) = rows(page_of(result_of([line])), "## title of offline (`offline`)")
    assert row == ["openvino", "9.0", "9.0 to 9.0", "–", "–", "–", "1"]


def test_disturbed_lines_are_counted_and_listed() -> None:
    disturbed = msgspec.structs.replace(speed_line("vllm", 1, "c1", 9.0), foreign_cpu=0.37)
    page = page_of(result_of([speed_line("vllm", 0, "c1", 10.0), disturbed]))
    (row,) = rows(page, "## title of c1 (`c1`)")
    assert row[-1] == "2 (1)"
    assert "During 1 of 2 lines other processes took more than 10% of the machine" in page
    assert ["vllm", "2", "c1", "37%"] in rows(page, "## Disturbed and failed lines")


def test_a_quiet_run_says_so() -> None:
    page = page_of(result_of([speed_line("shoal", 0, "c1", 10.0)]))
    assert "Other processes never took more than 10% of the machine." in page
    assert "Nothing failed." in page


def test_a_failure_is_one_row_even_when_its_message_has_lines_and_bars() -> None:
    error = "ended with exit code 1:\nTraceback | something\n" + "x" * 500
    page = page_of(result_of([error_line("vllm", 0, "start", error)]))
    (row,) = rows(page, "## Disturbed and failed lines")
    assert row[:3] == ["vllm", "1", "start"]
    assert len(row[3]) < 320
    assert "Nothing failed." not in page


def test_the_long_prompt_has_a_table_of_its_own() -> None:
    figures = {"long_ttft_s": 2.0, "calm_itl_p50_s": 0.03, "calm_itl_p99_s": 0.04,
               "during_itl_p50_s": 0.05, "during_itl_p99_s": 1.5}  # fmt: skip
    line = Line(server="shoal", repeat=0, case="longprompt", figures=figures)
    table = rows(page_of(result_of([line])), "## title of longprompt (`longprompt`)")
    assert table == [["shoal", "2,000.0", "30.0 / 40.0", "50.0 / 1,500.0", "1"]]


def test_start_and_memory_stand_together() -> None:
    lines = [
        Line(server="vllm", repeat=0, case="start", figures={"start_s": 31.5}, foreign_cpu=0.5),
        Line(server="vllm", repeat=0, case="memory",
             figures={"after_load_bytes": float(1 << 30), "peak_bytes": float(3 << 30)}),
    ]  # fmt: skip
    assert rows(page_of(result_of(lines)), "## Start and memory") == [
        ["vllm", "31.5", "1,024", "3,072", "1 (1)"]
    ]


@pytest.mark.parametrize(
    ("field", "text"), [("quick", "quick run"), ("interrupted", "Interrupted")]
)
def test_a_result_that_is_not_whole_says_so_at_the_top(field: str, text: str) -> None:
    result = result_of([speed_line("shoal", 0, "c1", 10.0)])
    assert text not in page_of(result)
    assert text in page_of(msgspec.structs.replace(result, **{field: True})).split("##", 1)[0]


def test_machine_and_settings_are_on_the_page() -> None:
    page = page_of(result_of([speed_line("vllm", 0, "c1", 10.0)]))
    assert "- Machine: A processor, 2 cores" in page
    assert rows(page, "## How they ran") == [["vllm", "vllm 1.0", "defaults"]]
