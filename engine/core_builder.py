"""Makes the engine core of a real model: weights, KV cache, runner, warm-up. Imports torch."""

from __future__ import annotations

import structlog
import torch

from shoal.clock import MonotonicClock
from shoal.errors import ConfigError
from shoal.kernels.cpu.build import NoCompiler
from shoal.kernels.cpu.kernels import native_kernels

from .config import EngineConfig
from .core.config import CacheConfig, SchedulerConfig
from .core.request import Request
from .core.sampling_params import SamplingParams
from .core.scheduler import Scheduler
from .engine_core import EngineCore
from .models.causal_lm import CausalLM
from .models.config import ModelConfig, load_config
from .models.loader import load_model, load_native_model
from .models.native_llama import unsupported_by_kernels
from .models.native_weights import weight_precision
from .protocol import Load, Ready
from .runner.device import available_memory, default_num_threads, resolve_dtype
from .runner.interface import ModelRunner
from .runner.kv_cache import plan_kv_cache
from .runner.model_runner import TorchModelRunner
from .sources.cache import cache_home
from .sources.progress import Progress

log = structlog.get_logger(__name__)


def build_core(load: Load, progress: Progress) -> tuple[EngineCore, Ready]:
    """Load the model and run it once. Raises ModelError or ConfigError."""
    config = load.config
    torch.set_grad_enabled(False)
    num_threads = config.num_threads or default_num_threads()
    torch.set_num_threads(num_threads)
    device = torch.device(config.device)
    model_config = load_config(load.files)
    scheduler_config = config.scheduler_config(max_model_len=_max_model_len(config, model_config))
    model, dtype = _load_model(load, model_config, device, num_threads, progress)
    cache_config = plan_kv_cache(
        model_config,
        scheduler=scheduler_config,
        dtype=dtype,
        available_bytes=available_memory(device),
        kv_cache_bytes=config.kv_cache_bytes,
        block_size=config.block_size,
        enable_prefix_caching=config.enable_prefix_caching,
    )
    runner = TorchModelRunner(
        model, cache=cache_config, scheduler=scheduler_config, device=device, dtype=dtype
    )
    progress.update("warming up", 0, None)
    warm_up(runner, scheduler_config, cache_config)
    ready = Ready(
        max_model_len=scheduler_config.max_model_len,
        vocab_size=model_config.vocab_size,
        num_blocks=cache_config.num_blocks,
        block_size=cache_config.block_size,
    )
    return EngineCore(Scheduler(scheduler_config, cache_config), runner, MonotonicClock()), ready


def _load_model(
    load: Load,
    model_config: ModelConfig,
    device: torch.device,
    num_threads: int,
    progress: Progress,
) -> tuple[CausalLM, torch.dtype]:
    """The model, and the number format of its KV cache.

    On a CPU the native kernels compute, unless fp32 or fp16 is asked for: those, like every other
    device, are torch's.
    """
    config = load.config
    if device.type == "cpu" and config.dtype in ("auto", "bfloat16"):
        progress.update("preparing the CPU kernels", 0, None)
        obstacle = unsupported_by_kernels(model_config, block_size=config.block_size)
        try:
            library = None if obstacle else native_kernels(cache_home() / "kernels")
        except NoCompiler as error:
            library, obstacle = None, str(error)
        if library is not None:
            precision = weight_precision(config.dtype, config.quantization)
            torch.set_num_threads(1)  # torch's threads would spin on the cores of ours
            model = load_native_model(
                load.files, model_config, library,
                precision=precision, num_threads=num_threads, progress=progress,
            )  # fmt: skip
            return model, torch.bfloat16
        log.warning("engine.without_native_kernels", reason=obstacle, effect="several times slower")
    if config.quantization is not None:
        raise ConfigError(
            f"quantization {config.quantization!r} needs the native CPU kernels: device cpu, dtype"
            " auto, and a C++ compiler"
        )
    dtype = resolve_dtype(config.dtype, device)
    return load_model(
        load.files, model_config, dtype=dtype, device=device, progress=progress
    ), dtype


def warm_up(runner: ModelRunner, scheduler_config: SchedulerConfig, cache: CacheConfig) -> None:
    """Run one short request to its end, so that the first real one finds everything in place.

    It goes through a scheduler of its own, which is then thrown away: no trace is left of it but
    some garbage in blocks that nobody holds.
    """
    clock = MonotonicClock()
    core = EngineCore(Scheduler(scheduler_config, cache), runner, clock)
    num_prompt_tokens = min(8, scheduler_config.max_model_len - 1)
    request = Request(
        "warm-up",
        [0] * num_prompt_tokens,
        sampling_params=SamplingParams(max_tokens=2, temperature=0.0),
        arrival_time=clock.now(),
    )
    rejection = core.add_request(request)
    if rejection is not None:
        raise ConfigError(f"Not even a request of a few tokens can run: {rejection.message}")
    while core.has_work():
        core.step()


def _max_model_len(config: EngineConfig, model: ModelConfig) -> int:
    longest = model.max_position_embeddings
    if config.max_model_len is None:
        return longest
    if config.max_model_len > longest:
        raise ConfigError(
            f"max_model_len is {config.max_model_len}, but the model was made for at most"
            f" {longest} tokens"
        )
    return config.max_model_len
