"""One `LoadCase` on one server, by the load-test harness; its figures."""

from __future__ import annotations

from shoal.benchmarks.client.conversation import RequestForm
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.result import RunResult
from shoal.benchmarks.run import run_load
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.workload.spec import WorkloadSpec

from .running import PeerFailed
from .standard_set import LoadCase


def load_test(url: str, model: str, case: LoadCase, *, seed: int) -> LoadTest:
    """What the harness is asked for. One process: the server needs the cores."""
    return LoadTest(
        url=url,
        form=RequestForm(model=model),
        workload=WorkloadSpec(
            seed=seed,
            input_len=str(case.input_tokens),
            output_len=str(case.output_tokens),
            prefix_len=str(case.prefix_tokens) if case.prefix_tokens else None,
        ),
        load=Load(concurrency=case.concurrency, num_sessions=case.num_requests),
        num_processes=1,
        warmup=0,
    )


async def measure_load(url: str, model: str, case: LoadCase, *, seed: int) -> dict[str, float]:
    """Raises PeerFailed when a request failed or answers have other lengths than asked for."""
    result = await run_load(load_test(url, model, case, seed=seed))
    if result.interrupted:  # the harness answers Ctrl-C with what it has; half a case is none
        raise KeyboardInterrupt
    return figures_of(result, case)


def figures_of(result: RunResult, case: LoadCase) -> dict[str, float]:
    if result.num_succeeded != case.num_requests:
        raise PeerFailed(
            f"{result.num_succeeded} of {case.num_requests} requests succeeded: "
            f"{result.errors} {result.error_examples}"
        )
    wanted = case.num_requests * case.output_tokens
    if result.output_tokens != wanted:
        raise PeerFailed(f"{result.output_tokens} output tokens instead of {wanted}")
    named = {
        "output_tokens_per_s": result.output_tokens_per_s,
        "total_tokens_per_s": result.total_tokens_per_s,
        "duration_s": result.duration_s,
        "ttft_p50_s": result.ttft_s.p50,
        "ttft_p99_s": result.ttft_s.p99,
        "itl_p50_s": result.itl_s.p50,
        "itl_p99_s": result.itl_s.p99,
        "cached_tokens": result.cached_tokens,
    }
    return {name: float(value) for name, value in named.items() if value is not None}
