from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from shoal.kernels.int4_weight import quantize_int4
from shoal.kernels.moe import moe_mlp
from shoal.kernels.moe_int4 import moe_mlp_int4
from shoal.kernels.moe_routing import max_permuted_blocks, permute_tokens, topk_softmax
from shoal.kernels.quantize_rows import quantize_rows
from shoal.kernels.w4a16_matmul import dequantize_int4


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_weights_are_the_softmax_of_the_chosen_or_of_all() -> None:
    logits = normal(7, 12)
    probabilities = logits.softmax(-1)
    want, want_ids = probabilities.topk(3)

    weights, ids = topk_softmax(logits, top_k=3, renormalize=False)
    shares, _ = topk_softmax(logits, top_k=3)

    assert torch.equal(ids, want_ids.int())
    torch.testing.assert_close(weights, want)
    torch.testing.assert_close(shares, want / want.sum(-1, keepdim=True))


def test_the_lower_expert_wins_a_tie() -> None:
    _, ids = topk_softmax(torch.zeros(2, 9), top_k=4)

    assert ids.tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize(("top_k", "message"), [(0, "1 to 4 experts, not 0"), (5, "not 5")])
def test_top_k_is_bounded(top_k, message) -> None:
    with pytest.raises(ValueError, match=message):
        topk_softmax(torch.zeros(2, 4), top_k=top_k)


def test_a_permutation() -> None:
    ids = torch.tensor([[2, 0], [2, -1], [0, 2], [2, 3]], dtype=torch.int32)

    permutation = permute_tokens(ids, num_experts=3, block_m=3)

    none = permutation.num_pairs
    assert none == 8
    # Expert 0 has pairs 1 and 4, expert 1 none, expert 2 pairs 0, 2, 5 and 6; 3 is no expert.
    assert permutation.expert_of_block.tolist() == [0, 2, 2, -1]
    assert permutation.sorted_pairs.tolist() == [1, 4, none, 0, 2, 5, 6] + [none] * 5


@pytest.mark.parametrize("block_m", [1, 3, 16])
@pytest.mark.parametrize("num_experts", [1, 2, 5])
@pytest.mark.parametrize("num_pairs", [0, 1, 2, 7, 33])
def test_the_bound_on_blocks_holds_and_is_reached(num_pairs, num_experts, block_m) -> None:
    """Over all ways to deal the pairs to experts."""

    def blocks(left: int, experts: int) -> int:
        if experts == 1:
            return -(-left // block_m)
        return max(
            -(-mine // block_m) + blocks(left - mine, experts - 1)
            for mine in {0, *range(1, left + 1, block_m), left}
        )

    assert blocks(num_pairs, num_experts) == max_permuted_blocks(num_pairs, num_experts, block_m)


def layer(num_tokens=6, num_experts=4, top_k=2, dim=16, inner=24):
    x = normal(num_tokens, dim).half()
    gate_up = (normal(num_experts, 2 * inner, dim, seed=1) / 4).half()
    down = (normal(num_experts, dim, inner, seed=2) / 4).half()
    weights, ids = topk_softmax(normal(num_tokens, num_experts, seed=3), top_k=top_k)
    return x, gate_up, down, {"topk_weights": weights, "topk_ids": ids}


def by_token(x, gate_up, down, topk_weights, topk_ids):
    """In fp64, token by token."""
    out = torch.zeros(x.shape, dtype=torch.float64)
    for token, experts in enumerate(topk_ids.tolist()):
        for slot, expert in enumerate(experts):
            gate, up = (gate_up[expert].double() @ x[token].double()).chunk(2)
            partial = down[expert].double() @ (functional.silu(gate) * up)
            out[token] += topk_weights[token, slot].double() * partial
    return out


def test_layer_is_the_sum_over_a_tokens_experts() -> None:
    x, gate_up, down, routes = layer()

    out = moe_mlp(x, gate_up, down, **routes)

    assert out.dtype == torch.float16
    # fp16 after each of the two products and at the end.
    want = by_token(x, gate_up, down, **routes)
    torch.testing.assert_close(out.double(), want, rtol=4e-3, atol=4e-3)


def test_ids_that_are_no_experts_add_nothing() -> None:
    x, gate_up, down, routes = layer()
    routes["topk_ids"][2] = torch.tensor([-1, 4])

    assert not moe_mlp(x, gate_up, down, **routes)[2].any()


def test_8_bit_experts_are_near() -> None:
    x, gate_up, down, routes = layer()
    gate_up_codes, gate_up_scale = quantize_rows(gate_up, dtype=torch.int8)
    down_codes, down_scale = quantize_rows(down, dtype=torch.int8)

    out = moe_mlp(
        x, gate_up_codes, down_codes, **routes,
        gate_up_scale=gate_up_scale[..., 0], down_scale=down_scale[..., 0],
    )  # fmt: skip

    want = by_token(x, gate_up, down, **routes)
    # Four quantizations, each off by at most 1/254 of its row's largest entry.
    assert (out.double() - want).norm() / want.norm() < 0.03


def test_what_does_not_fit_is_named() -> None:
    x, gate_up, down, routes = layer()
    with pytest.raises(ValueError, match="do not fit together"):
        moe_mlp(x[:, :8], gate_up, down, **routes)
    with pytest.raises(ValueError, match="topk_ids must be int32"):
        moe_mlp(x, gate_up, down, **(routes | {"topk_ids": routes["topk_ids"].long()}))
    with pytest.raises(ValueError, match="topk_weights must be fp32"):
        moe_mlp(x, gate_up, down, **(routes | {"topk_weights": routes["topk_weights"].half()}))
    with pytest.raises(ValueError, match="gate_up_scale goes with 8-bit experts"):
        moe_mlp(x, gate_up, down, **routes, gate_up_scale=torch.ones(4, 48))
    with pytest.raises(ValueError, match="must both be of x's dtype"):
        moe_mlp(x, gate_up.float(), down.float(), **routes)
    with pytest.raises(ValueError, match="bf16 or fp16 activations, not"):
        moe_mlp(x.float(), gate_up.float(), down.float(), **routes)


def int4_layer(**changes):
    _, _, _, routes = layer()
    arguments = {
        "x": normal(6, 64).half(),
        "gate_up": quantize_int4((normal(4 * 2 * 80, 64, seed=1) / 8).half(), group_size=64),
        "down": quantize_int4((normal(4 * 64, 80, seed=2) / 8).half(), group_size=64),
    }
    return arguments | routes | changes


def test_4_bit_experts_are_the_layer_of_their_floats() -> None:
    arguments = int4_layer()

    out = moe_mlp_int4(**arguments)

    gate_up = dequantize_int4(arguments.pop("gate_up")).view(4, 160, 64)
    down = dequantize_int4(arguments.pop("down")).view(4, 64, 80)
    x = arguments.pop("x")
    torch.testing.assert_close(
        out.double(), by_token(x, gate_up, down, **arguments), rtol=2**-10, atol=1e-4
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": normal(6, 64)}, "bf16 or fp16 activations"),
        ({"x": normal(6, 60).half()}, r"x must be \[num_tokens, 64\]"),
        ({"down": quantize_int4(normal(4 * 64, 81).half(), group_size=64)}, "do not fit together"),
        ({"topk_ids": torch.zeros(5, 2, dtype=torch.int32)}, r"topk_ids must be int32 \[6, top_k"),
        ({"topk_weights": torch.ones(6, 3)}, r"topk_weights must be fp32 \[6, 2\]"),
    ],
)
def test_what_does_not_fit_4_bit_experts_is_named(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        moe_mlp_int4(**int4_layer(**changes))
