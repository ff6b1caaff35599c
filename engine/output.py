"""What the engine tells its callers: deltas of a request, its health, its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

from .core.output import TokenLogprobs
from .core.stats import SchedulerStats


class RequestOutput(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of a request since the output before it. (A Struct: one is made per token.)

    `token_ids` are the ids sampled, a trailing end-of-sequence or stop token included; `text`
    leaves that token out and may lag behind: it holds back incomplete characters and what may
    become a stop string. The last output, and only it, has a `finish_reason`.
    """

    text: str
    token_ids: list[int]
    finish_reason: Literal["stop", "length", "abort"] | None = None
    stop_reason: str | int | None = None
    """The stop string or the one of `stop_token_ids` that ended it; None for end-of-sequence."""
    logprobs: list[TokenLogprobs] = []
    """One per token id, if asked for."""
    prompt_logprobs: list[TokenLogprobs] = []
    """For prompt tokens from the second on, in prompt order, if asked for."""
    num_cached_tokens: int = 0
    """Prompt tokens that came from the prefix cache."""
    queue_s: float | None = None
    """Seconds from arrival to the first step; on the first output."""

    def followed_by(self, later: RequestOutput) -> RequestOutput:
        """One output that says what this and the next one say."""
        return RequestOutput(
            text=self.text + later.text,
            token_ids=self.token_ids + later.token_ids,
            finish_reason=later.finish_reason,
            stop_reason=later.stop_reason,
            logprobs=self.logprobs + later.logprobs,
            prompt_logprobs=self.prompt_logprobs + later.prompt_logprobs,
            num_cached_tokens=later.num_cached_tokens,
            queue_s=self.queue_s if self.queue_s is not None else later.queue_s,
        )


class KVEventEndpoints(NamedTuple):
    """ZeroMQ addresses as they were bound: hosts may be wildcards."""

    publish: str | None = None
    """None: no events."""
    replay: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Whether requests are being served, and if not, why."""

    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """The scheduler's latest numbers, and the facts that give them a scale."""

    scheduler: SchedulerStats
    num_steps: int
    """Steps of the core that runs now."""
    num_requests: int
    """In flight between this process and the core."""
    num_core_restarts: int
    num_blocks: int
    block_size: int
    max_model_len: int
