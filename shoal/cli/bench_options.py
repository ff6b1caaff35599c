"""Options that `shoal bench run` and `shoal bench compare` share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

TARGET = "Server"
WORKLOAD = "Workload: what is sent"
LOAD = "Load: when it is sent"
MEASURE = "Measurement"
OUTPUT = "Output"


class Endpoint(StrEnum):
    completions = "completions"
    chat = "chat"


class Process(StrEnum):
    constant = "constant"
    poisson = "poisson"
    gamma = "gamma"


def _option(panel: str, metavar: str, help: str, default: str | bool = False) -> object:
    """An option whose default is said in words, or not at all."""
    return typer.Option(metavar=metavar, help=help, show_default=default, rich_help_panel=panel)


EndpointOption = Annotated[
    Endpoint | None,
    _option(
        TARGET,
        "ROUTE",
        "completions or chat.",
        "chat for conversations and messages, else completions",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        envvar=["SHOAL_API_KEY", "OPENAI_API_KEY"],
        help="Bearer token to send. Prefer the variable: others can read a command line.",
        show_default=False,
        rich_help_panel=TARGET,
    ),
]
ExtraBody = Annotated[
    str | None, _option(TARGET, "JSON", "An object whose fields go into every request.")
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos/--no-ignore-eos",
        help="Ask for answers of exactly the planned length. Turn off for servers that refuse the"
        " field.",
        rich_help_panel=TARGET,
    ),
]
TimeoutS = Annotated[float, _option(TARGET, "SECONDS", "Longest time for one request.", "600")]

WorkloadName = Annotated[
    str,
    _option(
        WORKLOAD,
        "NAME",
        "synthetic, system-prompts, few-shot, chat, agent, trace or jsonl.",
        "synthetic",
    ),
]
InputLen = Annotated[
    str | None,
    _option(
        WORKLOAD,
        "LENGTH",
        "New tokens of a prompt: 128, uniform:64-256, lognormal:mean=512,sigma=1 or"
        " file:PATH:COLUMN.",
        "by workload; 128 for synthetic",
    ),
]
OutputLen = Annotated[
    str | None, _option(WORKLOAD, "LENGTH", "Tokens of an answer, likewise.", "128 for synthetic")
]
PrefixLen = Annotated[
    str | None,
    _option(WORKLOAD, "LENGTH", "Shared tokens: prefix, system prompt or one example."),
]
NumPrefixes = Annotated[
    int | None, _option(WORKLOAD, "N", "Different shared prefixes, system prompts or tasks.")
]
NumTurns = Annotated[str | None, _option(WORKLOAD, "LENGTH", "Turns of a conversation.")]
PauseS = Annotated[
    str | None,
    _option(
        WORKLOAD,
        "PAUSE",
        "Seconds before the next turn: 2, exponential:2 or lognormal:mean=1,sigma=0.8.",
    ),
]
NumExamples = Annotated[int | None, _option(WORKLOAD, "N", "Worked examples of few-shot.")]
Trace = Annotated[
    Path | None, _option(WORKLOAD, "FILE", "Trace to replay; implies --workload trace.")
]
TraceFormat = Annotated[
    str | None,
    _option(
        WORKLOAD,
        "FORMAT",
        "azure, mooncake, servegen[:SERVICE], burstgpt or table.",
        "seen from the file",
    ),
]
TimeScale = Annotated[
    float | None, _option(WORKLOAD, "FACTOR", "2 replays a trace twice as fast.", "1")
]
Prompts = Annotated[
    Path | None, _option(WORKLOAD, "FILE", "JSONL of prompts; implies --workload jsonl.")
]
TokenIds = Annotated[
    bool,
    typer.Option("--token-ids", help="Send token ids instead of text.", rich_help_panel=WORKLOAD),
]
Seed = Annotated[int, _option(WORKLOAD, "N", "Same seed: same prompts and arrivals.", "0")]

Rate = Annotated[
    float | None,
    _option(LOAD, "R", "Open loop: this many sessions per second, whatever the server does."),
]
Concurrency = Annotated[
    int | None, _option(LOAD, "C", "Closed loop: this many sessions under way at all times.")
]
Arrivals = Annotated[
    Process, _option(LOAD, "PROCESS", "Gaps between arrivals: constant, poisson, gamma.", "poisson")
]
Burstiness = Annotated[
    float,
    _option(LOAD, "B", "Of gamma arrivals: 1 is poisson, below is burstier, above more even.", "1"),
]
Shape = Annotated[
    str,
    _option(
        LOAD,
        "SHAPE",
        "How the rate changes: flat, ramp:TO_RATE, sine:AMPLITUDE,PERIOD_S or steps:RATE@T,...",
        "flat",
    ),
]
Duration = Annotated[
    str | None,
    _option(LOAD, "TIME", "No session starts later than this (30, 30s, 5m).", "30s"),
]
NumRequests = Annotated[
    int | None,
    _option(LOAD, "N", "End after so many sessions (requests, where a session is one)."),
]

Slo = Annotated[
    str | None,
    _option(MEASURE, "OBJECTIVES", "Count goodput: ttft:200ms,tpot:50ms (also itl, e2e)."),
]
Processes = Annotated[
    int | None,
    _option(MEASURE, "N", "Processes that send.", "as many as the load needs"),
]
Warmup = Annotated[int, _option(MEASURE, "N", "Requests before the measurement.", "1")]
SaveRequests = Annotated[
    bool,
    typer.Option(
        "--save-requests", help="Keep every request in the JSON.", rich_help_panel=MEASURE
    ),
]
Json = Annotated[Path | None, _option(OUTPUT, "FILE", "Write the result as JSON.")]
Html = Annotated[Path | None, _option(OUTPUT, "FILE", "Write a report with plots.")]
