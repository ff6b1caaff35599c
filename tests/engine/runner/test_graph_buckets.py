from __future__ import annotations

import pytest

from shoal.engine.runner.graph_buckets import (
    BucketTable,
    CaptureLimits,
    GraphBucket,
    batch_sizes,
    capture_order,
    length_bounds,
)


@pytest.mark.parametrize(
    ("max_num_seqs", "sizes"),
    [
        (1, [1]),
        (3, [1, 2, 3]),
        (8, [1, 2, 4, 8]),
        (20, [1, 2, 4, 8, 16, 20]),
        (256, [1, 2, 4, *range(8, 257, 8)]),
        (300, [1, 2, 4, *range(8, 257, 8), 272, 288, 300]),
    ],
)
def test_batch_sizes(max_num_seqs: int, sizes: list[int]) -> None:
    assert batch_sizes(max_num_seqs) == sizes


@pytest.mark.parametrize(
    ("max_model_len", "bounds"),
    [
        (1, [1]),
        (4096, [4096]),
        (4097, [4096, 4097]),
        (131_072, [4096, 32_768, 131_072]),
        (1_000_000, [4096, 32_768, 262_144, 1_000_000]),
    ],
)
def test_length_bounds(max_model_len: int, bounds: list[int]) -> None:
    assert length_bounds(max_model_len) == bounds


def test_a_short_model_has_one_graph_a_batch_size() -> None:
    order = capture_order(24, 2048)
    assert order == [
        *(GraphBucket(size, 2048) for size in (24, 16, 8, 4, 2, 1)),
    ]


def test_what_holds_every_step_is_captured_first() -> None:
    order = capture_order(256, 131_072)
    sizes = [256, 128, 64, 32, 16, 8, 4, 2, 1]
    assert order[: len(sizes)] == [GraphBucket(size, 131_072) for size in sizes]
    assert len(order) == len(set(order)) == 9 + 35 + 35
    dense = {bucket.num_reqs for bucket in order if bucket.max_seq_len == 4096}
    assert dense == set(batch_sizes(256))


def test_every_size_is_there_at_a_middle_length_too() -> None:
    order = capture_order(40, 20_000)
    for bound in (4096, 20_000):
        assert {b.num_reqs for b in order if b.max_seq_len == bound} == set(batch_sizes(40))


@pytest.mark.parametrize(
    ("num_reqs", "max_seq_len", "expected"),
    [
        (1, 1, (8, 100)),
        (8, 100, (8, 100)),
        (8, 101, (8, 1000)),
        (9, 100, (16, 100)),
        (17, 100, (64, 1000)),  # no (64, 100): the tables of (64, 1000) it is
        (64, 1000, (64, 1000)),
        (65, 10, None),
        (1, 1001, None),
    ],
)
def test_the_smallest_graph_that_holds_a_step(
    num_reqs: int, max_seq_len: int, expected: tuple[int, int] | None
) -> None:
    captured = [(8, 100), (16, 100), (8, 1000), (64, 1000)]
    table = BucketTable(GraphBucket(*sizes) for sizes in captured)
    found = table.find(num_reqs=num_reqs, max_seq_len=max_seq_len)
    assert found == (None if expected is None else GraphBucket(*expected))


def test_longer_tables_are_better_than_many_more_rows() -> None:
    table = BucketTable([GraphBucket(256, 100), GraphBucket(8, 400)])
    assert table.find(num_reqs=4, max_seq_len=50) == GraphBucket(8, 400)


def test_without_graphs_there_is_none() -> None:
    assert BucketTable(()).find(num_reqs=1, max_seq_len=1) is None


@pytest.mark.parametrize(
    ("elapsed_s", "used_bytes", "num_captured", "allowed"),
    [
        (99.0, 99, 0, True),  # the first one in any case
        (8.0, 50, 4, True),  # a fifth would end at 10 s
        (8.1, 50, 4, False),
        (1.0, 80, 4, True),
        (1.0, 81, 4, False),
    ],
)
def test_capturing_stops_before_a_limit(
    elapsed_s: float, used_bytes: int, num_captured: int, allowed: bool
) -> None:
    limits = CaptureLimits(seconds=10.0, num_bytes=100)
    found = limits.allow(elapsed_s=elapsed_s, used_bytes=used_bytes, num_captured=num_captured)
    assert found == allowed
