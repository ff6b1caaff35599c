from __future__ import annotations

import pytest
import torch
from torch import nn

from shoal.engine.models.linear import Linear, pack_linears


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("rows", "inner", "outer"), [(1, 1, 1), (1, 37, 5), (13, 64, 97), (0, 8, 8)]
)
def test_a_packed_layer_computes_the_same(rows: int, inner: int, outer: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = Linear(inner, outer, bias=bias), torch.randn(rows, inner)
    with torch.inference_mode():
        expected = x.double() @ layer.weight.double().T
        if bias:
            expected += layer.bias.double()
        layer.pack(keep_weight=False)
        assert layer.weight.numel() == 0
        torch.testing.assert_close(layer(x).double(), expected, atol=1e-5, rtol=1e-5)


def test_a_weight_shared_with_the_embedding_is_kept() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(11, 4), "head": Linear(4, 11, bias=False)})
    model["head"].weight = model["embed"].weight
    with torch.inference_mode():
        pack_linears(model)
    assert model["head"].packed is not None
    assert model["embed"].weight.shape == (11, 4)


def test_other_dtypes_are_left_as_they_are() -> None:
    model = nn.Sequential(Linear(4, 4).to(torch.bfloat16))
    pack_linears(model)
    assert model[0].packed is None
