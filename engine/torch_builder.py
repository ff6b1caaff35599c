"""A model on torch: the CPU where the native kernels cannot run. Imports torch."""

from __future__ import annotations

import torch

from .core.config import CacheConfig, SchedulerConfig
from .models.config import ModelConfig
from .models.loader import dummy_model, load_model
from .protocol import Load
from .runner.kv_cache import plan_kv_cache
from .runner.machine import cpu_share
from .runner.torch_backend import TorchBackend, layer_block_bytes
from .runner.torch_device import available_memory, resolve_dtype
from .sources.progress import Progress


def build_torch(
    load: Load, model: ModelConfig, scheduler: SchedulerConfig, progress: Progress
) -> tuple[TorchBackend, CacheConfig]:
    """Load the weights and size the cache. Raises UnsupportedModel or ConfigError."""
    config = load.config
    torch.set_grad_enabled(False)
    torch.set_num_threads(cpu_share(config.num_threads).num_threads)
    device = torch.device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    if config.load_format == "dummy":
        modules = dummy_model(model, dtype=dtype, device=device, progress=progress)
    else:
        modules = load_model(load.files, model, dtype=dtype, device=device, progress=progress)
    cache = plan_kv_cache(
        model,
        scheduler=scheduler,
        layer_block_bytes=layer_block_bytes(
            block_size=config.block_size,
            num_kv_heads=model.num_kv_heads,
            head_dim=model.head_dim,
            dtype=dtype,
        ),
        available_bytes=available_memory(device),
        kv_cache_bytes=config.kv_cache_bytes,
        block_size=config.block_size,
        enable_prefix_caching=config.enable_prefix_caching,
    )
    return TorchBackend(modules, cache=cache, device=device, dtype=dtype), cache
