"""Plain data that crosses the seams: scheduler -> runner -> scheduler -> front end."""

from __future__ import annotations

import enum
from collections.abc import Container
from dataclasses import dataclass, field, replace

from .request import FinishReason
from .sampling_params import SamplingParams


class ReasonKind(enum.StrEnum):
    """Why a request did not run, or stopped running, in a step."""

    BUDGET = "budget"
    MAX_NUM_SEQS = "max_num_seqs"
    NO_BLOCKS = "no_blocks"
    PREEMPTED = "preempted"
    PRIORITY = "priority"
    QUEUE_TIMEOUT = "queue_timeout"


SETBACKS = frozenset({ReasonKind.PREEMPTED, ReasonKind.PRIORITY, ReasonKind.QUEUE_TIMEOUT})
"""What a request loses something by; the other kinds make it wait, step after step."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One decision with its why; `by` is the request that caused it, `detail` its numbers."""

    kind: ReasonKind
    request_id: str
    by: str | None = None
    detail: str = ""


class RejectionKind(enum.StrEnum):
    """Why a request is refused at the door."""

    INVALID = "invalid"
    """Empty prompt, or an id that is in use."""
    TOO_LONG = "too_long"
    """It can never fit: the model's length or the whole KV cache is too small."""
    QUEUE_FULL = "queue_full"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refusal with its numbers; `retry_after_s` is set when trying again can help."""

    kind: RejectionKind
    message: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class NewRequestData:
    """A request the runner has not got a row for: new, or resumed after a preemption."""

    request_id: str
    token_ids: list[int]
    """All known tokens: the prompt, and outputs too when it resumes. The runner copies it."""
    num_prompt_tokens: int
    num_computed_tokens: int
    sampling_params: SamplingParams
    stop_token_ids: frozenset[int]
    """End-of-sequence ids included; suppressed until `min_tokens` outputs exist."""
    block_ids: list[list[int]]
    """Block table per KV cache group."""


@dataclass(frozen=True, slots=True)
class BlockCopies:
    """(source, destination) pairs of KV cache blocks that one step copies before it computes.

    The saves go first: a load may overwrite what a save reads. No step in flight uses a device
    block that is saved or loaded, so the copies need not wait for it; a host block may be read or
    written by one, so copies run in the order of their steps.
    """

    saves: list[tuple[int, int]]
    """From the device to the host."""
    loads: list[tuple[int, int]]
    """From the host to the device."""


@dataclass(frozen=True, slots=True)
class SchedulerOutput:
    """One step: what to compute for whom, and what changed since the last step.

    A request samples a token when this step computes the last token known of it. Entries of
    `num_scheduled_tokens` are in execution order, decodes (one token) first. `new_block_ids`
    names only requests whose block tables grew: per group the blocks to append. The null
    block 0 in a table stands for tokens that have left a sliding window; blocks freed behind a
    window stay in the runner's table and are never read.
    """

    scheduled_new_reqs: list[NewRequestData]
    num_scheduled_tokens: dict[str, int]
    total_num_scheduled_tokens: int
    new_block_ids: dict[str, list[list[int]]]
    finished_req_ids: list[str]
    """Ended since the last step: the runner forgets their rows."""
    preempted_req_ids: list[str]
    """Lost their blocks in this step: the runner forgets their rows."""
    reasons: list[Reason]
    copies: BlockCopies | None = None
    """Blocks to move between the device and the host; None: none."""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities at one position: the chosen token first, then the top ones."""

    token_ids: list[int]
    logprobs: list[float]
    rank: int
    """Rank of the chosen token, 1 is the most likely."""


@dataclass(frozen=True, slots=True)
class ModelRunnerOutput:
    """What one step sampled: `sampled_token_ids[i]` for `req_ids[i]`, [] while tokens are left."""

    req_ids: list[str]
    sampled_token_ids: list[list[int]]
    logprobs: dict[str, list[TokenLogprobs]] = field(default_factory=dict)
    """One entry per sampled token, only of requests that asked."""
    prompt_logprobs: dict[str, list[TokenLogprobs]] = field(default_factory=dict)
    """Of the whole prompt but its first token, once, in the step that completes it."""


@dataclass(frozen=True, slots=True)
class Started:
    """Facts about a request that got its first step."""

    queue_s: float
    """Seconds from arrival to its first step."""
    num_cached_tokens: int


@dataclass(frozen=True, slots=True)
class EngineCoreOutputs:
    """One step as the front end sees it, in columns: a running decode costs two list entries."""

    req_ids: list[str] = field(default_factory=list)
    new_token_ids: list[list[int]] = field(default_factory=list)
    finish_reasons: dict[str, FinishReason] = field(default_factory=dict)
    started: dict[str, Started] = field(default_factory=dict)
    logprobs: dict[str, list[TokenLogprobs]] = field(default_factory=dict)
    prompt_logprobs: dict[str, list[TokenLogprobs]] = field(default_factory=dict)
    setbacks: list[Reason] = field(default_factory=list)
    """Who lost its blocks or its place in this step, by whom: for the log."""

    def only_of(self, request_ids: Container[str]) -> EngineCoreOutputs:
        """Without tokens of others: those that ended while a step computed one more for them."""
        kept = [i for i, request_id in enumerate(self.req_ids) if request_id in request_ids]
        return replace(
            self,
            req_ids=[self.req_ids[i] for i in kept],
            new_token_ids=[self.new_token_ids[i] for i in kept],
            logprobs={k: v for k, v in self.logprobs.items() if k in request_ids},
            prompt_logprobs={k: v for k, v in self.prompt_logprobs.items() if k in request_ids},
        )
