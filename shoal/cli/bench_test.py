"""Options of `shoal bench` to a `LoadTest`: what contradicts itself is refused here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shoal.benchmarks.client.conversation import Endpoint, RequestForm
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.measure.slo import UNITS, parse_slo
from shoal.benchmarks.server_url import server_url
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.workload.arrivals import ArrivalSpec
from shoal.benchmarks.workload.prompt_file import holds_messages
from shoal.benchmarks.workload.spec import WorkloadSpec, completed, kind_of
from shoal.errors import ConfigError

DEFAULT_DURATION_S = 30.0
Options = Mapping[str, Any]
"""Parameters of a command by name."""


def load_test(url: str, options: Options, *, model: str | None) -> LoadTest:
    """The test that the options ask for. `model` None: the first that the server lists."""
    workload = _workload(options)
    load = _load(options, workload)
    positive = ("timeout_s", "processes", "repeats", "num_requests", "concurrency", "pairs")
    for name in positive:
        if (value := options.get(name)) is not None and value <= 0:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}: it must be above 0")
    if options["warmup"] < 0:
        raise ConfigError(f"--warmup is {options['warmup']}: it must be at least 0")
    return LoadTest(
        url=server_url(url),
        form=RequestForm(
            model=model or "",
            endpoint=_endpoint(options, workload),
            ignore_eos=options["ignore_eos"],
            extra_body=_extra_body(options["extra_body"]),
        ),
        workload=workload,
        load=load,
        slo=parse_slo(options["slo"]) if options["slo"] else None,
        headers=_headers(options["api_key"]),
        timeout_s=options["timeout_s"],
        pid=options.get("pid"),
        num_processes=options["processes"],
        repeats=options.get("repeats", 1),
        warmup=options["warmup"],
        save_requests=options["save_requests"],
        name=options.get("name"),
    )


def parse_duration(text: str) -> float:
    """Seconds: `30`, `30s`, `500ms` or `5m`. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\s*", text)
    seconds = float(match[1]) * {**UNITS, "h": 3600.0}[match[2] or "s"] if match else 0.0
    if seconds <= 0:
        raise ConfigError(f"{text!r} is not a time above 0; give 30, 30s, 500ms, 5m or 1h")
    return seconds


def _workload(options: Options) -> WorkloadSpec:
    kind: str = options["workload"]
    trace, prompts = options["trace"], options["prompts"]
    for path, implied, option in ((trace, "trace", "--trace"), (prompts, "jsonl", "--prompts")):
        if path is not None and kind not in ("synthetic", implied):
            raise ConfigError(f"{option} goes with --workload {implied}, not with {kind}")
    if trace is not None and prompts is not None:
        raise ConfigError("give one of --trace and --prompts")
    if trace is not None:
        kind = "trace"
    elif prompts is not None:
        kind = "jsonl"
    path = trace if trace is not None else prompts
    spec = WorkloadSpec(
        kind=kind,
        seed=options["seed"],
        input_len=options["input_len"],
        output_len=options["output_len"],
        prefix_len=options["prefix_len"],
        num_prefixes=options["num_prefixes"],
        num_turns=options["num_turns"],
        pause_s=options["pause_s"],
        num_examples=options["num_examples"],
        path=None if path is None else str(path),
        format=options["trace_format"],
        time_scale=options["time_scale"],
        as_token_ids=options["token_ids"],
    )
    return completed(spec)


def _load(options: Options, workload: WorkloadSpec) -> Load:
    rate, concurrency = options["rate"], options["concurrency"]
    has_own_times = workload.kind == "trace"
    if rate is not None and concurrency is not None:
        raise ConfigError("give one of --rate (open loop) and --concurrency (closed loop)")
    if options.get("sweep") and concurrency is not None:
        raise ConfigError("a sweep searches for a rate: it does not go with --concurrency")
    if rate is None and concurrency is None and not has_own_times and not options.get("sweep"):
        raise ConfigError("say how much load: --rate R, --concurrency C or --sweep")
    arrivals = None
    if rate is not None or options.get("sweep"):
        arrivals = ArrivalSpec(
            rate=1.0 if rate is None else rate,
            process=options["arrivals"].value,
            burstiness=options["burstiness"],
            shape=options["shape"],
        )
    elif options["shape"] != "flat":
        raise ConfigError("--shape changes a rate: it needs --rate")
    num_requests = options["num_requests"]
    duration_s = parse_duration(options["duration"]) if options["duration"] else None
    is_finite = workload.kind == "jsonl" or (has_own_times and arrivals is None)
    if duration_s is None and num_requests is None and not is_finite:
        duration_s = DEFAULT_DURATION_S
    return Load(
        arrivals=arrivals,
        concurrency=concurrency,
        duration_s=duration_s,
        num_sessions=num_requests,
    )


def _endpoint(options: Options, workload: WorkloadSpec) -> Endpoint:
    given = options["endpoint"]
    if given is None:
        is_chat = kind_of(workload.kind).is_conversation or (
            workload.kind == "jsonl" and holds_messages(Path(workload.path or ""))
        )
        return "chat" if is_chat else "completions"
    if given.value == "chat" and workload.as_token_ids:
        raise ConfigError("--token-ids goes with --endpoint completions: chat takes text")
    return "chat" if given.value == "chat" else "completions"


def _headers(api_key: str | None) -> dict[str, str]:
    """Raises ConfigError, without repeating the key, for one that no header can hold."""
    if not api_key:
        return {}
    key = api_key.strip()  # a file read into a variable ends with a line break
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("--api-key holds what no HTTP header can: a line break, or not ASCII")
    return {"Authorization": f"Bearer {key}"}


def _extra_body(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(f"--extra-body is not a JSON object: {error}") from None
