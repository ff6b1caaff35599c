from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.output import ModelRunnerOutput
from shoal.engine.runner import torch_backend
from shoal.engine.runner.model_runner import PagedModelRunner
from shoal.engine.runner.torch_backend import TorchBackend
from tests.engine.runner.fake_model import VOCAB, FakeModel, expected_tokens
from tests.engine.runner.plans import make_new
from tests.engine.runner.steps import make_step


def make_runner(
    model: FakeModel | None = None, *, num_blocks: int = 40, max_num_seqs: int = 8, **options: Any
) -> PagedModelRunner:
    """Blocks of 4 tokens, at most 64 tokens a request."""
    model = model if model is not None else FakeModel()
    cache = CacheConfig(num_blocks=num_blocks, block_size=4, groups=model.config.kv_groups)
    config = SchedulerConfig(max_num_seqs=max_num_seqs, max_num_batched_tokens=16, max_model_len=64)
    backend = TorchBackend(model, cache=cache, device=torch.device("cpu"), dtype=torch.float32)
    return PagedModelRunner(backend, cache=cache, scheduler=config, **options)


def tokens_of(output: ModelRunnerOutput) -> dict[str, list[int]]:
    return dict(zip(output.req_ids, output.sampled_token_ids, strict=True))


PROMPT = [5, 9, 2, 7, 1, 8, 30, 60, 0, 11]
BLOCKS = [[4, 9, 2, 17, 1]]  # 20 tokens in a jumbled order


def greedy(request_id: str = "a", prompt: Sequence[int] = PROMPT, **changes: Any) -> Any:
    return make_new(
        prompt, request_id=request_id, **{"temperature": 0.0, "block_ids": BLOCKS, **changes}
    )


def test_a_prefill_and_decodes() -> None:
    runner = make_runner()
    outputs = tokens_of(runner.execute_model(make_step({"a": 10}, new=[greedy()])))["a"]
    for _ in range(5):
        outputs += tokens_of(runner.execute_model(make_step({"a": 1})))["a"]
    assert outputs == expected_tokens(PROMPT, 6)


@pytest.mark.parametrize("chunks", [[1] * 10, [3, 7], [4, 4, 2], [9, 1]])
def test_chunks_of_a_prefill_sample_at_the_end_only(chunks: list[int]) -> None:
    runner = make_runner()
    outputs = []
    for i, chunk in enumerate(chunks):
        new = [greedy()] if i == 0 else []
        outputs.append(tokens_of(runner.execute_model(make_step({"a": chunk}, new=new)))["a"])
    assert outputs[:-1] == [[]] * (len(chunks) - 1)
    assert outputs[-1] == expected_tokens(PROMPT, 1)


def test_decodes_and_a_chunk_share_a_step() -> None:
    runner = make_runner()
    others = [3, 1, 4, 1, 5]
    runner.execute_model(make_step({"a": 10}, new=[greedy()]))
    new = greedy("b", others, block_ids=[[30, 31]])
    first = tokens_of(runner.execute_model(make_step({"a": 1, "b": 3}, new=[new])))
    second = tokens_of(runner.execute_model(make_step({"a": 1, "b": 2})))
    assert [first["b"], second["b"]] == [[], expected_tokens(others, 1)]
    assert first["a"] + second["a"] == expected_tokens(PROMPT, 3)[1:]


def test_logits_are_computed_for_sampling_rows_only() -> None:
    model = FakeModel()
    runner = make_runner(model)
    runner.execute_model(make_step({"a": 9}, new=[greedy()]))
    assert model.num_logit_rows == 0
    runner.execute_model(make_step({"a": 1}))
    assert model.num_logit_rows == 1


def test_blocks_arrive_as_the_request_grows() -> None:
    runner = make_runner()
    outputs = tokens_of(
        runner.execute_model(make_step({"a": 10}, new=[greedy(block_ids=[[7, 3, 5]])]))
    )["a"]
    for _ in range(2):
        outputs += tokens_of(runner.execute_model(make_step({"a": 1})))["a"]
    grown = make_step({"a": 1}, new_block_ids={"a": [[2]]})
    outputs += tokens_of(runner.execute_model(grown))["a"]
    assert outputs == expected_tokens(PROMPT, 4)


def test_a_step_without_work_still_forgets_rows() -> None:
    runner = make_runner(max_num_seqs=1)
    runner.execute_model(make_step({"a": 10}, new=[greedy()]))
    assert runner.execute_model(make_step(finished=["a"])).req_ids == []
    output = runner.execute_model(make_step({"b": 10}, new=[greedy("b")]))
    assert tokens_of(output)["b"] == expected_tokens(PROMPT, 1)


def test_a_finished_id_may_come_back_in_the_same_step() -> None:
    runner = make_runner(max_num_seqs=1)
    runner.execute_model(make_step({"a": 10}, new=[greedy()]))
    again = greedy(prompt=[1, 2, 3])
    output = runner.execute_model(make_step({"a": 3}, new=[again], finished=["a"]))
    assert tokens_of(output)["a"] == expected_tokens([1, 2, 3], 1)


