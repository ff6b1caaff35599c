"""`shoal up`: what its options mean, what can be wrong, and what it says; without a model."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.autoscaler.core.decision import Decision, Reason, ReasonKind
from shoal.autoscaler.core.observation import Observation
from shoal.autoscaler.local.lifecycle import Lifecycle, WorkerState
from shoal.autoscaler.local.supervisor import Worker
from shoal.autoscaler.record.decision_record import DecisionRecord
from shoal.cli.up_lines import Lines, print_panel, worker_line
from shoal.cli.up_policy import base_policy, policy_for
from shoal.cli.worker_order import WorkerOrder
from shoal.cli.worker_orders import launcher, places_for, serve_options
from shoal.errors import ConfigError
from tests.cli.conftest import RunHere

S = WorkerState
POLICY = """
apiVersion: autoscaling.shoal.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: mine}
spec:
  model: of-the-file
  slo: {ttftSeconds: 3}
  pace: {scaleDownDelaySeconds: 7}
  variants: [{name: cpu, costPerHour: 0.25}]
"""
UNSAID: dict[str, Any] = dict.fromkeys(
    ("interval_s", "ttft_s", "tpot_s", "scale_to_zero_after_s", "scale_down_delay_s")
)


def test_options_behind_the_dashes_are_those_of_serve() -> None:
    config, settings = serve_options("m", ["--max-model-len", "512", "--quantization", "int8"])
    assert (config.model, config.max_model_len, config.quantization) == ("m", 512, "int8")
    assert settings.api_keys == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "1"], "--port is no option of a worker here: put it before the --"),
        (["--api-key", "k"], "--api-key is no option of a worker here"),
        (["--nope"], "those of shoal serve: No such option: --nope"),
        (["--threads", "x"], "Invalid value for '--threads'"),
        (["--max-num-batched-tokens", "8"], r"max_num_batched_tokens \(8\)"),
    ],
)
def test_wrong_options_behind_the_dashes(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        serve_options("m", options)


def test_the_keys_of_clients_are_the_routers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_API_KEY", "of-clients")
    config, settings = serve_options("m", [])
    places = places_for(config, max_replicas=1, gpus_per_worker=None)
    launch = launcher(config, settings, places, key="of-the-router", log_level="error")(0)
    order = msgspec.json.decode(launch.order, type=WorkerOrder)
    assert order.settings.api_keys == ("of-the-router",)
    assert (order.settings.host, order.settings.port) == ("127.0.0.1", 0)
    assert "of-the-router" not in repr(launch)  # which may be logged


def test_cores_are_shared_fairly(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(maximum: int | None, *options: str) -> int | None:
        config, _ = serve_options("m", options)
        return places_for(config, max_replicas=maximum, gpus_per_worker=None).num_threads

    monkeypatch.setattr(
        "shoal.cli.worker_orders.cpu_share", lambda: type("Share", (), {"num_threads": 16})
    )
    assert [threads(n) for n in (1, 3, 16, 40, None)] == [16, 5, 1, 1, 8]
    assert threads(3, "--threads", "7") == 7


def test_each_worker_has_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    config, settings = serve_options("m", ["--device", "cuda"])
    places = places_for(config, max_replicas=None, gpus_per_worker=2)
    launch = launcher(config, settings, places, key="k", log_level="error")
    assert [launch(slot).environment["CUDA_VISIBLE_DEVICES"] for slot in (0, 1)] == ["0,1", "2,3"]
    with pytest.raises(ConfigError, match="at most 4"):
        places_for(config, max_replicas=5, gpus_per_worker=None)
    on_cpu, _ = serve_options("m", [])
    with pytest.raises(ConfigError, match="--device cuda"):
        places_for(on_cpu, max_replicas=1, gpus_per_worker=2)


def test_options_win_over_the_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    base = base_policy(file, device="cpu")
    bounds: dict[str, Any] = {
        "model": "m", "min_replicas": 1, "max_replicas": 3, "gpus_per_worker": 0,
    }  # fmt: skip
    policy = policy_for(base, **bounds, **{**UNSAID, "ttft_s": 0.5, "interval_s": 1.5})
    [variant] = policy.spec.variants
    assert (policy.model, policy.interval_s) == ("m", 1.5)
    assert (policy.spec.slo.ttft_s, policy.spec.pace.scale_down_delay_s) == (0.5, 7)
    assert (variant.min_replicas, variant.max_replicas, variant.cost_per_hour) == (1, 3, 0.25)
    assert policy_for(base, **bounds, **UNSAID).spec.slo.ttft_s == 3
    with pytest.raises(ConfigError, match=r"slo\.ttft_s"):
        policy_for(base, **bounds, **{**UNSAID, "ttft_s": -1})
    file.write_text(POLICY + "---" + POLICY.replace("mine", "yours"))
    with pytest.raises(ConfigError, match="has 2 policies"):
        base_policy(file, device="cpu")


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["./nowhere"], 1, "'./nowhere' is neither a folder nor a .gguf"),
        (["m", "--min", "3", "--max", "2"], 2, "--min is 3, above --max, which is 2"),
        (["m", "--policy", "/no/such"], 2, "/no/such"),
        (["m", "--", "--port", "1"], 2, "put it before the --"),
        (["m", "--host", "0.0.0.0"], 2, "could use every model without a key"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    run_here: RunHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: list[str], status: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    [model, *others] = options
    done = run_here("up", "--port", "0", "--admin-port", "0", model, *others)
    assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    assert done.stdout == ""


def test_a_busy_port_is_named(run_here: RunHere) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        done = run_here("up", "m", "--port", port)
        assert done.returncode == 2
        assert f"127.0.0.1:{port}: another process uses that port" in done.stderr
        done = run_here("up", "m", "--port", "0", "--admin-port", port)
        assert done.returncode == 2
        assert port in done.stderr


def worker(state: WorkerState, *, deadline: float | None = None) -> Worker:
    return Worker(0, Lifecycle(state=state, since=10.0, deadline=deadline), start_up_s=1.5)


def test_changes_are_lines() -> None:
    told: list[str] = []
    lines = Lines(echo=told.append, wall_time=lambda: 0.0)
    lines.changed(worker(S.STARTING), S.STOPPED)  # the decision has said so
    lines.changed(worker(S.READY), S.STARTING)
    failed = worker(S.BACKING_OFF, deadline=12.0)
    failed.why = "exit status 1: no memory"
    lines.changed(failed, S.READY)
    failed.life, failed.num_restarts = Lifecycle(state=S.STARTING, since=12.0, deadline=None), 1
    lines.changed(failed, S.BACKING_OFF)
    lines.changed(worker(S.DRAINING), S.READY)  # likewise
    lines.changed(worker(S.READY), S.DRAINING)
    lines.changed(worker(S.STOPPING), S.DRAINING)
    lines.changed(worker(S.STOPPED), S.STOPPING)
    assert [line[10:] for line in told] == [
        "worker-0 ready after 1.50 s",
        "worker-0 FAILED, next start in 2 s: exit status 1: no memory",
        "worker-0 starts again",
        "worker-0 is taken back",
        "worker-0 stopped",
    ]


def record(before: int, desired: int, **fields: Any) -> DecisionRecord:
    decision = Decision(
        desired={"local": desired}, valid=True, explain={},
        reasons=(
            Reason(ReasonKind.DEMAND, "local", "load 2.40, need 2.9 replicas"),
            Reason(ReasonKind.NO_METRICS, "local", "holding what there is"),
            Reason(ReasonKind.DEMAND, "other", "not ours"),
        ),
    )  # fmt: skip
    observation = Observation(interval_s=1.0, arrivals=0, input_tokens=0, output_tokens=0)
    told = {"applied": True, "failures": {}, "observation": observation, **fields}
    return DecisionRecord(
        time=0.0, now=0.0, model="m", mode="auto", spec_hash="",
        decision=decision, before={"local": before}, **told,
    )  # fmt: skip


def test_decisions_are_lines_when_they_change_something() -> None:
    told: list[str] = []
    lines = Lines(echo=told.append, wall_time=lambda: 0.0)
    lines.record(record(2, 2))
    lines.record(record(2, 3))
    lines.record(record(2, 3, applied=False))
    lines.record(record(2, 3, applied=False, failures={"local": "no place"}))
    because = "demand: load 2.40, need 2.9 replicas"
    assert [line[10:] for line in told] == [
        f"2 -> 3  {because}",
        f"2 -> 3 advised  {because}",
        f"2 -> 3 failed (no place)  {because}",
    ]


def test_of_a_worker_what_matters_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    info, warning = "2026 [info     ] engine.threads", "2026 [warning  ] slow"
    for level in ("warning", "info"):
        show = worker_line(level)
        for line in (info, warning, "Traceback"):
            show(worker(S.READY), line)
    assert capsys.readouterr().err.splitlines() == [
        f"[worker-0] {line}" for line in (warning, "Traceback", info, warning, "Traceback")
    ]


def test_who_waits_is_the_reason_of_a_first_worker() -> None:
    told: list[str] = []
    lines = Lines(echo=told.append, wall_time=lambda: 0.0)
    waiting = Observation(interval_s=1.0, arrivals=3, held=3)
    lines.record(record(0, 1, observation=waiting))
    lines.record(record(1, 2, observation=waiting))
    assert [line[10:30] for line in told] == ["0 -> 1  3 waiting; d", "1 -> 2  demand: load"]


def test_the_panel_has_all_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    policy = policy_for(
        base_policy(None, device="cpu"), model="tiny", min_replicas=0, max_replicas=3,
        gpus_per_worker=0, **UNSAID,
    )  # fmt: skip
    print_panel(
        url="http://127.0.0.1:8123", admin_url="http://127.0.0.1:8124", policy=policy,
        each="1 CPU thread each", needs_key=True,
    )  # fmt: skip
    text = capsys.readouterr().out
    for part in (
        "http://127.0.0.1:8123/v1", "http://127.0.0.1:8124/", "0 to 3, 1 CPU thread each",
        "shoal status --port 8123", "curl http://127.0.0.1:8123/v1/chat/completions",
        "$SHOAL_API_KEY",
    ):  # fmt: skip
        assert part in text, part
