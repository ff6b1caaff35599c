"""The benchmark of prefix indexes and decisions, small."""

from __future__ import annotations

import json
import sys

import pytest

from shoal.benchmarks.prefix_index import __main__ as benchmark


def test_the_last_line_is_json_with_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prefix_index", "--blocks", "20000", "--endpoints", "12"])
    monkeypatch.setattr(benchmark, "TURNS", 40)
    benchmark.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("cost")
    figures = json.loads(lines[-1])
    assert 10_000 < figures["blocks"] <= 20_000
    for name in ("lookup_us_p50", "decide_us_4", "decide_us_1000"):
        assert figures[name] > 0
    # Of the process's memory: nothing, where earlier tests have left enough of it.
    assert figures["bytes_per_block"] >= 0
