"""Prefill chunks of Llama-3.1-8B's attention beside the bf16 GEMM rate and torch's attention."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from shoal.kernels.attention_plan import plan_attention
from shoal.kernels.paged_attention import ragged_paged_attention
from shoal.kernels.ragged_batch import RaggedBatch

from .case import Call, Case

NUM_Q_HEADS, NUM_KV_HEADS, HEAD_DIM, BLOCK_SIZE = 32, 8, 128, 16
SCALE = HEAD_DIM**-0.5

STEPS: dict[str, list[tuple[int, int]]] = {
    "8k": [(8192, 8192)],
    "8k-of-32k": [(8192, 32768)],
    "2k-of-16k": [(2048, 16384)],
    "4x2k": [(2048, 2048)] * 4,
    "512-of-4k": [(512, 4096)],
}
"""(query_len, seq_len) of each request."""


def cases(device: torch.device) -> Iterator[Case]:
    for name, lens in STEPS.items():
        yield _case(name, lens, device)


def _case(name: str, lens: list[tuple[int, int]], device: torch.device) -> Case:
    counts = [-(-n // BLOCK_SIZE) for _, n in lens]
    order = torch.randperm(sum(counts), device=device, dtype=torch.int64).int()
    tables = torch.zeros(len(lens), max(counts), dtype=torch.int32, device=device)
    for row, blocks in enumerate(torch.split(order, counts)):
        tables[row, : len(blocks)] = blocks
    num_tokens = sum(q for q, _ in lens)
    starts = torch.tensor([0] + [q for q, _ in lens], device=device).cumsum(0)
    batch = RaggedBatch(
        query_start_loc=starts.int(),
        seq_lens=torch.tensor([n for _, n in lens], dtype=torch.int32, device=device),
        block_tables=tables,
        slot_mapping=torch.zeros(num_tokens, dtype=torch.int64, device=device),
        block_size=BLOCK_SIZE,
        max_query_len=max(q for q, _ in lens),
        max_seq_len=max(n for _, n in lens),
    )
    shape = (sum(counts), BLOCK_SIZE, NUM_KV_HEADS, HEAD_DIM)
    key_cache, value_cache = (
        torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(2)
    )
    query = torch.randn(num_tokens, NUM_Q_HEADS, HEAD_DIM, device=device, dtype=torch.bfloat16)
    out = torch.empty_like(query)
    plan = plan_attention(batch, num_q_heads=NUM_Q_HEADS, key_cache=key_cache)

    def ours(_: int) -> Tensor:
        result = ragged_paged_attention(
            query, key_cache, value_cache, batch, scale=SCALE, out=out, plan=plan
        )
        assert isinstance(result, Tensor)
        return result

    seen = sum(q * (n - q) + q * (q + 1) // 2 for q, n in lens)
    kept = sum(n for _, n in lens) * NUM_KV_HEADS * HEAD_DIM * 2 * 2
    return Case(
        name=f"prefill_attention/{name}-bf16",
        call=ours,
        bytes_moved=kept + 2 * query.numel() * 2,
        flops=4 * HEAD_DIM * NUM_Q_HEADS * seen,
        peers=_peers(query, key_cache, value_cache, batch, lens),
        target=0.6 if name == "8k" else None,
    )


def _peers(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, batch: RaggedBatch,
    lens: list[tuple[int, int]],
) -> dict[str, Call]:  # fmt: skip
    """torch's attention, on dense copies of the same keys; FlashInfer on the pages themselves."""
    peers: dict[str, Call] = {}
    if all(q == n for q, n in lens):
        q, k, v = _dense(query, key_cache, value_cache, batch, lens)
        for name, backend in (
            ("sdpa-flash", SDPBackend.FLASH_ATTENTION),
            ("sdpa-cudnn", SDPBackend.CUDNN_ATTENTION),
        ):
            peers[name] = _sdpa(q, k, v, backend)
        if len(lens) == 1:
            peers["flex"] = _flex(q, k, v)
    flash_infer = _flash_infer(query, key_cache, value_cache, batch)
    if flash_infer is not None:
        peers["flashinfer"] = flash_infer
    return peers


def _dense(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, batch: RaggedBatch,
    lens: list[tuple[int, int]],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """[num_reqs, heads, tokens, head_dim] each; all requests are of one length."""
    length = lens[0][1]
    blocks = batch.block_tables.long()
    keys, values = (
        c[blocks].flatten(1, 2)[:, :length].transpose(1, 2).contiguous()
        for c in (key_cache, value_cache)
    )
    queries = query.view(len(lens), length, NUM_Q_HEADS, HEAD_DIM).transpose(1, 2).contiguous()
    return queries, keys, values


def _sdpa(q: Tensor, k: Tensor, v: Tensor, backend: SDPBackend) -> Call:
    def call(_: int) -> Tensor:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=SCALE, enable_gqa=True
            )

    return call


def _flex(q: Tensor, k: Tensor, v: Tensor) -> Call:
    """Compiled at its first call, which is not timed."""
    compiled: list[Callable[[], Tensor]] = []

    def call(_: int) -> Tensor:
        if not compiled:
            from torch.nn.attention.flex_attention import create_block_mask, flex_attention

            length = q.shape[2]
            mask = create_block_mask(
                lambda b, h, query, key: query >= key, None, None, length, length, device=q.device
            )
            attend = torch.compile(flex_attention)
            compiled.append(lambda: attend(q, k, v, block_mask=mask, scale=SCALE, enable_gqa=True))
        return compiled[0]()

    return call


def _flash_infer(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, batch: RaggedBatch
) -> Call | None:
    """FlashInfer's paged prefill; None where it is not installed.

    Built and planned at its first call, which is not timed: nvcc takes a minute or two for it.
    """
    if importlib.util.find_spec("flashinfer") is None:
        return None
    runs: list[Callable[[], Tensor]] = []

    def call(_: int) -> Tensor:
        if not runs:
            runs.append(_planned(query, key_cache, value_cache, batch))
        return runs[0]()

    return call


def _planned(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, batch: RaggedBatch
) -> Callable[[], Tensor]:
    from flashinfer import BatchPrefillWithPagedKVCacheWrapper  # type: ignore[import-not-found]

    counts = -(-batch.seq_lens // BLOCK_SIZE)
    pages = torch.cat([row[:n] for row, n in zip(batch.block_tables, counts.tolist(), strict=True)])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
    workspace = torch.empty(256 << 20, dtype=torch.uint8, device=query.device)
    wrapper = BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD")
    wrapper.plan(
        batch.query_start_loc, indptr, pages, (batch.seq_lens - 1) % BLOCK_SIZE + 1,
        NUM_Q_HEADS, NUM_KV_HEADS, HEAD_DIM, BLOCK_SIZE,
        causal=True, sm_scale=SCALE, q_data_type=query.dtype,
    )  # fmt: skip
    return lambda: wrapper.run(query, (key_cache, value_cache))
