"""A model on the native CPU kernels: library, threads, weights, KV cache. Loads no torch."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

import structlog

from shoal.cache_home import cache_home
from shoal.errors import ConfigError
from shoal.kernels.cpu.build import NoCompiler
from shoal.kernels.cpu.kernels import native_kernels
from shoal.kernels.cpu.kv_cache import KVFormat, KVLayout

from .config import EngineConfig
from .core.config import CacheConfig, SchedulerConfig
from .models.config import ModelConfig
from .models.native_llama import unsupported_by_kernels
from .models.native_loader import load_native_model
from .models.native_weights import weight_precision
from .protocol import Load
from .runner.kv_cache import plan_kv_cache
from .runner.machine import available_memory, cpu_share
from .runner.native_backend import NativeBackend
from .sources.progress import Progress

log = structlog.get_logger(__name__)


def prepare_native(config: EngineConfig, model: ModelConfig) -> NativeBuild | str:
    """The compiled kernels, ready to be given a model; or why they cannot run it."""
    obstacle = unsupported_by_kernels(model, block_size=config.block_size)
    if obstacle is not None:
        return obstacle
    try:
        return NativeBuild(native_kernels(cache_home() / "kernels"))
    except NoCompiler as error:
        return str(error)


@dataclass(frozen=True, slots=True)
class NativeBuild:
    """Kernels of this machine."""

    library: ctypes.CDLL

    def build(
        self, load: Load, model: ModelConfig, scheduler: SchedulerConfig, progress: Progress
    ) -> tuple[NativeBackend, CacheConfig]:
        """Load the weights and size the cache. Raises UnsupportedModel or ConfigError."""
        config = load.config
        share = cpu_share(config.num_threads)
        os.sched_setaffinity(0, share.cpus)  # before the weights: their memory is to be near
        log.info("engine.threads", num_threads=share.num_threads, cpus=sorted(share.cpus))
        decoder = load_native_model(
            load.files, model, self.library,
            precision=weight_precision(config.dtype, config.quantization),
            num_threads=share.num_threads, progress=progress,
        )  # fmt: skip
        if config.kv_cache_dtype == "fp8":
            raise ConfigError("kv_cache_dtype fp8 is for GPUs; a CPU has auto, int8 and int4")
        kv_format: KVFormat = (
            "bfloat16" if config.kv_cache_dtype == "auto" else config.kv_cache_dtype
        )
        layout = KVLayout(
            kv_format=kv_format,
            block_size=config.block_size,
            num_kv_heads=model.num_kv_heads,
            head_dim=model.head_dim,
        )
        cache = plan_kv_cache(
            model,
            scheduler=scheduler,
            layer_block_bytes=2 * layout.keys_bytes(self.library),
            available_bytes=available_memory(),
            kv_cache_bytes=config.kv_cache_bytes,
            block_size=config.block_size,
            enable_prefix_caching=config.enable_prefix_caching,
        )  # fmt: skip
        return NativeBackend(decoder, cache=cache, kv_format=kv_format), cache
