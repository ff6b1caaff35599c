"""Which experts see which token: top-k of the router's logits, and tokens sorted by expert."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .dispatch import uses_triton


def topk_softmax(
    router_logits: Tensor, *, top_k: int, renormalize: bool = True
) -> tuple[Tensor, Tensor]:
    """The top_k experts of each token, and their weights of the softmax over all experts.

    router_logits: [num_tokens, num_experts] bf16, fp16 or fp32. Of equal logits the lower expert
    comes first. Returns weights [num_tokens, top_k] fp32, in falling order, and expert ids
    [num_tokens, top_k] int32. `renormalize` divides the weights by their sum (Mixtral; Qwen3's
    norm_topk_prob).
    """
    if router_logits.dim() != 2 or not router_logits.dtype.is_floating_point:
        raise ValueError(
            "topk_softmax takes float logits [num_tokens, num_experts],"
            f" not {router_logits.dtype} {list(router_logits.shape)}"
        )
    if not 1 <= top_k <= router_logits.shape[1]:
        raise ValueError(f"top_k must be 1 to {router_logits.shape[1]} experts, not {top_k}")
    if router_logits.shape[0] and uses_triton(router_logits):
        from .triton.moe_routing import topk_softmax as topk_softmax_triton

        return topk_softmax_triton(router_logits, top_k, renormalize)
    return topk_softmax_torch(router_logits, top_k=top_k, renormalize=renormalize)


def topk_softmax_torch(
    router_logits: Tensor, *, top_k: int, renormalize: bool = True
) -> tuple[Tensor, Tensor]:
    """The meaning of `topk_softmax`."""
    logits = router_logits.float()
    # A stable sort is what keeps the lower expert first; torch.topk promises no order.
    top_logits, ids = logits.sort(dim=-1, descending=True, stable=True)
    top_logits, ids = top_logits[:, :top_k], ids[:, :top_k]
    log_z = (top_logits if renormalize else logits).logsumexp(-1, keepdim=True)
    return (top_logits - log_z).exp(), ids.int()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPermutation:
    """(token, slot) pairs sorted by expert, each expert's padded to whole blocks of `block_m`.

    Pair p is slot p % top_k of token p // top_k. Everything is on the device and has a size that
    the host knows: a CUDA graph may replay it.
    """

    sorted_pairs: Tensor
    """[max_blocks * block_m] int32: pair of each place; num_pairs where there is none."""
    expert_of_block: Tensor
    """[max_blocks] int32: expert of each block of places; -1 for the blocks behind the last."""
    block_m: int
    num_pairs: int


def max_permuted_blocks(num_pairs: int, num_experts: int, block_m: int) -> int:
    """Most blocks that `num_pairs` pairs may need.

    With n experts that have pairs, the blocks are at most floor((num_pairs - n) / block_m) + n,
    which grows with n.
    """
    used = min(num_pairs, num_experts)
    return (num_pairs - used) // block_m + used


def permute_tokens(expert_ids: Tensor, *, num_experts: int, block_m: int) -> TokenPermutation:
    """Sort pairs by expert without the host: counts, prefix sums over padded counts, places.

    expert_ids: int32 of any shape, [num_tokens, top_k] for experts; ids that are not 0 to
    num_experts - 1 are left out (-1 marks a padding token). The order inside an expert is that of
    the pairs, so it is the same in each run.
    """
    if expert_ids.dtype != torch.int32:
        raise ValueError(f"expert ids must be int32, not {expert_ids.dtype}")
    if num_experts < 1:
        raise ValueError(f"num_experts must be at least 1, not {num_experts}")
    if block_m < 1:
        raise ValueError(f"block_m must be at least 1, not {block_m}")
    if expert_ids.numel() and uses_triton(expert_ids):
        from .triton.moe_routing import permute_tokens as permute_tokens_triton

        return permute_tokens_triton(expert_ids, num_experts, block_m)
    return permute_tokens_torch(expert_ids, num_experts=num_experts, block_m=block_m)


def permute_tokens_torch(expert_ids: Tensor, *, num_experts: int, block_m: int) -> TokenPermutation:
    """The meaning of `permute_tokens`."""
    ids = expert_ids.flatten()
    num_pairs = ids.numel()
    max_blocks = max_permuted_blocks(num_pairs, num_experts, block_m)
    sorted_pairs = ids.new_full((max_blocks * block_m,), num_pairs)
    expert_of_block = ids.new_full((max_blocks,), -1)
    block = 0
    for expert in range(num_experts):
        pairs = (ids == expert).nonzero().flatten()
        num_blocks = -(-len(pairs) // block_m)
        sorted_pairs[block * block_m : block * block_m + len(pairs)] = pairs.int()
        expert_of_block[block : block + num_blocks] = expert
        block += num_blocks
    return TokenPermutation(
        sorted_pairs=sorted_pairs,
        expert_of_block=expert_of_block,
        block_m=block_m,
        num_pairs=num_pairs,
    )
