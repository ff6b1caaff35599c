"""Who is refused at the door: requests that make no sense, that can never fit, or find no room."""

from __future__ import annotations

from .config import SchedulerConfig
from .kv_cache_manager import KVCacheManager
from .output import Rejection, RejectionKind
from .request import Request


def refuse_for_ever(
    request: Request, *, config: SchedulerConfig, kv: KVCacheManager
) -> Rejection | None:
    """Why a request could not run even alone, with the numbers; `max_num_tokens` is bounded."""
    if not request.token_ids:
        return Rejection(RejectionKind.INVALID, "The prompt is empty: send at least one token.")
    if request.num_prompt_tokens >= config.max_model_len:
        return Rejection(
            RejectionKind.TOO_LONG,
            f"The prompt has {request.num_prompt_tokens} tokens, but the context of this model"
            f" is {config.max_model_len} tokens and at least one is needed for the output.",
        )
    # The last sampled token is never computed, so it needs no slot.
    peak = kv.peak_blocks(min(request.max_num_tokens, config.max_model_len) - 1)
    if peak > kv.num_usable_blocks:
        return Rejection(
            RejectionKind.TOO_LONG,
            f"The request needs {peak} KV cache blocks of {kv.block_size} tokens for"
            f" {request.num_prompt_tokens} prompt tokens and up to"
            f" {min(request.max_num_tokens, config.max_model_len) - request.num_prompt_tokens}"
            f" output tokens, but the whole cache has {kv.num_usable_blocks}. Lower max_tokens,"
            f" shorten the prompt, or serve with a larger KV cache.",
        )
    return None


def refuse_id(request: Request) -> Rejection:
    """Two requests of one id could not be told apart."""
    return Rejection(
        RejectionKind.INVALID, f"The request id {request.request_id!r} is already in use."
    )


def refuse_for_now(num_waiting: int, *, head: Request | None, now: float) -> Rejection:
    """The queue is full. What its head has waited so far, a newcomer may expect too: in [1, 60]."""
    waited = 0.0 if head is None else now - head.arrival_time
    return Rejection(
        RejectionKind.QUEUE_FULL,
        f"{num_waiting} requests are waiting already, which is the limit.",
        retry_after_s=min(max(waited, 1.0), 60.0),
    )
