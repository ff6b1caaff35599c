from __future__ import annotations

import pytest
import torch

from shoal.kernels.lora import add_lora, lora_mapping


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(adapters: list[int]):
    """Two adapters of ranks 8 and 3 on a layer of two slices, 5 and 7 wide."""
    num_tokens = len(adapters)
    return {
        "out": normal(num_tokens, 12),
        "x": normal(num_tokens, 10, seed=1),
        "lora_a": normal(2, 2, 8, 10, seed=2),
        "lora_b": normal(2, 12, 8, seed=3),
        "mapping": lora_mapping(torch.tensor(adapters, dtype=torch.int32), num_adapters=2),
        "ranks": torch.tensor([8, 3], dtype=torch.int32),
        "slice_sizes": (5, 7),
    }


def test_a_token_is_changed_as_by_the_merged_weight() -> None:
    adapters = [1, -1, 0, 1, 2]  # 2 is no adapter
    arguments = layer(adapters)
    before = arguments["out"].clone()

    out = add_lora(**arguments)

    assert out is arguments["out"]
    for token, adapter in enumerate(adapters):
        want = before[token].double()
        if adapter in (0, 1):
            rank = (8, 3)[adapter]
            merged = torch.cat([
                arguments["lora_b"][adapter, rows, :rank] @ arguments["lora_a"][adapter, i, :rank]
                for i, rows in enumerate((slice(0, 5), slice(5, 12)))
            ])  # fmt: skip
            want += merged.double() @ arguments["x"][token].double()
        torch.testing.assert_close(out[token].double(), want, rtol=1e-5, atol=1e-5)


def test_what_lies_beyond_a_rank_is_not_read() -> None:
    arguments = layer([1, 0])
    arguments["lora_a"][1, :, 3:] = float("nan")
    arguments["lora_b"][1, :, 3:] = float("nan")

    assert add_lora(**arguments).isfinite().all()


def test_no_tokens() -> None:
    assert add_lora(**layer([])).shape == (0, 12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": torch.zeros(2, 11)}, r"out must be \[2, 12\], not \[2, 11\]"),
        ({"x": torch.zeros(2, 10).half()}, "out must be of x's dtype"),
        ({"lora_a": torch.zeros(2, 2, 12, 10)}, "multiple of 8, not 12"),
        ({"lora_a": torch.zeros(2, 2, 136, 10)}, "8 to 128 and a multiple of 8, not 136"),
        ({"lora_b": torch.zeros(2, 12, 16)}, r"lora_b must be \[2, 12, 8\]"),
        ({"slice_sizes": (5, 6)}, r"out must be \[2, 11\]"),
        ({"ranks": torch.zeros(3, dtype=torch.int32)}, r"ranks must be int32 \[2\]"),
        ({"x": torch.zeros(3, 10), "out": torch.zeros(3, 12)}, "mapping is of 2 tokens"),
    ],
)
def test_what_does_not_fit_is_named(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        add_lora(**(layer([0, 1]) | changes))


def test_the_mapping_takes_int32() -> None:
    with pytest.raises(ValueError, match=r"int32 \[num_tokens\], not torch.int64"):
        lora_mapping(torch.tensor([0]), num_adapters=1)
