"""A workload by name: what the command line says, and what each kind makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from shoal.errors import ConfigError

from .conversations import Agent, Chat
from .plan import Workload
from .prompt_file import PromptFile
from .shared_prefixes import FewShot, SystemPrompts
from .synthetic import Synthetic
from .tokens import PromptWriter, TokenPool
from .trace_replay import TraceReplay


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to send. None: the default of the kind; a value where the kind has no use for it is
    refused."""

    kind: str = "synthetic"
    seed: int = 0
    input_len: str | None = None
    """New tokens of a turn; `lengths.parse_lengths` reads it."""
    output_len: str | None = None
    prefix_len: str | None = None
    """Tokens of what is shared: prefix, system prompt, or one example."""
    num_prefixes: int | None = None
    num_turns: str | None = None
    pause_s: str | None = None
    """Between an answer and the next turn; `lengths.parse_pauses` reads it."""
    num_examples: int | None = None
    path: str | None = None
    format: str | None = None
    time_scale: float | None = None
    """2 replays a trace twice as fast."""
    as_token_ids: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of workload: how to say what it is, what it takes, how it is made."""

    description: str
    defaults: dict[str, str | int | float | None]
    """Fields of WorkloadSpec that it uses, and what they are when not given."""
    build: Callable[[WorkloadSpec, PromptWriter], Workload]
    is_conversation: bool = False
    """Several turns, or roles: it wants the chat endpoint."""
    writes_token_ids: bool = False
    """Its prompts can be token ids instead of text."""


WORKLOADS: dict[str, Kind] = {
    "synthetic": Kind(
        "random prompts; with a prefix, groups of requests share their beginning",
        {"input_len": "128", "output_len": "128", "prefix_len": None, "num_prefixes": 1},
        Synthetic.of,
        writes_token_ids=True,
    ),
    "system-prompts": Kind(
        "a question each behind one of a few long system prompts, some more popular than others",
        {"input_len": "64", "output_len": "128", "prefix_len": "1024", "num_prefixes": 4},
        SystemPrompts.of,
        is_conversation=True,
    ),
    "few-shot": Kind(
        "the same worked examples before every question of a task; several tasks",
        {"input_len": "64", "output_len": "32", "prefix_len": "128", "num_examples": 8,
         "num_prefixes": 4},
        FewShot.of,
        writes_token_ids=True,
    ),
    "chat": Kind(
        "conversations of several turns with time to think; the history is sent again each turn",
        {"input_len": "lognormal:mean=64,sigma=0.8,max=512",
         "output_len": "lognormal:mean=128,sigma=0.6,max=512", "prefix_len": "64",
         "num_turns": "uniform:2-6", "pause_s": "exponential:2"},
        Chat.of,
        is_conversation=True,
    ),
    "agent": Kind(
        "loops of an agent: long instructions, short answers, tool results after a pause",
        {"input_len": "lognormal:mean=256,sigma=0.8,max=2048",
         "output_len": "lognormal:mean=48,sigma=0.5,max=256", "prefix_len": "1024",
         "num_turns": "uniform:4-12", "pause_s": "lognormal:mean=1,sigma=0.8,max=20"},
        Agent.of,
        is_conversation=True,
    ),
    "trace": Kind(
        "arrivals and lengths of a recorded trace (--trace FILE)",
        {"path": None, "format": "auto", "time_scale": 1.0, "input_len": None,
         "output_len": None},
        TraceReplay.of,
        writes_token_ids=True,
    ),
    "jsonl": Kind(
        "the prompts of a JSONL file (--prompts FILE): `prompt` or `messages`, and `max_tokens`",
        {"path": None, "output_len": "128"},
        PromptFile.of,
    ),
}  # fmt: skip

_ALWAYS = {"kind", "seed", "as_token_ids"}


def kind_of(name: str) -> Kind:
    """Raises ConfigError with the known kinds."""
    if name not in WORKLOADS:
        raise ConfigError(f"no workload {name!r}; there are: {', '.join(WORKLOADS)}")
    return WORKLOADS[name]


def completed(spec: WorkloadSpec) -> WorkloadSpec:
    """The spec with the defaults of its kind. Raises ConfigError for fields it has no use for."""
    kind = kind_of(spec.kind)
    for field in spec.__struct_fields__:
        if field not in kind.defaults and field not in _ALWAYS and getattr(spec, field) is not None:
            used = ", ".join(name.replace("_", "-") for name in kind.defaults)
            raise ConfigError(
                f"the workload {spec.kind} has no use for {field.replace('_', '-')};"
                f" it takes {used}"
            )
    if spec.as_token_ids and not kind.writes_token_ids:
        able = ", ".join(name for name, other in WORKLOADS.items() if other.writes_token_ids)
        raise ConfigError(f"the workload {spec.kind} writes no token ids; these do: {able}")
    missing = {name: value for name, value in kind.defaults.items() if getattr(spec, name) is None}
    return msgspec.structs.replace(spec, **missing)


def build_workload(spec: WorkloadSpec, pool: TokenPool) -> Workload:
    """The workload itself. Raises ConfigError for what is wrong in the spec or its files."""
    spec = completed(spec)
    writer = PromptWriter(pool, as_token_ids=spec.as_token_ids)
    return kind_of(spec.kind).build(spec, writer)
