"""Which decode steps are captured as CUDA graphs, and which graph runs a given step. Pure.

A graph is one launch for a whole step, but its shapes are frozen: a graph serves every decode step
with at most as many requests, and contexts at most as long, as it was captured for. More requests
cost padding rows, longer contexts wider block tables, which are copied in every step: 256 rows of
131,072 tokens are 8 MiB. So there is a graph for each of several batch sizes (vLLM's: 1, 2, 4, then
steps of 8), and for each of a few context lengths.
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


@dataclass(frozen=True, slots=True, order=True)
class GraphBucket:
    """What one graph was captured for: at most so many requests, none longer than that."""

    num_reqs: int
    max_seq_len: int

    @property
    def table_size(self) -> int:
        """What the block tables grow with; requests times tokens."""
        return self.num_reqs * self.max_seq_len


def batch_sizes(max_num_seqs: int) -> list[int]:
    """1, 2, 4, 8, 16, 24, ... 256, then steps of 16, and `max_num_seqs` itself; ascending."""
    sizes = [1, 2, 4, *range(8, 257, 8), *range(272, max_num_seqs, 16)]
    return [size for size in sizes if size < max_num_seqs] + [max_num_seqs]


def length_bounds(max_model_len: int) -> list[int]:
    """4,096, 32,768, ... and `max_model_len` itself; ascending."""
    bounds, bound = [], FIRST_LENGTH
    while bound < max_model_len:
        bounds.append(bound)
        bound *= LENGTH_FACTOR
    return [*bounds, max_model_len]


def capture_order(max_num_seqs: int, max_model_len: int) -> list[GraphBucket]:
    """All graphs worth having, the most useful first: capturing may be cut off at any point.

    First a few sizes at the full length, which hold every decode step there is; then each size at
    each shorter bound, short contexts first. Sizes descend, so that the memory of one graph serves
    the next.
    """
    sizes = batch_sizes(max_num_seqs)[::-1]
    coarse = [size for size in sizes if size & (size - 1) == 0 or size == max_num_seqs]
    *shorter, longest = length_bounds(max_model_len)
    order = [GraphBucket(size, longest) for size in coarse]
    for bound in shorter:
        order += [GraphBucket(size, bound) for size in (sizes if bound <= DENSE_LENGTH else coarse)]
    if longest <= DENSE_LENGTH:
        order += [GraphBucket(size, longest) for size in sizes if size not in coarse]
    return order


class BucketTable:
    """The buckets that were captured, ready to be searched in every step."""

    def __init__(self, captured: Iterable[GraphBucket]) -> None:
        sizes: dict[int, list[int]] = {}
        for bucket in sorted(captured):
            sizes.setdefault(bucket.max_seq_len, []).append(bucket.num_reqs)
        self._sizes_of_lengths = sorted(sizes.items())

    def find(self, *, num_reqs: int, max_seq_len: int) -> GraphBucket | None:
        """The one with the smallest tables that holds a step; None: it runs without a graph."""
        best: GraphBucket | None = None
        for length, sizes in self._sizes_of_lengths:
            place = bisect_left(sizes, num_reqs)
            if length < max_seq_len or place == len(sizes):
                continue
            bucket = GraphBucket(sizes[place], length)
            if best is None or bucket.table_size < best.table_size:
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
