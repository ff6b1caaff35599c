"""The result of `vllm bench serve`, read as one of ours.

The format is that of vLLM's benchmarks/serve.py: latencies summed up in milliseconds, and, with
`--save-detailed`, lists in seconds with one entry a request. Where the lists are there, every
distribution is worked out anew from them; where they are not, percentiles that were not saved are
missing, and the counts behind TPOT and ITL are upper bounds.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np

from shoal.benchmarks.measure.record import RequestRecord
from shoal.benchmarks.measure.statistics import distribution
from shoal.benchmarks.measure.summary import request_table
from shoal.benchmarks.measure.timeline import timeline
from shoal.benchmarks.result import Distribution, Goodput, RunResult
from shoal.errors import ConfigError

REQUIRED = ("completed", "duration", "request_throughput")
LISTS = ("ttfts", "itls", "output_lens", "input_lens")
MEASURES = {"ttft": "ttft_s", "itl": "itl_s", "tpot": "tpot_s", "e2el": "e2e_s"}
FROM_SENDING = (
    "Read from vllm bench serve: its latencies count from the moment a request left, not from the"
    " moment it was meant to leave."
)


def looks_like(content: object) -> bool:
    """Whether a JSON value has the keys that every such result has."""
    return isinstance(content, dict) and all(key in content for key in REQUIRED)


def read(content: dict[str, Any], *, source: str) -> RunResult:
    """Raises ConfigError naming `source` and the field that cannot be read."""
    try:
        return _read(content)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(
            f"{source} looks like a result of vllm bench serve, but cannot be read: {error!r}"
        ) from error


def _read(content: dict[str, Any]) -> RunResult:
    records = _records(content) if all(content.get(key) for key in LISTS) else []
    num_succeeded = int(content["completed"])
    num_requests = _num_requests(content)
    duration_s = float(content["duration"])
    num_failed = num_requests - num_succeeded
    goodput_rate = _number(content, "request_goodput")
    detailed = bool(records) and sum(record.error is None for record in records) == num_succeeded
    run = RunResult(
        name=str(content.get("label") or ""),
        created=_created(content.get("date")),
        config=_config(content),
        duration_s=duration_s,
        num_requests=num_requests,
        num_succeeded=num_succeeded,
        errors={"failed": num_failed} if num_failed else {},
        prompt_tokens=int(_number(content, "total_input_tokens") or 0),
        output_tokens=int(_number(content, "total_output_tokens") or 0),
        offered_requests_per_s=_number(content, "request_rate"),
        requests_per_s=_number(content, "request_throughput") or 0.0,
        output_tokens_per_s=_number(content, "output_throughput") or 0.0,
        total_tokens_per_s=_number(content, "total_token_throughput") or 0.0,
        ttft_s=_summary(content, "ttft"),
        itl_s=_summary(content, "itl"),
        tpot_s=_summary(content, "tpot"),
        e2e_s=_summary(content, "e2el"),
        send_delay_s=Distribution(count=0),
        goodput=None
        if goodput_rate is None
        else Goodput(
            slo={},  # the file does not say what was asked for
            attainment=min(1.0, round(goodput_rate * duration_s) / max(num_requests, 1)),
            requests_per_s=goodput_rate,
        ),
        warnings=[FROM_SENDING],
    )
    if detailed:
        _replace_summaries(run, content, records)
    elif records:
        run.warnings.append("The lists of single requests do not fit the totals and were not used.")
    return run


def _replace_summaries(
    run: RunResult, content: dict[str, Any], records: list[RequestRecord]
) -> None:
    good = [index for index, record in enumerate(records) if record.error is None]
    ttfts, latencies, lengths = content["ttfts"], _latencies(content), content["output_lens"]
    run.ttft_s = distribution([ttfts[i] for i in good])
    run.itl_s = distribution([gap for i in good for gap in content["itls"][i]])
    run.tpot_s = distribution(
        [(latencies[i] - ttfts[i]) / (lengths[i] - 1) for i in good if lengths[i] > 1]
    )
    run.e2e_s = distribution([latencies[i] for i in good])
    details = [record.detail for record in records if record.detail]
    if details:
        run.error_examples = {"failed": details[0]}
    if content.get("start_times"):
        run.timeline = timeline(records, run.duration_s)
        run.requests = request_table(records)


def _records(content: dict[str, Any]) -> list[RequestRecord]:
    """One record a request. A failed one has an error text, or no latency at all."""
    ttfts, itls = content["ttfts"], content["itls"]
    count = len(ttfts)
    starts = content.get("start_times") or [0.0] * count
    errors = content.get("errors") or [""] * count
    origin = min(starts)
    records = []
    columns = zip(starts, ttfts, itls, _latencies(content), errors, content["input_lens"],
                  content["output_lens"], strict=True)  # fmt: skip
    for index, (start, ttft, gaps, latency, error, num_in, num_out) in enumerate(columns):
        sent_s = start - origin
        failed = bool(error) or latency <= 0
        records.append(
            RequestRecord(
                session=index,
                turn=0,
                intended_s=sent_s,
                sent_s=sent_s,
                first_s=sent_s + ttft if ttft > 0 else None,
                last_s=None if failed else sent_s + latency,
                end_s=sent_s + latency,
                gaps=np.asarray(gaps, dtype=np.float32).tobytes(),
                num_chunks=len(gaps) + 1 if ttft > 0 else 0,
                prompt_tokens=int(num_in),
                output_tokens=int(num_out),
                error="failed" if failed else None,
                # A traceback: what went wrong is in its last line.
                detail=str(error or "").strip().rpartition("\n")[2][:300] if failed else "",
            )
        )
    return records


def _latencies(content: dict[str, Any]) -> list[float]:
    """Of whole answers. Older versions do not save them; the last token ends an answer."""
    saved: list[float] | None = content.get("latencies")
    parts = zip(content["ttfts"], content["itls"], strict=True)
    return saved or [ttft + math.fsum(gaps) for ttft, gaps in parts]


def _summary(content: dict[str, Any], name: str) -> Distribution:
    succeeded = int(content["completed"])
    counts = {"itl": max(0, int(_number(content, "total_output_tokens") or 0) - succeeded)}
    mean = _number(content, f"mean_{name}_ms")
    count = 0 if mean is None else counts.get(name, succeeded)
    if succeeded == 0 or count == 0:
        return Distribution(count=0)  # without a success it saves zeros

    def seconds(key: str) -> float | None:
        milliseconds = _number(content, f"{key}_{name}_ms")
        return None if milliseconds is None else milliseconds / 1000

    return Distribution(
        count=count,
        mean=seconds("mean"),
        std=seconds("std"),
        min=seconds("p0"),
        p50=seconds("median"),
        p90=seconds("p90"),
        p95=seconds("p95"),
        p99=seconds("p99"),
        max=seconds("p100"),
    )


def _num_requests(content: dict[str, Any]) -> int:
    failed = _number(content, "failed")
    if failed is not None:
        return int(content["completed"]) + int(failed)
    return max(int(content["completed"]), int(_number(content, "num_prompts") or 0))


def _config(content: dict[str, Any]) -> dict[str, Any]:
    """What was asked for: everything the file says before its first figure."""
    config: dict[str, Any] = {"tool": "vllm bench serve"}
    for key, value in content.items():
        if key == "duration":
            break
        if key not in ("date", "label", "endpoint_type") and value is not None:
            config["model" if key == "model_id" else key] = value
    return config


def _created(date: object) -> str:
    """Local time of an unknown zone, so without one; '' when there is none."""
    try:
        return datetime.strptime(str(date), "%Y%m%d-%H%M%S").isoformat()
    except ValueError:
        return ""


def _number(content: dict[str, Any], key: str) -> float | None:
    """A finite number, or None: rates may be "inf", empty means are NaN."""
    value = content.get(key)
    if value is None or isinstance(value, bool):
        return None
    number = float(value)
    return number if math.isfinite(number) else None
