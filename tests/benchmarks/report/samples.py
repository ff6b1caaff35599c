"""Results that look like real ones, made from a seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from shoal.benchmarks.measure.statistics import distribution, interval, ratio
from shoal.benchmarks.result import (
    ClientLoad,
    CompareResult,
    Distribution,
    Goodput,
    RequestTable,
    RunResult,
    Series,
    ServerWatch,
    Sweep,
    SweepStep,
    Timeline,
)

SECONDS = 120


def make_run(
    name: str = "shoal", *, seed: int = 1, slower: float = 1.0, count: int = 600
) -> RunResult:
    """A run with everything a run can have, except a sweep. `slower` stretches its latencies."""
    random = np.random.default_rng(seed)
    ttft = random.lognormal(math.log(0.18 * slower), 0.55, count)
    itl = random.lognormal(math.log(0.021 * slower), 0.35, count * 20)
    tpot = random.lognormal(math.log(0.022 * slower), 0.15, count)
    tokens_per_s = 1840.0 / slower
    gauges, cores = _server(random, slower)
    return RunResult(
        name=name,
        created="2026-02-03T10:20:30Z",
        environment={"cpu": "Some CPU (avx2, avx512f)", "cores": 16, "python": "3.11.9"},
        config={
            "url": "http://127.0.0.1:8000",
            "model": "Qwen/Qwen2.5-0.5B-Instruct",
            "workload": {"kind": "chat", "turns": 3, "prompt_tokens": {"mean": 512}},
            "load": {"rate": 5.0, "arrivals": "poisson"},
            "seed": seed,
        },
        duration_s=float(SECONDS),
        num_requests=count,
        num_succeeded=count - 4,
        errors={"timeout": 3, "http_500": 1},
        error_examples={"timeout": "no byte for 30 s", "http_500": '{"error": "<b>boom</b>"}'},
        prompt_tokens=count * 512,
        output_tokens=count * 128,
        cached_tokens=count * 300,
        offered_requests_per_s=5.0,
        requests_per_s=count / SECONDS,
        output_tokens_per_s=tokens_per_s,
        total_tokens_per_s=tokens_per_s * 4,
        ttft_s=distribution(ttft),
        itl_s=distribution(itl),
        tpot_s=distribution(tpot),
        e2e_s=distribution(ttft + 127 * tpot),
        send_delay_s=distribution(random.exponential(0.0004, count)),
        goodput=Goodput(slo={"ttft": 0.5, "tpot": 0.05}, attainment=0.962, requests_per_s=4.81),
        client=ClientLoad(processes=2, cpu_cores=[0.31, 0.29], send_delay_p99_s=0.0018),
        server=ServerWatch(
            gauges=gauges,
            counters={
                "vllm:generation_tokens_total": count * 128.0,
                "vllm:num_preemptions_total": 7,
            },
            cpu_s=900.0,
            cpu_cores=cores,
            rss_bytes=Series(t_s=cores.t_s, values=[3.1e9 + 2e6 * t for t in cores.t_s]),
        ),
        timeline=_timeline(random, slower),
        intervals={
            key: interval([centre * (1 + 0.02 * step) for step in (-1, 0, 1)])
            for key, centre in (
                ("ttft_p50_s", 0.18 * slower),
                ("ttft_p99_s", 0.65 * slower),
                ("itl_p50_s", 0.021 * slower),
                ("output_tokens_per_s", tokens_per_s),
                ("requests_per_s", 5.0),
            )
        },
        requests=_requests(random, ttft, tpot),
        warnings=["The load generator was late: p99 of the send delay is 1.8 ms."],
    )


def make_empty_run(name: str = "nobody home") -> RunResult:
    """Not one request was answered."""
    none = Distribution(count=0)
    return RunResult(
        name=name, created="2026-02-03T10:20:30Z", duration_s=10.0, num_requests=50,
        num_succeeded=0,
        errors={"connect": 50}, error_examples={"connect": "refused"}, requests_per_s=0.0,
        output_tokens_per_s=0.0, total_tokens_per_s=0.0, ttft_s=none, itl_s=none, tpot_s=none,
        e2e_s=none, send_delay_s=none,
        timeline=Timeline(
            bucket_s=5.0, t_s=[0.0, 5.0], ttft_p50_s=[None, None], ttft_p99_s=[None, None],
            itl_p50_s=[None, None], output_tokens_per_s=[0.0, 0.0], requests_per_s=[5.0, 5.0],
            errors=[25, 25], in_flight=[0.0, 0.0],
        ),
    )  # fmt: skip


def make_sweep_run(name: str = "shoal", *, best_rate: float | None = 11.0) -> RunResult:
    """The best step of a search among seven rates."""
    run = make_run(name)
    steps = []
    for rate in (4.0, 8.0, 16.0, 12.0, 10.0, 11.0, 11.5):
        load = rate / 11.2
        attainment = min(1.0, 1.0 - 0.02 * load**6)
        steps.append(
            SweepStep(
                rate=rate,
                attainment=attainment,
                passed=best_rate is not None and rate <= best_rate,
                requests_per_s=min(rate, 11.4),
                output_tokens_per_s=128 * min(rate, 11.4),
                ttft_p50_s=0.08 * (1 + load**4),
                ttft_p99_s=0.2 * (1 + 3 * load**8),
                tpot_p50_s=0.02,
                tpot_p99_s=0.03 * (1 + load),
                num_requests=60 if rate == 4 else 300,
            )
        )
    run.sweep = Sweep(target=0.99, best_rate=best_rate, steps=steps)
    return run


def make_compare(*, slower: float = 1.25) -> CompareResult:
    """A against a B that is slower by that factor; the prompt rate is left even."""
    random = np.random.default_rng(5)
    a, b = make_run("shoal", seed=1), make_run("other server", seed=2, slower=slower)
    noise = random.normal(1.0, 0.03, 6).tolist()
    factors = {
        "requests_per_s": 1.0,
        "output_tokens_per_s": slower,
        "total_tokens_per_s": slower,
        "ttft_p50_s": 1 / slower,
        "ttft_p90_s": 1 / slower,
        "ttft_p99_s": 1.5 / slower,
        "itl_p50_s": 1 / slower,
        "itl_p99_s": 1 / slower,
        "tpot_p50_s": 1 / slower,
        "e2e_p50_s": 1 / slower,
        "e2e_p99_s": 1.1 / slower,
    }
    ratios = {key: ratio([(f * n, 1.0) for n in noise]) for key, f in factors.items()}
    return CompareResult(
        created="2026-02-03T10:20:30Z",
        environment=a.environment,
        config={"a": {"url": "http://127.0.0.1:8000"}, "b": {"url": "http://127.0.0.1:8001"}},
        a=a,
        b=b,
        ratios={key: value for key, value in ratios.items() if value is not None},
        warnings=["Only 6 pairs."],
    )


def vllm_content(*, detailed: bool = False, count: int = 200, failed: int = 3) -> dict[str, Any]:
    """What `vllm bench serve --save-result` writes, with the keys of its writer."""
    random = np.random.default_rng(9)
    num = count + failed
    ttfts = random.lognormal(math.log(0.2), 0.4, num)
    itls = [random.lognormal(math.log(0.02), 0.3, 15).tolist() for _ in range(num)]
    lengths = [16] * num
    latencies = [float(t + math.fsum(gaps)) for t, gaps in zip(ttfts, itls, strict=True)]
    errors = [""] * num
    for index in range(count, num):
        ttfts[index], latencies[index], lengths[index], itls[index] = 0.0, 0.0, 0, []
        errors[index] = "Traceback (most recent call last):\n  ...\nTimeoutError: too slow"
    good = slice(0, count)
    tpots = [(latencies[i] - ttfts[i]) / 15 for i in range(count)]
    content: dict[str, Any] = {
        "date": "20260203-102030", "endpoint_type": "openai", "backend": "openai", "label": None,
        "model_id": "Qwen/Qwen2.5-0.5B", "tokenizer_id": "Qwen/Qwen2.5-0.5B", "num_prompts": num,
        "kv": "from --metadata", "request_rate": 8.0, "burstiness": 1.0, "max_concurrency": None,
        "duration": 25.0, "completed": count, "failed": failed, "total_input_tokens": count * 100,
        "total_output_tokens": count * 16, "request_throughput": count / 25.0,
        "request_goodput": None, "output_throughput": count * 16 / 25.0,
        "total_token_throughput": count * 116 / 25.0, "latencies": latencies,
    }  # fmt: skip
    samples = {"ttft": ttfts[good], "tpot": tpots, "itl": np.concatenate(itls[good]),
               "e2el": latencies[good]}  # fmt: skip
    for name, values in samples.items():
        content[f"mean_{name}_ms"] = float(np.mean(values)) * 1000
        content[f"median_{name}_ms"] = float(np.median(values)) * 1000
        content[f"std_{name}_ms"] = float(np.std(values)) * 1000
        content[f"p99_{name}_ms"] = float(np.percentile(values, 99)) * 1000
    if detailed:
        content |= {
            "input_lens": [100] * num, "output_lens": lengths, "ttfts": ttfts.tolist(),
            "itls": itls, "start_times": (1000 + np.arange(num) / 8.0).tolist(),
            "generated_texts": ["text"] * num, "errors": errors,
        }  # fmt: skip
    return content


def _server(random: np.random.Generator, slower: float) -> tuple[dict[str, Series], Series]:
    times = [float(t) for t in range(SECONDS)]
    waves = [1 + math.sin(t / 15) for t in times]
    gauges = {
        "vllm:num_requests_running": [round(12 * slower * w) for w in waves],
        "vllm:num_requests_waiting": [max(0, round(9 * slower * w - 8)) for w in waves],
        "vllm:kv_cache_usage_perc": [0.3 * w + 0.05 for w in waves],
    }
    cores = Series(t_s=times, values=(7 + random.normal(0, 0.3, SECONDS)).tolist())
    series = {
        key: Series(t_s=times, values=[float(v) for v in values]) for key, values in gauges.items()
    }
    return series, cores


def _timeline(random: np.random.Generator, slower: float) -> Timeline:
    times = [float(t) for t in range(SECONDS)]
    p50 = [0.18 * slower * (1 + 0.3 * math.sin(t / 15)) for t in times]
    return Timeline(
        bucket_s=1.0,
        t_s=times,
        ttft_p50_s=[None if 40 <= t < 45 else v for t, v in zip(times, p50, strict=True)],
        ttft_p99_s=[None if 40 <= t < 45 else v * random.uniform(2, 4)
                    for t, v in zip(times, p50, strict=True)],
        itl_p50_s=[0.021 * slower * random.uniform(0.95, 1.1) for _ in times],
        output_tokens_per_s=(random.normal(1840 / slower, 120, SECONDS)).tolist(),
        requests_per_s=random.poisson(5, SECONDS).astype(float).tolist(),
        errors=[1 if t in (50, 51, 90, 100) else 0 for t in times],
        in_flight=[14 * slower * (1 + 0.5 * math.sin(t / 15)) for t in times],
    )  # fmt: skip


def _requests(random: np.random.Generator, ttft: Any, tpot: Any) -> RequestTable:
    num = len(ttft)
    failed = set(range(min(num, 4)))
    return RequestTable(
        intended_s=np.sort(random.uniform(0, SECONDS, num)).tolist(),
        send_delay_s=[0.0004] * num,
        ttft_s=[None if i in failed else float(ttft[i]) for i in range(num)],
        e2e_s=[None if i in failed else float(ttft[i] + 127 * tpot[i]) for i in range(num)],
        prompt_tokens=random.integers(64, 2048, num).tolist(),
        output_tokens=[128] * num,
        cached_tokens=[None] * num,
        error=["timeout" if i in failed else None for i in range(num)],
    )
