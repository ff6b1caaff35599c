"""The same requests through transformers' continuous batching, on a model of the same shape."""

from __future__ import annotations

import gc
import logging
import time
from typing import Any

import torch

from .llama_8b import CONFIG


def measure_transformers(
    device: torch.device,
    *,
    prompts: list[list[int]],
    output_len: int,
    limit_s: float,
    max_requests_per_batch: int | None = None,
) -> dict[str, Any]:
    """Output tokens a second; after `limit_s` seconds what has come by then is the figure.

    Attention is what transformers finds by itself: FlashAttention where it is installed, else
    torch's SDPA over the gathered pages of all requests, whose cost grows with the square of their
    number: there `max_requests_per_batch` helps it. CUDA graphs and double buffering are its own
    choice.
    """
    import transformers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.generation.configuration_utils import ContinuousBatchingConfig
    from transformers.generation.continuous_batching.utils import WorkloadHints

    logging.getLogger("transformers").setLevel(logging.ERROR)
    config = LlamaConfig(**CONFIG)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
        model.eval()
    finally:
        torch.set_default_dtype(before)
    generation = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=output_len, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    hints = WorkloadHints(
        max_prompt_length=max(map(len, prompts)),
        max_generated_length=output_len,
        num_requests=len(prompts),
    )
    num_tokens: dict[str, int] = {}
    with model.continuous_batching_context_manager(
        generation_config=generation,
        continuous_batching_config=ContinuousBatchingConfig(
            max_requests_per_batch=max_requests_per_batch
        ),
        block=True,
        timeout=5,
        workload_hints=hints,
    ) as manager:
        started = time.perf_counter()
        ids = manager.add_requests(inputs=prompts, max_new_tokens=output_len, streaming=True)
        finished = 0
        while finished < len(ids) and time.perf_counter() - started < limit_s:
            result = manager.get_result(timeout=1)
            if result is None:
                if not manager.is_running():
                    break
                continue
            if result.error is not None:
                raise RuntimeError(f"transformers failed: {result.error}")
            num_tokens[result.request_id] = len(result.generated_tokens)
            finished += result.is_finished()
        seconds = time.perf_counter() - started
        manager.stop(block=True, timeout=10, hard_stop=True)
    figures = {
        "version": transformers.__version__,
        "attention": str(model.config._attn_implementation),
        "max_requests_per_batch": max_requests_per_batch,
        "seconds": round(seconds, 2),
        "finished": finished,
        "output_tokens_per_s": round(sum(num_tokens.values()) / seconds),
    }
    del model, manager
    gc.collect()
    torch.cuda.empty_cache()
    return figures
