"""Scheduler, runner and native kernels together: in a crowd each request gets what it gets alone,
bit for bit, whatever is shared, cut, preempted and computed again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.models.config import load_config
from shoal.engine.models.native_llama import NativeLlama
from shoal.engine.models.native_loader import load_native_model
from shoal.engine.models.native_weights import Precision
from shoal.engine.runner.model_runner import PagedModelRunner
from shoal.engine.runner.native_backend import NativeBackend
from shoal.engine.sources.model_files import ModelFiles
from shoal.kernels.cpu.kv_cache import KVFormat
from tests.engine.models.test_native import SIZES
from tests.engine.models.test_parity import save_reference
from tests.kernels.cpu_library import INSTRUCTION_SETS, kernels

VOCAB = SIZES["vocab_size"]


def tiny(folder: Path, isa: str, precision: Precision) -> NativeLlama:
    save_reference("qwen2 with mixed layers", folder, sizes=SIZES)
    files = ModelFiles(name="tiny", path=folder, format="hf", source="")
    return load_native_model(
        files, load_config(files), kernels(isa), precision=precision, num_threads=2
    )


class Engine:
    """A scheduler and a runner on a cache of `num_blocks` blocks of 16 tokens."""

    def __init__(self, model: NativeLlama, *, num_blocks: int, kv_format: KVFormat) -> None:
        cache = CacheConfig(num_blocks=num_blocks, groups=model.config.kv_groups)
        config = SchedulerConfig(max_num_seqs=8, max_num_batched_tokens=40, max_model_len=128)
        self.scheduler = Scheduler(config, cache)
        self.outputs: dict[str, list[int]] = {}
        backend = NativeBackend(model, cache=cache, kv_format=kv_format)
        self._runner = PagedModelRunner(backend, cache=cache, scheduler=config)

    def add(self, request_id: str, prompt: Sequence[int], params: SamplingParams) -> None:
        request = Request(request_id, prompt, sampling_params=params, arrival_time=0.0)
        assert self.scheduler.add_request(request) is None
        self.outputs[request_id] = []

    def step(self) -> None:
        scheduled = self.scheduler.schedule(0.0)
        computed = self._runner.execute_model(scheduled)
        result = self.scheduler.update_from_output(scheduled, computed, 0.0)
        for request_id, token_ids in zip(result.req_ids, result.new_token_ids, strict=True):
            self.outputs[request_id] += token_ids

    def run(self) -> dict[str, list[int]]:
        while self.scheduler.has_unfinished_requests():
            self.step()
        self.scheduler.check_integrity()
        return self.outputs


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("precision", "kv_format"),
    [("checkpoint", "bfloat16"), ("int8", "bfloat16"), ("int8", "int8"), ("int8", "int4")],
)
def test_in_a_crowd_as_alone(
    isa: str, precision: Precision, kv_format: KVFormat, tmp_path: Path
) -> None:
    rng = random.Random(f"{precision} {kv_format}")
    model = tiny(tmp_path, isa, precision)
    crowd = Engine(model, num_blocks=30, kv_format=kv_format)
    stem = [rng.randrange(VOCAB) for _ in range(50)]
    requests = {}
    for i in range(14):
        own = [rng.randrange(VOCAB) for _ in range(rng.randint(1, 30))]
        prompt = stem[: rng.choice([0, 16, 33, 50])] + own
        params = SamplingParams(
            max_tokens=rng.randint(1, 80),
            temperature=rng.choice([0.0, 1.0]),
            seed=i,
            top_p=rng.choice([1.0, 0.9]),
            repetition_penalty=rng.choice([1.0, 1.2]),
        )
        requests[f"r{i}"] = (prompt, params)
        crowd.add(f"r{i}", prompt, params)
        for _ in range(rng.randint(0, 2)):
            crowd.step()
    together = crowd.run()
    stats = crowd.scheduler.make_stats()
    assert stats.num_preemptions > 0
    assert stats.prefix_cache_hits > 0
    for request_id, (prompt, params) in requests.items():
        alone = Engine(model, num_blocks=30, kv_format=kv_format)
        alone.add(request_id, prompt, params)
        assert alone.run()[request_id] == together[request_id], request_id


@pytest.mark.parametrize("num_done", [1, 7, 30])
def test_another_engine_goes_on_bit_for_bit(num_done: int, tmp_path: Path) -> None:
    """What a router does when a worker dies: the answer so far ends the prompt of the next one."""
    model = tiny(tmp_path, INSTRUCTION_SETS[0], "checkpoint")
    prompt = list(range(20))

    def answer(prompt: list[int], **params: int) -> list[int]:
        engine = Engine(model, num_blocks=30, kv_format="bfloat16")
        rules = SamplingParams(
            temperature=1.0, top_p=0.9, seed=3, ignore_eos=True,
            presence_penalty=0.5, frequency_penalty=0.2, repetition_penalty=1.1, **params,
        )  # fmt: skip
        engine.add("r", prompt, rules)
        return engine.run()["r"]

    whole = answer(prompt, max_tokens=40)
    done = whole[:num_done]
    rest = answer([*prompt, *done], max_tokens=40 - num_done, output_offset=num_done)
    assert done + rest == whole
    assert done + answer([*prompt, *done], max_tokens=40 - num_done) != whole
