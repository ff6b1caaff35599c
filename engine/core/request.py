"""A request as the scheduler sees it: tokens, progress and status, never text."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from .sampling_params import SamplingParams


class RequestStatus(enum.IntEnum):
    """Where a request is in its life; everything from FINISHED_STOPPED on is final."""

    WAITING = 0
    RUNNING = 1
    PREEMPTED = 2
    FINISHED_STOPPED = 3
    FINISHED_LENGTH_CAPPED = 4
    FINISHED_ABORTED = 5
    FINISHED_TIMED_OUT = 6
    """Its queue deadline passed before its first step."""

    @property
    def is_finished(self) -> bool:
        return self >= RequestStatus.FINISHED_STOPPED


class FinishReason(enum.StrEnum):
    """Why a request ended, as the front end hears it."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    TIMEOUT = "timeout"


class Request:
    """One sequence to generate. Attribute names are vLLM's, so its `Request` fits our policies.

    Invariant: `num_computed_tokens <= num_tokens`; the KV of the first `num_computed_tokens`
    tokens is in the cache while the request runs, and the count is 0 while it does not.
    """

    __slots__ = (
        "adapter",
        "arrival_time",
        "block_hashes",
        "block_ids",
        "cache_salt",
        "first_scheduled_time",
        "max_num_tokens",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "num_published_blocks",
        "num_slots",
        "priority",
        "request_id",
        "sampling_params",
        "status",
        "stop_token_ids",
        "token_ids",
    )

    def __init__(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        *,
        sampling_params: SamplingParams,
        arrival_time: float,
        eos_token_ids: Sequence[int] = (),
        priority: int = 0,
        cache_salt: str | None = None,
        adapter: str | None = None,
    ) -> None:
        self.request_id = request_id
        self.sampling_params = sampling_params
        self.arrival_time = arrival_time
        self.priority = priority
        """Lower runs first."""
        self.cache_salt = cache_salt
        self.adapter = adapter
        self.status = RequestStatus.WAITING
        self.token_ids = list(prompt_token_ids)
        """Prompt and output tokens; grows by what is sampled."""
        self.num_prompt_tokens = len(self.token_ids)
        self.max_num_tokens = self.num_prompt_tokens + sampling_params.max_tokens
        eos = () if sampling_params.ignore_eos else tuple(eos_token_ids)
        self.stop_token_ids = frozenset(eos + sampling_params.stop_token_ids)
        self.num_computed_tokens = 0
        self.num_preemptions = 0
        self.first_scheduled_time: float | None = None
        # Owned by the KVCacheManager.
        self.block_ids: list[list[int]] = []
        """Block table per KV cache group."""
        self.num_slots = 0
        """Tokens the block table has room for."""
        self.block_hashes: list[bytes] = []
        """Chained hashes of the full blocks hashed so far."""
        self.num_published_blocks = 0
        """Blocks already findable by other requests' prefixes."""
        self.num_cached_tokens = 0
        """Prompt tokens that came from the prefix cache at first admission."""

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def prompt_token_ids(self) -> list[int]:
        return self.token_ids[: self.num_prompt_tokens]

    @property
    def output_token_ids(self) -> list[int]:
        return self.token_ids[self.num_prompt_tokens :]

    def __repr__(self) -> str:
        return (
            f"Request({self.request_id!r}, {self.status.name}, "
            f"{self.num_computed_tokens}/{self.num_tokens} tokens computed)"
        )
