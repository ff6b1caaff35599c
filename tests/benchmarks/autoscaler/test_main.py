from __future__ import annotations

import json
from pathlib import Path

import pytest

from shoal.benchmarks.autoscaler.__main__ import main
from shoal.benchmarks.sim import compare
from shoal.benchmarks.sim.load import poisson
from shoal.benchmarks.sim.loads import SYNTHETIC
from shoal.benchmarks.sim.policies.hpa import Hpa


def test_a_load_and_a_trace_become_tables_a_section_and_one_line_of_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "OTHERS", {"HPA": (Hpa, (8,))})
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setitem(
        SYNTHETIC, "sine", lambda seed: poisson(lambda t: 2.0, duration_s=90, max_rate=2, seed=seed)
    )
    trace = tmp_path / "short.csv"
    rows = [f"{i / 2},300,40" for i in range(200)]
    trace.write_text("\n".join(["start_s,num_input_tokens,num_output_tokens", *rows]))
    page, figures = tmp_path / "RESULTS.md", tmp_path / "autoscaler.json"
    code = main(
        [
            "--load",
            "sine",
            "--trace",
            f"{trace}::table",
            "--json",
            str(figures),
            "--results",
            str(page),
        ]
    )
    assert code == 0
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(last["loads"]) == {"sine", "short"}
    assert json.loads(figures.read_text()) == last
    assert "<!-- begin: make bench-autoscaler -->" in page.read_text()
    assert "## short: 200 requests" in page.read_text()


def test_a_bad_trace_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    assert main(["--trace", str(bad)]) == 2
    assert "is no known trace" in capsys.readouterr().err
