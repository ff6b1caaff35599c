"""What torch's devices offer, and the number format that suits them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from shoal.errors import ConfigError

from . import machine

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The torch dtype for a setting: "auto" or a key of DTYPES. Raises ConfigError otherwise."""
    if name == "auto":
        if device.type == "cuda":
            return auto_cuda_dtype(torch.cuda.get_device_capability(device))
        return auto_cpu_dtype(torch.cpu.get_capabilities())
    if name not in DTYPES:
        allowed = ", ".join(["auto", *DTYPES])
        raise ConfigError(f"dtype is {name!r}, but must be one of: {allowed}")
    return DTYPES[name]


def auto_cpu_dtype(capabilities: Mapping[str, object]) -> torch.dtype:
    """bfloat16 where the CPU multiplies it in hardware, else float32.

    Without such instructions oneDNN converts every operand, which costs more than the halved
    memory traffic saves. `capabilities` is what `torch.cpu.get_capabilities()` tells.
    """
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if fast else torch.float32


def auto_cuda_dtype(compute_capability: tuple[int, int]) -> torch.dtype:
    """bfloat16 from Ampere (8.0) on, float16 before it."""
    return torch.bfloat16 if compute_capability >= (8, 0) else torch.float16


def available_memory(device: torch.device) -> int:
    """Bytes of the device's memory that are free for us now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return machine.available_memory()
