"""The cases, in the order they are run. A test holds that each has a table in the results."""

from __future__ import annotations

from collections.abc import Sequence

from shoal.errors import ConfigError

from .cases import hung, kill9, memory, paced, prefix, restarts, saturation, streams
from .contestants import DIRECT, NGINX, SGLANG, SHOAL, VLLM
from .stage import Case

ROUTERS = (SHOAL, VLLM, SGLANG, NGINX)

STANDARD_SET = (
    Case(
        name="paced",
        title="300 requests/s, small answers, 16 connections",
        contestants=(DIRECT, *ROUTERS),
        measure=paced.measure,
    ),
    Case(
        name="saturation",
        title="as many requests as it takes, 64 connections",
        contestants=(DIRECT, *ROUTERS),
        measure=saturation.measure,
    ),
    Case(
        name="streams",
        title="256 streams of 64 tokens at 50 tokens/s",
        contestants=(DIRECT, *ROUTERS),
        measure=streams.measure,
    ),
    Case(
        name="prefix",
        title="40 conversations, one system prompt, no session header",
        contestants=ROUTERS,
        measure=prefix.measure,
    ),
    Case(
        name="exact",
        title="the same on workers that publish KV events",
        contestants=(SHOAL, NGINX),
        measure=prefix.measure_exact,
    ),
    Case(
        name="kill9",
        title="kill -9 of one of four workers, whole answers",
        contestants=ROUTERS,
        measure=kill9.measure_whole,
        repeated=(SHOAL,),
    ),
    Case(
        name="kill9-streams",
        title="kill -9 of one of four workers, greedy streams",
        contestants=ROUTERS,
        measure=kill9.measure_streams,
        repeated=(SHOAL,),
    ),
    Case(
        name="hung",
        title="a worker is stopped (SIGSTOP) and goes on later",
        contestants=ROUTERS,
        measure=hung.measure,
        repeated=(SHOAL,),
    ),
    Case(
        name="restart-workers",
        title="all workers restarted, one by one",
        contestants=ROUTERS,
        measure=restarts.measure_workers,
        repeated=(SHOAL,),
    ),
    Case(
        name="restart-router",
        title="the router itself replaced",
        contestants=(SHOAL, NGINX),
        measure=restarts.measure_router,
        repeated=(SHOAL,),
    ),
    Case(
        name="idle",
        title="5,000 idle clients and 1,000 streams",
        contestants=ROUTERS,
        measure=memory.measure_idle,
        repeated=(SHOAL,),
    ),
    Case(
        name="soak",
        title="memory under steady load",
        contestants=(SHOAL,),
        measure=memory.measure_soak,
        repeated=(),
    ),
)


def choose_cases(names: Sequence[str]) -> list[Case]:
    """Cases of these names, all of them for none. Raises ConfigError."""
    known = {case.name: case for case in STANDARD_SET}
    if unknown := sorted(set(names) - known.keys()):
        raise ConfigError(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
    return [case for case in STANDARD_SET if not names or case.name in names]
