"""OpenVINO GenAI without a server. Runs in an environment of its own, without Shoal.

    python openvino_offline.py MODEL.gguf --seed 0 --num-requests 64 --input-tokens 128 \
        --output-tokens 128

Prints two JSON lines: `{"load_s": ..., "version": ...}` when the model is loaded and warm, then
`{"wall_s": ..., "output_tokens": ..., "output_tokens_per_s": ...}`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-not-found]
import openvino_genai as genai  # type: ignore[import-not-found]

LOWEST_ID, HIGHEST_ID = 1_000, 40_000


def prompts(rng: random.Random, num_requests: int, num_tokens: int) -> list[Any]:
    """Random token ids, as the servers get them."""
    rows = [[rng.randrange(LOWEST_ID, HIGHEST_ID) for _ in range(num_tokens)]
            for _ in range(num_requests)]  # fmt: skip
    return [ov.Tensor(np.array([row], dtype=np.int64)) for row in rows]


def answer_config(max_tokens: int) -> Any:
    config = genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.ignore_eos = True
    config.do_sample = False
    return config


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-requests", type=int, default=64)
    parser.add_argument("--input-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=128)
    args = parser.parse_args()
    rng = random.Random(args.seed)

    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 2  # GiB
    scheduler.max_num_seqs = 64
    scheduler.max_num_batched_tokens = 2048
    scheduler.enable_prefix_caching = True
    scheduler.dynamic_split_fuse = True
    start = time.perf_counter()
    pipeline = genai.ContinuousBatchingPipeline(args.model, scheduler, "CPU")
    load_s = time.perf_counter() - start
    pipeline.generate(prompts(rng, 4, args.input_tokens), [answer_config(8)] * 4)
    print(json.dumps({"load_s": round(load_s, 3), "version": genai.__version__}), flush=True)

    requests = prompts(rng, args.num_requests, args.input_tokens)
    start = time.perf_counter()
    answers = pipeline.generate(requests, [answer_config(args.output_tokens)] * len(requests))
    wall_s = time.perf_counter() - start
    num_output = sum(len(ids) for answer in answers for ids in answer.m_generation_ids)
    figures = {
        "wall_s": round(wall_s, 3),
        "output_tokens": num_output,
        "output_tokens_per_s": round(num_output / wall_s, 2),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
