"""Ragged paged attention of Llama-3.1-8B's heads: decodes, mixed steps, narrow caches, one prefix.

Bytes are what must move: every K and V of every sequence once, the queries and the result. Peers
run on the same lengths: FlashInfer's paged decode on the same cache and block tables, torch's own
attention on contiguous K and V.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from shoal.kernels.attention_plan import plan_attention
from shoal.kernels.cascade_attention import SharedPrefixes, cascade_attention
from shoal.kernels.kv_cache_shape import kv_cache_shape
from shoal.kernels.paged_attention import ragged_paged_attention
from shoal.kernels.ragged_batch import RaggedBatch

from .case import Call, Case

Q_HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE = 32, 8, 128, 16
SCALE = HEAD_DIM**-0.5
BF16, FP8, INT8 = torch.bfloat16, torch.float8_e4m3fn, torch.int8
SHORT = {BF16: "bf16", FP8: "fp8", INT8: "int8"}


@dataclass(frozen=True, slots=True)
class Step:
    """Tensors of one layer's attention in one step."""

    query: Tensor
    key_cache: Tensor
    value_cache: Tensor
    batch: RaggedBatch
    scales: tuple[Tensor | None, Tensor | None]


def cases(device: torch.device) -> Iterator[Case]:
    yield _decode(device, 32, 4096, BF16, target=0.85)
    # As a captured graph sees it: room for 128k tokens a sequence.
    yield _decode(device, 64, 2048, BF16, max_seq_len=131072, target=0.85)
    yield _decode(device, 1, 32768, BF16)
    yield _decode(device, 64, 4096, FP8, target=0.9)
    yield _decode(device, 64, 4096, INT8, target=0.9)
    yield _decode(device, 64, 4096, INT8, per_token=True, target=0.9)
    yield _mixed(device)
    yield _shared_prefix(device)


