from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.engine.runner.graph_buckets import (
    MIXED_SIZES,
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
        (96, [1, 2, 4, *range(8, 65, 8), 80, 96]),
        (256, [1, 2, 4, *range(8, 65, 8), 80, 96, 112, 128, 160, 192, 224, 256]),
        (300, [1, 2, 4, *range(8, 65, 8), 80, 96, 112, 128, 160, 192, 224, 256, 300]),
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


def order_of(
    max_num_seqs: int, max_model_len: int, max_num_batched_tokens: int = 8192
) -> list[GraphBucket]:
    return capture_order(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=max_model_len,
    )


def test_a_short_model_has_one_graph_a_size() -> None:
    order = order_of(24, 2048, 40)
    assert order == [
        *(GraphBucket.decodes(size, max_seq_len=2048) for size in (24, 16, 8, 4, 2, 1)),
        GraphBucket(num_tokens=32, num_reqs=24, max_query_len=32, max_seq_len=2048),
        GraphBucket(num_tokens=16, num_reqs=16, max_query_len=16, max_seq_len=2048),
    ]


def test_what_holds_every_decode_step_is_captured_first() -> None:
    order = order_of(256, 131_072)
    sizes = [256, 128, 64, 32, 16, 8, 4, 2, 1]
    assert order[: len(sizes)] == [GraphBucket.decodes(n, max_seq_len=131_072) for n in sizes]
    assert len(order) == len(set(order)) == 9 + 2 * 19 + 3 * len(MIXED_SIZES)
    dense = {b.num_reqs for b in order if b.max_seq_len == 4096 and not b.is_mixed}
    assert dense == set(batch_sizes(256))


def test_every_size_is_there_at_a_middle_length_too() -> None:
    order = order_of(40, 20_000)
    for bound in (4096, 20_000):
        found = {b.num_reqs for b in order if b.max_seq_len == bound and not b.is_mixed}
        assert found == set(batch_sizes(40))


DECODES = ((8, 100), (16, 100), (8, 1000), (64, 1000))
MIXED = ((16, 100), (128, 100), (128, 1000))
CAPTURED = [
    *(GraphBucket.decodes(n, max_seq_len=m) for n, m in DECODES),
    *(GraphBucket.mixed(n, max_num_seqs=64, max_seq_len=m) for n, m in MIXED),
]


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
def test_the_smallest_graph_that_holds_a_decode_step(
    num_reqs: int, max_seq_len: int, expected: tuple[int, int] | None
) -> None:
    found = BucketTable(CAPTURED).find(
        num_tokens=num_reqs, num_reqs=num_reqs, max_query_len=1, max_seq_len=max_seq_len
    )
    if expected is None:
        assert found is None
    else:
        assert found == GraphBucket.decodes(expected[0], max_seq_len=expected[1])


@pytest.mark.parametrize(
    ("num_tokens", "num_reqs", "max_seq_len", "expected"),
    [
        (2, 1, 2, (16, 100)),
        (16, 1, 100, (16, 100)),
        (17, 16, 20, (128, 100)),
        (17, 16, 101, (128, 1000)),
        (128, 64, 1000, (128, 1000)),
        (128, 65, 100, None),
        (129, 1, 129, None),
        (20, 2, 1001, None),
    ],
)
def test_the_smallest_graph_that_holds_a_step_with_prompts(
    num_tokens: int, num_reqs: int, max_seq_len: int, expected: tuple[int, int] | None
) -> None:
    found = BucketTable(CAPTURED).find(
        num_tokens=num_tokens,
        num_reqs=num_reqs,
        max_query_len=num_tokens - num_reqs + 1,
        max_seq_len=max_seq_len,
    )
    if expected is None:
        assert found is None
    else:
        assert found == GraphBucket.mixed(expected[0], max_num_seqs=64, max_seq_len=expected[1])


@given(num_reqs=st.integers(1, 256), extra=st.integers(0, 256), max_seq_len=st.integers(1, 9000))
def test_a_graph_holds_what_it_is_found_for(num_reqs: int, extra: int, max_seq_len: int) -> None:
    bucket = BucketTable(order_of(256, 9000)).find(
        num_tokens=num_reqs + extra,
        num_reqs=num_reqs,
        max_query_len=1 + extra,
        max_seq_len=max_seq_len,
    )
    assert bucket is not None
    assert bucket.num_tokens >= num_reqs + extra
    assert bucket.num_reqs >= num_reqs
    assert bucket.max_query_len >= 1 + extra
    assert bucket.max_seq_len >= max_seq_len
    if not extra:
        assert bucket.num_tokens - num_reqs <= max(7, num_reqs // 4)


def test_longer_tables_are_better_than_many_more_rows() -> None:
    few = GraphBucket.decodes(8, max_seq_len=400)
    table = BucketTable([GraphBucket.decodes(256, max_seq_len=100), few])
    assert table.find(num_tokens=4, num_reqs=4, max_query_len=1, max_seq_len=50) == few


def test_without_graphs_there_is_none() -> None:
    table = BucketTable(())
    assert table.find(num_tokens=1, num_reqs=1, max_query_len=1, max_seq_len=1) is None


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
