from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.record.log import DecisionLog
from shoal.cli import app
from tests.autoscaler.record.life import SPEC, Life

TIGHT = """\
apiVersion: autoscaling.shoal.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: a}
spec: {model: m, variants: [{maxReplicas: 1}]}
"""


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.jsonl"
    await Life(DecisionLog(path, ScalingPolicy(model="m", spec=SPEC))).run(60)
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["autoscale", "replay", *map(str, arguments)])
    return result.exit_code, result.stdout


def test_the_same_code_differs_in_nothing(log: Path) -> None:
    assert run(log) == (0, "60 decisions: none differs\n")
    assert run(log, "--json") == (
        0, '{"decisions":60,"differences":{},"skipped":0,"note":""}\n',
    )  # fmt: skip
    status, said = run(log, "--all")
    assert (status, said.count("\n")) == (0, 61)


def test_another_policy_is_told_decision_by_decision(log: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(TIGHT)
    status, said = run(log, "--policy", policy)
    assert status == 1
    assert ", now 1  replicas\n" in said
    assert "  + default: max_replicas:" in said
    status, said = run(log, "--policy", policy, "--json")
    lines = [msgspec.json.decode(line) for line in said.splitlines()]
    assert lines[-1]["differences"]["replicas"] == sum(
        line["recorded"]["desired"] != line["decided"]["desired"] for line in lines[:-1]
    )


def test_a_file_without_decisions_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("nothing\n")
    result = CliRunner().invoke(app, ["autoscale", "replay", str(file)])
    assert "no decision in it" in str(result.exception)