def _step(
    device: torch.device,
    query_lens: list[int],
    seq_lens: list[int],
    dtype: torch.dtype,
    *,
    max_seq_len: int | None = None,
    per_token: bool = False,
    heads_first: bool = True,
) -> Step:
    """Random tensors; every sequence has its own blocks, in random places of the cache.

    heads_first: a block holds the slots of one head after another in memory, as the engine's do.
    """
    rng = torch.Generator(device).manual_seed(0)
    widths = [-(-n // BLOCK_SIZE) for n in seq_lens]
    num_blocks = sum(widths) + 1

    def cache() -> Tensor:
        values = torch.randn(
            kv_cache_shape(num_blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM),
            device=device, dtype=BF16, generator=rng,
        )  # fmt: skip
        values = (values * 30).to(dtype) if dtype == INT8 else values.to(dtype)
        return values.transpose(1, 2).contiguous().transpose(1, 2) if heads_first else values

    longest = max_seq_len or max(seq_lens)
    blocks = (torch.randperm(num_blocks - 1, device=device, generator=rng) + 1).to(torch.int32)
    tables = torch.zeros(len(seq_lens), -(-longest // BLOCK_SIZE), dtype=torch.int32, device=device)
    for row, part in enumerate(torch.split(blocks, widths)):
        tables[row, : widths[row]] = part
    starts = torch.tensor([0, *query_lens]).cumsum(0)
    num_tokens = sum(query_lens)
    batch = RaggedBatch(
        query_start_loc=starts.to(torch.int32).to(device),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32, device=device),
        block_tables=tables,
        slot_mapping=torch.zeros(num_tokens, dtype=torch.int64, device=device),
        block_size=BLOCK_SIZE,
        max_query_len=max(query_lens),
        max_seq_len=longest,
    )
    query = torch.randn(num_tokens, Q_HEADS, HEAD_DIM, device=device, dtype=BF16, generator=rng)
    scales: tuple[Tensor | None, Tensor | None] = None, None
    if dtype != BF16:
        # Heads first, as the codes are.
        shape = (num_blocks, KV_HEADS, BLOCK_SIZE) if per_token else (KV_HEADS,)
        k, v = (torch.rand(shape, device=device, generator=rng) * 0.05 for _ in range(2))
        scales = (k.mT, v.mT) if per_token else (k, v)
    return Step(query, cache(), cache(), batch, scales)


def _call(step: Step) -> Call:
    """The layers of a step share a plan: it is made outside."""
    plan = plan_attention(step.batch, num_q_heads=Q_HEADS, key_cache=step.key_cache)
    out = torch.empty_like(step.query)
    k_scale, v_scale = step.scales
    return lambda _: ragged_paged_attention(
        step.query, step.key_cache, step.value_cache, step.batch,
        scale=SCALE, k_scale=k_scale, v_scale=v_scale, out=out, plan=plan,
    )  # fmt: skip


def _kv_bytes(num_keys: int, dtype: torch.dtype, per_token: bool = False) -> int:
    scale_bytes = 4 if per_token else 0
    return 2 * num_keys * KV_HEADS * (HEAD_DIM * dtype.itemsize + scale_bytes)


def _decode(
    device: torch.device,
    num_seqs: int,
    seq_len: int,
    dtype: torch.dtype,
    *,
    max_seq_len: int | None = None,
    per_token: bool = False,
    target: float | None = None,
) -> Case:
    step = _step(
        device, [1] * num_seqs, [seq_len] * num_seqs, dtype,
        max_seq_len=max_seq_len, per_token=per_token,
    )  # fmt: skip
    peers: dict[str, Call] = {}
    if dtype == BF16 and max_seq_len is None:
        _add_flashinfer(peers, step)
        peers["torch sdpa"] = _sdpa(step, num_seqs, seq_len)
    suffix = "-token-scales" if per_token else ""
    suffix += f"-room-{max_seq_len}" if max_seq_len else ""
    return Case(
        name=f"paged_attention/decode-{num_seqs}x{seq_len}-{SHORT[dtype]}{suffix}",
        call=_call(step),
        bytes_moved=_kv_bytes(num_seqs * seq_len, dtype, per_token) + 4 * step.query.numel(),
        flops=4 * num_seqs * seq_len * Q_HEADS * HEAD_DIM,
        peers=peers,
        target=target,
    )


def _sdpa(step: Step, num_seqs: int, seq_len: int) -> Call:
    shape = num_seqs, KV_HEADS, seq_len, HEAD_DIM
    keys = torch.randn(shape, device=step.query.device, dtype=BF16)
    values = torch.randn_like(keys)
    query = step.query.unsqueeze(2)
    return lambda _: scaled_dot_product_attention(query, keys, values, scale=SCALE, enable_gqa=True)


def _add_flashinfer(peers: dict[str, Call], step: Step) -> None:
    """FlashInfer's decode on the same paged cache, planned outside as ours is.

    In bf16 only: its kernels are built when first used, which takes minutes.
    """
    try:  # a peer, where it is installed
        from flashinfer import BatchDecodeWithPagedKVCacheWrapper  # type: ignore[import-not-found]
    except ImportError:
        return
    batch = step.batch
    widths = (batch.seq_lens + BLOCK_SIZE - 1) // BLOCK_SIZE
    indptr = torch.zeros(batch.num_reqs + 1, dtype=torch.int32, device=widths.device)
    indptr[1:] = widths.cumsum(0)
    indices = torch.cat([batch.block_tables[i, :w] for i, w in enumerate(widths.tolist())])
    last = (batch.seq_lens - 1) % BLOCK_SIZE + 1
    workspace = torch.empty(256 << 20, dtype=torch.uint8, device=widths.device)
    wrapper = BatchDecodeWithPagedKVCacheWrapper(workspace, "HND", use_tensor_cores=True)
    wrapper.plan(
        indptr, indices, last, Q_HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE,
        q_data_type=BF16, kv_data_type=step.key_cache.dtype, sm_scale=SCALE,
    )  # fmt: skip
    caches = step.key_cache.transpose(1, 2), step.value_cache.transpose(1, 2)
    peers["flashinfer"] = lambda _: wrapper.run(step.query, caches)


def _mixed(device: torch.device) -> Case:
    """31 decodes at 4k beside a 128-token chunk of a 4k context."""
    query_lens, seq_lens = [1] * 31 + [128], [4096] * 32
    step = _step(device, query_lens, seq_lens, BF16)
    return Case(
        name="paged_attention/mixed-31x4096-decodes-128-chunk-bf16",
        call=_call(step),
        bytes_moved=_kv_bytes(sum(seq_lens), BF16) + 4 * step.query.numel(),
        flops=4 * sum(query_lens) * 4096 * Q_HEADS * HEAD_DIM,
    )


def _shared_prefix(device: torch.device) -> Case:
    """64 decodes at 4k whose first 3,584 tokens are one prefix: read once, not 64 times."""
    num_seqs, seq_len, prefix_len = 64, 4096, 3584
    step = _step(device, [1] * num_seqs, [seq_len] * num_seqs, BF16)
    batch, blocks = step.batch, prefix_len // BLOCK_SIZE
    batch.block_tables[:, :blocks] = batch.block_tables[0, :blocks].clone()
    prefixes = SharedPrefixes(
        group_start_loc=torch.tensor([0, num_seqs], dtype=torch.int32, device=device),
        prefix_lens=torch.tensor([prefix_len], dtype=torch.int32, device=device),
        max_prefix_len=prefix_len,
        max_group_tokens=num_seqs,
    )
    return Case(
        name="paged_attention/cascade-64x4096-prefix-3584-bf16",
        call=lambda _: cascade_attention(
            step.query, step.key_cache, step.value_cache, batch, prefixes, scale=SCALE
        ),
        bytes_moved=_kv_bytes(prefix_len + num_seqs * (seq_len - prefix_len), BF16)
        + 4 * step.query.numel(),
        flops=4 * num_seqs * seq_len * Q_HEADS * HEAD_DIM,
        peers={"without the prefix": _call(step)},
    )
