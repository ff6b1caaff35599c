"""Which steps are captured as CUDA graphs, and which graph runs a given step. Pure.

A graph is one launch for a whole step, but its shapes are frozen: a graph serves every step with at
most as many tokens and requests, and contexts at most as long, as it was captured for. Padding
tokens cost rows of the matrix products, longer contexts wider block tables, which are copied in
every step: 256 rows of 131,072 tokens are 8 MiB. So there is a graph for each of several sizes, and
for each of a few context lengths.

Up to some 200 rows the weights bound the time of a step, so padding by a quarter costs nothing that
can be measured. Steps with prompts in them are captured up to 1,024 tokens: beyond, they compute
longer than it takes to launch them (20 ms for an 8 B model).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

FIRST_LENGTH = 4096
LENGTH_FACTOR = 8
"""Bounds of 4,096, 32,768, ... tokens: tables of 256 and 2,048 columns where blocks hold 16."""
DENSE_LENGTH = 32768
"""Up to this context length there is a graph for every batch size, above it for powers of two:
with longer contexts fewer requests fit the memory, and a step is long."""
MIXED_SIZES = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Tokens of steps with prompts."""


@dataclass(frozen=True, slots=True, order=True)
class GraphBucket:
    """What one graph was captured for: bounds of a step."""

    num_tokens: int
    num_reqs: int
    max_query_len: int
    """Tokens of one request in the step; 1: all are decodes."""
    max_seq_len: int

    @classmethod
    def decodes(cls, num_reqs: int, *, max_seq_len: int) -> GraphBucket:
        return cls(num_reqs, num_reqs, 1, max_seq_len)

    @classmethod
    def mixed(cls, num_tokens: int, *, max_num_seqs: int, max_seq_len: int) -> GraphBucket:
        return cls(num_tokens, min(num_tokens, max_num_seqs), num_tokens, max_seq_len)

    @property
    def is_mixed(self) -> bool:
        return self.max_query_len > 1

    @property
    def table_size(self) -> int:
        """What the block tables grow with; requests times tokens."""
        return self.num_reqs * self.max_seq_len


def batch_sizes(max_num_seqs: int) -> list[int]:
    """1, 2, 4, 8, 16, ... 64, 80, ... 128, 160, ... 256, 320, ..., and `max_num_seqs` itself."""
    fine = [1, 2, 4, *range(8, 64, 8), *range(64, 128, 16), *range(128, 256, 32)]
    sizes = [*fine, *range(256, max_num_seqs, 64)]
    return [size for size in sizes if size < max_num_seqs] + [max_num_seqs]


def length_bounds(max_model_len: int) -> list[int]:
    """4,096, 32,768, ... and `max_model_len` itself; ascending."""
    bounds, bound = [], FIRST_LENGTH
    while bound < max_model_len:
        bounds.append(bound)
        bound *= LENGTH_FACTOR
    return [*bounds, max_model_len]


def capture_order(
    *, max_num_seqs: int, max_num_batched_tokens: int, max_model_len: int
) -> list[GraphBucket]:
    """All graphs worth having, the most useful first: capturing may be cut off at any point.

    First a few batch sizes at the full length, which hold every decode step there is; then all
    sizes and the mixed steps at each bound, short contexts first. Sizes descend, so that the memory
    of one graph serves the next.
    """
    sizes = batch_sizes(max_num_seqs)[::-1]
    coarse = [size for size in sizes if size & (size - 1) == 0 or size == max_num_seqs]
    mixed = [size for size in MIXED_SIZES[::-1] if size <= max_num_batched_tokens]
    bounds = length_bounds(max_model_len)
    order = [GraphBucket.decodes(size, max_seq_len=bounds[-1]) for size in coarse]
    for bound in bounds:
        of_bound = sizes if bound <= DENSE_LENGTH else coarse
        order += [GraphBucket.decodes(size, max_seq_len=bound) for size in of_bound]
        order += [
            GraphBucket.mixed(size, max_num_seqs=max_num_seqs, max_seq_len=bound) for size in mixed
        ]
    return list(dict.fromkeys(order))


class BucketTable:
    """The buckets that were captured, ready to be searched in every step."""

    def __init__(self, captured: Iterable[GraphBucket]) -> None:
        self._of_lengths: dict[bool, dict[int, list[GraphBucket]]] = {False: {}, True: {}}
        for bucket in sorted(captured):
            of_kind = self._of_lengths[bucket.is_mixed]
            of_kind.setdefault(bucket.max_seq_len, []).append(bucket)

    def find(
        self, *, num_tokens: int, num_reqs: int, max_query_len: int, max_seq_len: int
    ) -> GraphBucket | None:
        """The one with the smallest tables that holds a step; None: it runs without a graph."""
        best: GraphBucket | None = None
        for length, buckets in self._of_lengths[max_query_len > 1].items():
            place = bisect_left(buckets, num_tokens, key=lambda bucket: bucket.num_tokens)
            if length < max_seq_len or place == len(buckets):
                continue
            bucket = buckets[place]
            if num_reqs <= bucket.num_reqs and (
                best is None or bucket.table_size < best.table_size
            ):
                best = bucket
        return best


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureLimits:
    """When capturing stops, whatever is still in the order."""

    seconds: float = 20.0
    num_bytes: int = 2 << 30

    def allow(self, *, elapsed_s: float, used_bytes: int, num_captured: int) -> bool:
        """Whether one more graph may be captured, if it costs what the others did on average."""
        if num_captured == 0:
            return True
        share = 1 + 1 / num_captured
        return elapsed_s * share <= self.seconds and used_bytes * share <= self.num_bytes