def test_a_preempted_request_resumes_with_its_outputs() -> None:
    runner = make_runner()
    outputs = tokens_of(runner.execute_model(make_step({"a": 10}, new=[greedy()])))["a"]
    outputs += tokens_of(runner.execute_model(make_step({"a": 1})))["a"]
    runner.execute_model(make_step(preempted=["a"]))
    resumed = make_new(
        PROMPT, outputs, request_id="a", temperature=0.0, block_ids=[[20, 21, 22, 23]]
    )
    outputs += tokens_of(runner.execute_model(make_step({"a": 12}, new=[resumed])))["a"]
    assert outputs == expected_tokens(PROMPT, 3)


def test_sampling_is_the_same_after_a_preemption() -> None:
    def start(output: Sequence[int] = ()) -> Any:
        return make_new(PROMPT, output, request_id="a", seed=5, temperature=3.0, block_ids=BLOCKS)

    undisturbed, runner = make_runner(), make_runner()
    expected = tokens_of(undisturbed.execute_model(make_step({"a": 10}, new=[start()])))["a"]
    for _ in range(4):
        expected += tokens_of(undisturbed.execute_model(make_step({"a": 1})))["a"]
    outputs = tokens_of(runner.execute_model(make_step({"a": 10}, new=[start()])))["a"]
    for _ in range(4):
        num_tokens = len(PROMPT) + len(outputs)
        runner.execute_model(make_step(preempted=["a"]))
        outputs += tokens_of(
            runner.execute_model(make_step({"a": num_tokens}, new=[start(outputs)]))
        )["a"]
    assert outputs == expected
    assert len(set(outputs)) > 1


def test_requests_that_share_a_prefix_block_may_fill_it_in_the_same_step() -> None:
    runner = make_runner()
    second = greedy("b", num_computed_tokens=8, block_ids=[[4, 9, 30]])
    output = runner.execute_model(make_step({"a": 10, "b": 2}, new=[greedy(), second]))
    assert tokens_of(output)["b"] == tokens_of(output)["a"] == expected_tokens(PROMPT, 1)


def test_logprobs_of_outputs() -> None:
    runner = make_runner()
    output = runner.execute_model(make_step({"a": 10}, new=[greedy(logprobs=2)]))
    (report,) = output.logprobs["a"]
    best = output.sampled_token_ids[0][0]
    norm = math.log(sum(math.exp(-i) for i in range(VOCAB)))
    assert report.token_ids == [best, best, (best + 1) % VOCAB]
    assert report.logprobs == pytest.approx([-norm, -norm, -1 - norm], abs=1e-5)
    assert report.rank == 1


@pytest.mark.parametrize("chunks", [[10], [4, 6], [9, 1], [1] * 10])
def test_prompt_logprobs_come_once_in_prompt_order(
    chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_backend, "LOGITS_BYTES", 3 * VOCAB * 4)
    model = FakeModel()
    runner = make_runner(model)
    reports = []
    for i, chunk in enumerate(chunks):
        new = [greedy(prompt_logprobs=1)] if i == 0 else []
        reports.append(runner.execute_model(make_step({"a": chunk}, new=new)).prompt_logprobs)
    reports.append(runner.execute_model(make_step({"a": 1})).prompt_logprobs)
    assert reports[:-2] == [{}] * (len(chunks) - 1)
    assert reports[-1] == {}
    (collected,) = reports[-2].values()
    assert [report.token_ids[0] for report in collected] == PROMPT[1:]
    for i, report in enumerate(collected):
        assert report.token_ids[1:] == expected_tokens(PROMPT[: i + 1], 1)
        assert report.rank == 1 + (report.token_ids[0] - report.token_ids[1]) % VOCAB
    assert model.num_logit_rows <= 3


def test_prompt_logprobs_are_reported_once_despite_preemptions() -> None:
    runner = make_runner()
    runner.execute_model(make_step({"a": 6}, new=[greedy(prompt_logprobs=0)]))
    again = make_step({"a": 10}, new=[greedy(prompt_logprobs=0)], preempted=["a"])
    first = runner.execute_model(again)
    assert len(first.prompt_logprobs["a"]) == 9
    resumed = make_new(
        PROMPT, first.sampled_token_ids[0], request_id="a", prompt_logprobs=0, block_ids=BLOCKS
    )
    later = runner.execute_model(make_step({"a": 11}, new=[resumed], preempted=["a"]))
    assert later.prompt_logprobs == {}


class BrokenModel(FakeModel):
    """Gives NaN to the second row of logits."""

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = super().compute_logits(hidden)
        logits[1] = math.nan
        return logits


def test_broken_logits_are_told_once_per_request_and_harm_nobody_else() -> None:
    told: list[str] = []
    runner = make_runner(BrokenModel(), on_broken_logits=told.append)
    new = [greedy("a"), greedy("b", [1, 2], block_ids=[[30]])]
    runner.execute_model(make_step({"a": 10, "b": 2}, new=new))
    output = runner.execute_model(make_step({"a": 1, "b": 1}))
    assert told == ["b"]
    again = greedy("b", [1, 2], block_ids=[[30]])
    runner.execute_model(make_step({"a": 1, "b": 2}, new=[again], finished=["b"]))
    assert told == ["b", "b"]
    assert tokens_of(output)["a"] == expected_tokens(PROMPT, 2)[1:]
