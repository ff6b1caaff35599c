"""`shoal bench` and `shoal fake-worker` as a shell runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shoal.cli.bench_test import parse_duration
from shoal.errors import ConfigError
from tests.benchmarks.conftest import SHOAL, fake_worker
from tests.cli.conftest import RunHere


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with fake_worker("--ttft", "0.01", "--itl", "0.002") as address:
        yield address


def bench(*options: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    argv = [SHOAL, "bench", *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)


def test_a_run_leaves_what_scripts_rely_on(url: str, tmp_path: Path) -> None:
    result, report = tmp_path / "run.json", tmp_path / "run.html"
    done = bench(
        "run", "--url", url, "--workload", "synthetic", "--input-len", "16", "--output-len", "4",
        "--rate", "10", "--duration", "1", "--json", str(result), "--html", str(report),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "TTFT" in done.stdout
    found = json.loads(result.read_bytes())
    for measure in ("ttft_s", "itl_s"):
        assert {"p50", "p90", "p99", "count"} <= found[measure].keys()
        assert found[measure]["count"] > 0
    assert found["schema"] == "shoal.bench.run/1"
    assert found["environment"]["command"].endswith(str(report))
    assert report.read_text().startswith("<!DOCTYPE html>")

    both = tmp_path / "both.html"
    shown = bench("report", str(result), str(result), "--html", str(both))
    assert shown.returncode == 0, shown.stderr
    assert "Side by side" in both.read_text()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--rate", "1", "--workload", "dream"], 2, "there are: synthetic"),
        (["--rate", "1", "--model", "gpt-9"], 1, "it has: fake"),
        (["--rate", "1", "--concurrency", "2"], 2, "one of --rate"),
        ([], 2, "say how much load"),
        (["--rate", "0"], 2, "above 0"),
        (["--concurrency", "0"], 2, "--concurrency"),
        (["--rate", "1", "--slo", "fast"], 2, "ttft:200ms"),
        (["--sweep"], 2, "--slo"),
        (["--rate", "1", "--json", "/does/not/exist/run.json"], 1, "no folder"),
        (["--rate", "1", "--json", "/tmp"], 1, "it is a folder"),
        (["--rate", "1", "--json", "/tmp/x", "--html", "/tmp/x"], 1, "the same file"),
        (["--sweep", "--slo", "ttft:1s", "--repeats", "2"], 2, "every rate once"),
        (["--rate", "1", "--pid", "99999999"], 2, "--pid"),
        (["--rate", "1", "--input-len", "many"], 2, "lognormal"),
        (["--rate", "1", "--extra-body", "[]"], 2, "--extra-body"),
        (["--rate", "1", "--num-turns", "3"], 2, "no use for num-turns"),
        (["--rate", "1", "--duration", "soon"], 2, "5m"),
        (["--trace", "/does/not/exist.csv"], 2, "exist.csv"),
        (["--rate", "1", "--api-key", "schlüssel"], 2, "--api-key"),
        (["--rate", "1", "--url", "localhost:8000"], 2, "not an http"),
    ],
)
def test_bad_use_is_one_clear_line(
    url: str, run_here: RunHere, options: list[str], status: int, message: str
) -> None:
    done = run_here("bench", "run", "--url", url, *options)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there(run_here: RunHere) -> None:
    done = run_here("bench", "run", "--url", "http://127.0.0.1:9", "--rate", "1")
    assert done.returncode == 1
    assert "cannot reach http://127.0.0.1:9" in done.stderr


def test_nothing_but_failures_is_a_failure(tmp_path: Path) -> None:
    with fake_worker("--fault", "error") as broken:
        done = bench(
            "run", "--url", broken, "--concurrency", "2", "--num-requests", "4", "--warmup", "0",
            "--json", str(tmp_path / "run.json"),
        )  # fmt: skip
    assert done.returncode == 1
    assert "none of 4 requests succeeded (http_500: 4)" in done.stderr
    assert json.loads((tmp_path / "run.json").read_bytes())["errors"] == {"http_500": 4}


@pytest.mark.parametrize("inherited", [signal.default_int_handler, signal.SIG_IGN])
def test_ctrl_c_writes_what_was_measured(url: str, tmp_path: Path, inherited: Any) -> None:
    """Also when a shell script started it with `&`, which makes it ignore the signal."""
    result = tmp_path / "run.json"
    argv = [SHOAL, "bench", "run", "--url", url, "--rate", "20", "--duration", "5m",
            "--json", str(result)]  # fmt: skip
    before = answered(url)
    with subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, inherited),
    ) as process:
        deadline = time.monotonic() + 60
        while answered(url) < before + 10:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    found = json.loads(result.read_bytes())
    assert found["interrupted"] is True
    assert found["num_succeeded"] >= 5
    assert found["errors"] == {}


def test_a_run_too_short_for_a_request(url: str, run_here: RunHere) -> None:
    done = run_here("bench", "run", "--url", url, "--rate", "0.01", "--duration", "0.1")
    assert done.returncode == 1
    assert "no request came due" in done.stderr


def test_messages_of_a_file_are_sent_as_chat(url: str, tmp_path: Path) -> None:
    prompts, result = tmp_path / "prompts.jsonl", tmp_path / "run.json"
    prompts.write_text('{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}\n')
    done = bench("run", "--url", url, "--prompts", str(prompts), "--concurrency", "1",
                 "--json", str(result))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(result.read_bytes())["config"]["form"]["endpoint"] == "chat"


def answered(url: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("vllm:request_success_total") and 'reason="length"' in line
    )


def test_two_servers_side_by_side(url: str, tmp_path: Path) -> None:
    result = tmp_path / "pairs.json"
    done = bench(
        "compare", "--a", url, "--b", f"{url}/v1", "--pairs", "2", "--concurrency", "2",
        "--num-requests", "4", "--output-len", "4", "--json", str(result),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_bytes())
    assert found["schema"] == "shoal.bench.compare/1"
    assert len(found["ratios"]["ttft_p50_s"]["pairs"]) == 2


def test_a_file_that_is_no_result(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    done = bench("report", str(other))
    assert done.returncode == 2
    assert "other.json" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fault", "tantrum"], "wrong-length"),
        (["--fault", "cut:2"], "probability"),
        (["--ttft", "-1"], "ttft"),
        (["--kv-events-endpoint", "nowhere"], "KV events"),
    ],
)
def test_fake_workers_that_cannot_be(run_here: RunHere, options: list[str], message: str) -> None:
    done = run_here("fake-worker", "--port", "0", *options)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("1.5s", 1.5), ("500ms", 0.5), ("5m", 300.0), ("1h", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3s", "5 years", "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="30s"):
        parse_duration(text)
