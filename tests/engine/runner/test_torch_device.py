from __future__ import annotations

import pytest
import torch

from shoal.engine.runner.torch_device import (
    auto_cpu_dtype,
    auto_cuda_dtype,
    available_memory,
    resolve_dtype,
)
from shoal.errors import ConfigError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_auto_dtype_on_a_cpu(capabilities: dict[str, object], expected: torch.dtype) -> None:
    assert auto_cpu_dtype(capabilities) is expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_auto_dtype_on_a_gpu(capability: tuple[int, int], expected: torch.dtype) -> None:
    assert auto_cuda_dtype(capability) is expected


def test_named_dtypes() -> None:
    assert resolve_dtype("float16", CPU) is torch.float16
    assert resolve_dtype("auto", CPU) in (torch.float32, torch.bfloat16)
    with pytest.raises(ConfigError, match=r"'int8'.*auto, float32, bfloat16, float16"):
        resolve_dtype("int8", CPU)


def test_this_machine() -> None:
    assert available_memory(CPU) > 0
