from __future__ import annotations

import numpy as np
import pytest

from shoal.engine.runner.input_batch import InputBatch, StepInputs
from tests.engine.runner.plans import make_new
from tests.engine.runner.steps import make_step


def make_batch(*, num_groups: int = 1, max_num_seqs: int = 4) -> InputBatch:
    """Blocks of 4 tokens, 32 tokens a request."""
    return InputBatch(
        max_num_seqs=max_num_seqs,
        max_model_len=32,
        block_size=4,
        num_groups=num_groups,
    )


def sampled(inputs: StepInputs, token_id: int) -> np.ndarray:
    return np.full(int(inputs.samples.sum()), token_id)


def test_a_decode_and_a_prefill_chunk_in_one_step() -> None:
    batch = make_batch()
    batch.add(
        make_new([10, 11, 12, 13, 14], request_id="d", num_computed_tokens=4, block_ids=[[3, 5]])
    )
    batch.add(make_new(range(20, 30), request_id="p", num_computed_tokens=2, block_ids=[[7, 2]]))
    inputs = batch.prepare(make_step({"d": 1, "p": 5}))
    assert inputs.req_ids == ["d", "p"]
    assert inputs.input_ids.tolist() == [14, 22, 23, 24, 25, 26]
    assert inputs.positions.tolist() == [4, 2, 3, 4, 5, 6]
    assert inputs.slot_mapping[0].tolist() == [20, 30, 31, 8, 9, 10]
    assert inputs.block_tables[0].tolist() == [[3, 5], [7, 2]]
    assert inputs.query_lens.tolist() == [1, 5]
    assert inputs.seq_lens.tolist() == [5, 7]
    assert inputs.samples.tolist() == [True, False]
    assert inputs.last_tokens.tolist() == [0, 5]


def test_types_are_what_the_kernels_take() -> None:
    batch = make_batch()
    batch.add(make_new([1, 2], request_id="a", block_ids=[[1]]))
    inputs = batch.prepare(make_step({"a": 2}))
    assert inputs.input_ids.dtype == inputs.positions.dtype == np.int64
    assert inputs.slot_mapping[0].dtype == np.int64
    assert inputs.block_tables[0].dtype == np.int32


def test_progress_and_samples_are_booked() -> None:
    batch = make_batch()
    batch.add(make_new([1, 2, 3], request_id="a", block_ids=[[1]]))
    inputs = batch.prepare(make_step({"a": 2}))
    batch.fill(batch.advance(inputs), sampled(inputs, 0))
    inputs = batch.prepare(make_step({"a": 1}))
    assert (inputs.input_ids.tolist(), inputs.samples.tolist()) == ([3], [True])
    batch.fill(batch.advance(inputs), sampled(inputs, 77))
    inputs = batch.prepare(make_step({"a": 1}))
    assert (inputs.input_ids.tolist(), inputs.positions.tolist()) == ([77], [3])


def test_blocks_are_appended_per_group() -> None:
    batch = make_batch(num_groups=2)
    batch.add(make_new([1] * 5, request_id="a", num_computed_tokens=4, block_ids=[[1, 2], [0, 3]]))
    batch.append_blocks("a", [[4], [5]])
    batch.append_blocks("a", [[6, 8], [7, 9]])
    inputs = batch.prepare(make_step({"a": 1}))
    assert [table.tolist() for table in inputs.block_tables] == [[[1, 2]], [[0, 3]]]
    assert [slots.tolist() for slots in inputs.slot_mapping] == [[8], [12]]
    batch.num_computed_tokens[0] = 19
    inputs = batch.prepare(make_step({"a": 1}))
    assert inputs.block_tables[0].tolist() == [[1, 2, 4, 6, 8]]
    assert inputs.block_tables[1].tolist() == [[0, 3, 5, 7, 9]]


def test_a_reused_row_remembers_nothing() -> None:
    batch = make_batch(max_num_seqs=1)
    batch.add(make_new(range(12), request_id="old", num_computed_tokens=11, block_ids=[[9, 9, 9]]))
    batch.remove(["old"])
    batch.add(make_new([5], request_id="new", block_ids=[[2]]))
    inputs = batch.prepare(make_step({"new": 1}))
    assert inputs.input_ids.tolist() == [5]
    assert inputs.block_tables[0].tolist() == [[2]]
    batch.append_blocks("new", [[3]])
    batch.num_computed_tokens[0] = 5
    assert batch.prepare(make_step({"new": 1})).block_tables[0].tolist() == [[2, 3]]


def test_a_short_table_is_padded_with_the_null_block() -> None:
    batch = make_batch(max_num_seqs=2)
    batch.add(make_new(range(12), request_id="old", num_computed_tokens=11, block_ids=[[9, 9, 9]]))
    batch.remove(["old"])
    batch.add(make_new([5], request_id="short", block_ids=[[2]]))
    batch.add(make_new(range(9), request_id="long", num_computed_tokens=8, block_ids=[[3, 4, 5]]))
    inputs = batch.prepare(make_step({"short": 1, "long": 1}))
    assert inputs.block_tables[0].tolist() == [[2, 0, 0], [3, 4, 5]]


