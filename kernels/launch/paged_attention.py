"""Tiles, splits and launches of paged attention.

Two shapes of tile. A *decode* tile holds the few query tokens of a decode or of a speculative one;
it is bound by the bytes of K and V, so it takes the smallest matrix shape (16 rows: the query heads
of a KV head's group, times tokens). A *chunk* tile holds the tokens of a prefill chunk and is bound
by arithmetic: 64 rows or more.

The keys of a request are cut into splits at multiples of a size: `split_size`, doubled until the
request has at most `row_budget / tokens` splits. Only the request's own numbers count, so a row is
summed in the same order whatever else is in the batch. The budget bounds the partial results:
row_budget x requests x query heads x (head_dim + 1) x 4 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from .gpu import Gpu
from .powers import next_power_of_two
from .prefill_attention import MIN_QUERY_LEN, prefill_path_takes

MAX_DECODE_TOKENS = 16
"""Requests with more tokens in a step are prefill chunks."""
DECODE_ROWS = 16
"""Rows of the smallest matrix product: the query heads of a group, times tokens, padded to it."""
SPLIT_PROGRAMS = 256
"""Splits x KV heads that let a single request fill a GPU of some 130 multiprocessors."""
PROGRAMS_PER_SM = 16
MAX_PROGRAMS = 4096
"""Of one launch: those beyond the real work cost time, too."""
SPLIT_SIZE = 1024
"""Keys of a decode's split; of narrow ones, twice as many. Fewer make a single long sequence
faster and a full batch slower: an item costs about 1 us of a multiprocessor besides its bytes."""
CHUNK_SPLIT_SIZE = 1024
CHUNK_PARTIAL_ROWS = 8192
"""Partial rows for all chunks of a step; chunks beyond them are not split, and by then there are
enough of them to fill the GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileShape:
    """How the requests of some range of chunk lengths are cut into items of work."""

    min_query_len: int
    max_query_len: int
    tokens: int
    """Query tokens of a tile."""
    split_size: int
    """Keys of a split, at least: a power of two and a multiple of the kernel's key tile."""
    row_budget: int
    """A request has at most row_budget / its tokens splits (and at least one)."""
    partial_rows_cap: int | None = None
    """Partial rows (token x split) of a whole batch; requests beyond it are not split."""
    splits: bool = True
    """False: never split, as the window is short."""

    def takes(self, max_query_len: int) -> bool:
        """Whether a batch within this bound can hold a request for these tiles."""
        return self.min_query_len <= max_query_len and self.min_query_len <= self.max_query_len

    def max_splits(self, query_len: int) -> int:
        return max(self.row_budget // max(query_len, 1), 1) if self.splits else 1

    def split_keys(self, query_len: int, seq_len: int) -> int:
        """Keys of a split of this request."""
        size = self.split_size
        while size * self.max_splits(query_len) < seq_len:
            size *= 2
        return size

    def max_items(
        self, num_reqs: int, num_tokens: int, max_query_len: int, max_seq_len: int
    ) -> int:
        """A bound on tiles x splits of a batch within these bounds."""
        longest = min(max_query_len, self.max_query_len)
        tiles = min(num_reqs * -(-longest // self.tokens), num_tokens // self.tokens + num_reqs)
        return tiles * min(self.max_splits(self.min_query_len), self._splits_bound(max_seq_len))

    def max_partial_rows(
        self, num_reqs: int, num_tokens: int, max_query_len: int, max_seq_len: int
    ) -> int:
        """A bound on tokens x splits of the requests with several splits."""
        longest = min(max_query_len, self.max_query_len)
        if self._splits_bound(max_seq_len) == 1 or longest == 0:
            return 0
        splits = self._splits_bound(max_seq_len)
        rows = min(num_reqs * min(longest * splits, self.row_budget), num_tokens * splits)
        return rows if self.partial_rows_cap is None else min(rows, self.partial_rows_cap)

    def _splits_bound(self, max_seq_len: int) -> int:
        return max(-(-max_seq_len // self.split_size), 1) if self.splits else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TileLaunch:
    """How one tile shape's kernel is compiled and launched."""

    block_m: int
    """Rows: query heads of a group x tokens, padded to a power of two."""
    block_n: int
    """Keys of one step of the loop."""
    num_warps: int
    num_stages: int
    num_programs: int
    """Programs that share the items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPath:
    """Which kernels a step takes."""

    shapes: tuple[TileShape, ...]
    prefill_min_query_len: int | None
    """Requests with so many tokens or more are for `prefill_attention`; None: there are none."""


def attention_path(
    gpu: Gpu,
    *,
    group: int,
    num_kv_heads: int,
    head_dim: int,
    block_size: int,
    kv_bytes: int,
    window: int | None,
    max_query_len: int,
    plain: bool,
) -> AttentionPath:
    """plain: K and V are not quantized, scores neither capped nor joined by sinks, causal."""
    long_chunks = prefill_path_takes(
        gpu,
        max_query_len=max_query_len,
        head_dim=head_dim,
        block_size=block_size,
        element_bytes=kv_bytes,
        plain=plain,
    )
    chunks = chunk_shape(
        group=group,
        num_kv_heads=num_kv_heads,
        window=window,
        max_query_len=MIN_QUERY_LEN - 1 if long_chunks else 1 << 30,
    )
    decodes = decode_shape(group=group, num_kv_heads=num_kv_heads, kv_bytes=kv_bytes, window=window)
    return AttentionPath(
        shapes=tuple(shape for shape in (decodes, chunks) if shape.takes(max_query_len)),
        prefill_min_query_len=MIN_QUERY_LEN if long_chunks else None,
    )


def decode_shape(*, group: int, num_kv_heads: int, kv_bytes: int, window: int | None) -> TileShape:
    """Tiles of requests with 1 to MAX_DECODE_TOKENS tokens. kv_bytes: of one element."""
    split_size = SPLIT_SIZE * (2 if kv_bytes == 1 else 1)
    rows = max(DECODE_ROWS, next_power_of_two(group))
    return TileShape(
        min_query_len=1,
        max_query_len=MAX_DECODE_TOKENS,
        tokens=min(rows // group, MAX_DECODE_TOKENS),
        split_size=split_size,
        row_budget=min(max(SPLIT_PROGRAMS // num_kv_heads, 8), 256),
        splits=window is None or window > split_size,
    )


def chunk_shape(
    *, group: int, num_kv_heads: int, window: int | None, max_query_len: int
) -> TileShape:
    """Tiles of requests with more than MAX_DECODE_TOKENS tokens, up to max_query_len."""
    tokens = max(_chunk_rows(group) // group, 1)
    return TileShape(
        min_query_len=MAX_DECODE_TOKENS + 1,
        max_query_len=max_query_len,
        tokens=tokens,
        split_size=CHUNK_SPLIT_SIZE,
        # Only as many as half fill the GPU, as they are bound by arithmetic: 4 for 64 tokens.
        row_budget=min(max(SPLIT_PROGRAMS // 2 // num_kv_heads, 4), 64) * tokens,
        partial_rows_cap=CHUNK_PARTIAL_ROWS,
        splits=window is None or window > CHUNK_SPLIT_SIZE,
    )


def decode_launch(
    gpu: Gpu, *, group: int, num_kv_heads: int, head_dim: int, kv_bytes: int, max_items: int
) -> TileLaunch:
    """Key tiles of 16 kB, two of K and two of V on their way: measured on an H100, see
    docs/performance/gpu.md."""
    block_m = max(DECODE_ROWS, next_power_of_two(group))
    block_n = 128 if kv_bytes == 1 else 64
    if head_dim > 128 or kv_bytes > 2:
        block_n //= 2
    return _launch(gpu, block_m, block_n, num_kv_heads, head_dim, kv_bytes, max_items)


def chunk_launch(
    gpu: Gpu, *, group: int, num_kv_heads: int, head_dim: int, kv_bytes: int, max_items: int
) -> TileLaunch:
    block_n = 32 if head_dim > 128 or kv_bytes > 2 else 64
    block_m = _chunk_rows(group)
    return _launch(gpu, block_m, block_n, num_kv_heads, head_dim, kv_bytes, max_items)


def _launch(
    gpu: Gpu,
    block_m: int,
    block_n: int,
    num_kv_heads: int,
    head_dim: int,
    kv_bytes: int,
    max_items: int,
) -> TileLaunch:
    # Accumulators of wide heads, or codes on their way to fp16: four warps lack the registers.
    is_heavy = head_dim > 128 or kv_bytes == 1
    return TileLaunch(
        block_m=block_m,
        block_n=block_n,
        num_warps=8 if block_m > 64 or (block_m == 64 and is_heavy) else 4,
        num_stages=_num_stages(gpu, block_m, block_n, next_power_of_two(head_dim), kv_bytes),
        num_programs=_num_programs(gpu, max_items * num_kv_heads),
    )


def _num_stages(gpu: Gpu, block_m: int, block_n: int, head_dim: int, kv_bytes: int) -> int:
    """Half of the stages go to the block ids, on which the keys wait: 5 keep two tiles on their way
    (three behind the asynchronous products of large tiles), 3 keep one."""
    query = block_m * head_dim * max(kv_bytes, 2)
    tile = 2 * block_n * head_dim * kv_bytes
    return 5 if query + 3 * tile + 4096 <= gpu.shared_memory_bytes else 3


def _num_programs(gpu: Gpu, max_work: int) -> int:
    """More than run at a time: the GPU hands them out as others end, which evens out the load."""
    return max(min(max_work, gpu.num_sms * PROGRAMS_PER_SM, MAX_PROGRAMS), 1)


def _chunk_rows(group: int) -> int:
    return max(64, next_power_of_two(group))
