"""`shoal autoscale keda` as a process, and what it refuses before it is one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from typer.testing import CliRunner

from shoal.autoscaler.keda import wire
from shoal.cli import app

POLICY = """\
apiVersion: autoscaling.shoal.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: chat}
spec: {model: m}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(POLICY)
    return file


def test_it_serves_until_it_is_told_to_end(policy: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-c", "from shoal.cli import main; main()", "autoscale", "keda",
        "--file", str(policy), "--router-url", "http://127.0.0.1:1", "--listen", "127.0.0.1:0",
        "--admin-port", "0", "--decision-log-dir", str(tmp_path),
    ]  # fmt: skip
    log = (tmp_path / "log").open("wb")
    with log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            ports = re.findall(r"\d+", said)
            with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
                call = channel.unary_unary(
                    "/externalscaler.ExternalScaler/GetMetricSpec",
                    request_serializer=wire.ScaledObjectRef.SerializeToString,
                    response_deserializer=wire.GetMetricSpecResponse.FromString,
                )
                ref = wire.ScaledObjectRef(
                    name="so", namespace="llm", scalerMetadata={"policy": "chat"}
                )
                answer = call(ref, timeout=20)
            assert answer.metricSpecs[0].metricName == "shoal-replicas"
            models = httpx.get(
                f"http://127.0.0.1:{ports[1]}/autoscaler/models", timeout=20, trust_env=False
            ).json()["models"]
            assert [model["policy"] for model in models] == ["llm/so@default/chat"]
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert (tmp_path / "llm.so@default.chat.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "spec.router and --router-url are missing"),
        (["--router-url", "http://r", "--listen", "0.0.0.0:1"], "say that this is meant"),
        (["--router-url", "http://r", "--tls-cert", "x"], "--tls-key go together"),
        (["--router-url", "http://r", "--admin-key-file", "/none"], "cannot be read"),
    ],
)
def test_settings_that_are_wrong(policy: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["autoscale", "keda", "--file", str(policy), *arguments])
    assert message in str(result.exception)