def test_the_same_ids_may_have_other_rows() -> None:
    batch = make_batch(max_num_seqs=2)
    for request_id, token in (("a", 7), ("b", 8)):
        batch.add(make_new([token], request_id=request_id, block_ids=[[1]]))
    assert batch.prepare(make_step({"a": 1, "b": 1})).input_ids.tolist() == [7, 8]
    batch.remove(["b", "a"])
    for request_id, token in (("b", 9), ("a", 6)):
        batch.add(make_new([token], request_id=request_id, block_ids=[[1]]))
    batch.remove(["a"])
    batch.add(make_new([5], request_id="a", block_ids=[[1]]))
    assert batch.prepare(make_step({"a": 1, "b": 1})).input_ids.tolist() == [5, 9]


def test_blocks_of_many_requests_are_appended_at_once() -> None:
    batch = make_batch(num_groups=2)
    for request_id, tables in (("a", [[1], [2]]), ("b", [[3, 4], [5, 6]])):
        batch.add(make_new(range(9), request_id=request_id, block_ids=tables))
    batch.append_all({"b": [[7], [8]], "a": [[9], [10]]})
    batch.append_all({"a": [[11, 12], [13, 14]], "b": [[15], [16]]})
    batch.num_computed_tokens[:2] = [12, 12]
    first, second = batch.prepare(make_step({"a": 1, "b": 1})).block_tables
    assert first.tolist() == [[1, 9, 11, 12], [3, 4, 7, 15]]
    assert second.tolist() == [[2, 10, 13, 14], [5, 6, 8, 16]]


def test_the_order_is_the_schedulers() -> None:
    batch = make_batch()
    for i, request_id in enumerate("abc"):
        batch.add(make_new([i], request_id=request_id, block_ids=[[i + 1]]))
    inputs = batch.prepare(make_step({"c": 1, "a": 1}))
    assert inputs.input_ids.tolist() == [2, 0]
    assert inputs.block_tables[0].tolist() == [[3], [1]]


def test_a_request_may_fill_the_whole_row() -> None:
    batch = make_batch()
    batch.add(
        make_new([1] * 31, request_id="a", num_computed_tokens=30, block_ids=[list(range(1, 9))])
    )
    inputs = batch.prepare(make_step({"a": 1}))
    batch.fill(batch.advance(inputs), sampled(inputs, 7))
    assert batch.history.num_tokens[0] == 32


def test_a_token_that_is_not_known_yet_is_taken_from_the_step_before() -> None:
    batch = make_batch()
    batch.add(make_new([1, 2], request_id="p", block_ids=[[1]]))
    batch.add(make_new([3, 4, 5], request_id="a", num_computed_tokens=2, block_ids=[[2, 5]]))
    batch.add(make_new([6], request_id="b", block_ids=[[3]]))
    first = batch.prepare(make_step({"p": 1, "a": 1, "b": 1}))
    assert first.sampled_before is None
    pending = batch.advance(first)
    batch.add(make_new([8, 9], request_id="new", block_ids=[[4]]))
    inputs = batch.prepare(make_step({"b": 1, "a": 1, "p": 1, "new": 2}))
    assert inputs.sampled_before is not None
    assert inputs.sampled_before.tolist() == [1, 0, -1, -1, -1]
    assert inputs.positions.tolist() == [1, 3, 1, 0, 1]
    assert inputs.samples.tolist() == [True] * 4
    batch.fill(pending, np.array([70, 71]))
    inputs = batch.prepare(make_step({"b": 1, "a": 1}))
    assert inputs.sampled_before is None
    assert inputs.input_ids.tolist() == [71, 70]


def test_a_step_takes_only_from_the_one_before_it() -> None:
    batch = make_batch()
    for request_id, block in (("a", 1), ("b", 2)):
        batch.add(make_new([1], request_id=request_id, block_ids=[[block]]))
    first = batch.advance(batch.prepare(make_step({"a": 1, "b": 1})))
    second = batch.advance(batch.prepare(make_step({"b": 1})))
    batch.fill(first, np.array([50, 60]))
    inputs = batch.prepare(make_step({"a": 1, "b": 1}))
    assert inputs.sampled_before is not None
    assert inputs.sampled_before.tolist() == [-1, 0]
    assert inputs.input_ids[0] == 50
    batch.fill(second, np.array([61]))
    assert batch.history.token_ids[1, :3].tolist() == [1, 60, 61]


def test_a_late_token_does_not_fall_into_a_row_that_was_left() -> None:
    batch = make_batch(max_num_seqs=2)
    batch.add(make_new([1], request_id="gone", block_ids=[[1]]))
    batch.add(make_new([1], request_id="stays", block_ids=[[2]]))
    pending = batch.advance(batch.prepare(make_step({"gone": 1, "stays": 1})))
    batch.remove(["gone"])
    batch.add(make_new([5, 6, 7], request_id="new", block_ids=[[3]]))
    inputs = batch.prepare(make_step({"stays": 1, "new": 3}))
    assert inputs.sampled_before is not None
    assert inputs.sampled_before.tolist() == [1, -1, -1, -1]
    batch.fill(pending, np.array([50, 60]))
    inputs = batch.prepare(make_step({"stays": 1, "new": 3}))
    assert inputs.input_ids.tolist() == [60, 5, 6, 7]


def test_unknown_requests_are_an_error() -> None:
    with pytest.raises(KeyError):
        make_batch().remove(["nobody"])
