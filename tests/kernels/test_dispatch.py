from __future__ import annotations

import torch

from shoal.kernels.dispatch import gpu_of, triton_on_cpu, uses_triton
from shoal.kernels.launch.gpu import H100


def test_cpu_tensors_are_torchs_unless_triton_is_interpreted() -> None:
    tensor = torch.zeros(1)
    assert not uses_triton(tensor)
    with triton_on_cpu():
        assert uses_triton(tensor)
    assert not uses_triton(tensor)


def test_without_a_gpu_launches_are_those_of_an_h100() -> None:
    assert gpu_of(torch.device("cpu")) == H100
