from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from shoal.benchmarks.sim import compare as module
from shoal.benchmarks.sim.policies.hpa import Hpa
from shoal.cli import app
from shoal.errors import ConfigError


def test_a_trace_is_replayed_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OTHERS", {"HPA": (Hpa, (8,))})
    trace, report = tmp_path / "service.csv", tmp_path / "report.html"
    rows = [f"2023-11-16 18:{i // 60:02}:{i % 60:02}.0,800,40" for i in range(300)]
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    result = CliRunner().invoke(
        app, ["autoscale", "simulate", "--trace", str(trace), "--html", str(report), "--json"]
    )
    assert result.exit_code == 0, result.output
    assert '"benchmark": "autoscale"' in result.output
    assert "service: 300 requests" in report.read_text(encoding="utf-8")


def test_an_objective_that_no_replica_meets_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "service.csv"
    rows = [f"2023-11-16 18:{i // 60:02}:{i % 60:02}.0,{800 + 9 * i},40" for i in range(300)]
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    options = ["autoscale", "simulate", "--trace", str(trace), "--ttft-target-s", "0.5"]
    result = CliRunner().invoke(app, options)
    assert isinstance(result.exception, ConfigError)
    assert "% of the requests have their first token within 0.5 s" in str(result.exception)


def test_an_unknown_load_is_refused_with_what_there_is() -> None:
    result = CliRunner().invoke(app, ["autoscale", "simulate", "--load", "square"])
    assert isinstance(result.exception, ConfigError)
    assert "sine, steps, flash" in str(result.exception)
