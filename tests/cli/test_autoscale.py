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


def test_an_unknown_load_is_refused_with_what_there_is() -> None:
    result = CliRunner().invoke(app, ["autoscale", "simulate", "--load", "square"])
    assert isinstance(result.exception, ConfigError)
    assert "sine, steps, flash" in str(result.exception)
