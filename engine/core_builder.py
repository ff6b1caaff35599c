"""Makes the engine core of a real model: weights, KV cache, runner, warm-up."""

from __future__ import annotations

from pathlib import Path

import structlog

from shoal.clock import MonotonicClock
from shoal.errors import ConfigError

from .config import EngineConfig
from .core.config import CacheConfig, SchedulerConfig
from .core.request import Request
from .core.sampling_params import SamplingParams
from .core.scheduler import Scheduler
from .engine_core import EngineCore
from .models.config import ModelConfig, load_config
from .native_builder import NativeBuild, prepare_native
from .protocol import Load, Ready
from .runner.backend import Backend
from .runner.interface import ModelRunner
from .runner.model_runner import PagedModelRunner
from .runner.profiler import Profilable, Profiler
from .runner.step_ranges import Ranges, no_ranges
from .sources.progress import Progress

log = structlog.get_logger(__name__)


def build_core(load: Load, progress: Progress) -> tuple[EngineCore, Ready]:
    """Load the model and run it once. Raises ModelError or ConfigError."""
    model_config = load_config(load.files)
    scheduler_config = load.config.scheduler_config(
        max_model_len=_max_model_len(load.config, model_config)
    )
    backend, cache_config = _build_backend(load, model_config, scheduler_config, progress)
    runner = PagedModelRunner(
        backend,
        cache=cache_config,
        scheduler=scheduler_config,
        on_broken_logits=lambda id_: log.warning("runner.broken_logits", request_id=id_),
    )
    progress.update("warming up", 0, None)
    warm_up(runner, scheduler_config, cache_config)
    ready = Ready(
        max_model_len=scheduler_config.max_model_len,
        vocab_size=model_config.vocab_size,
        num_blocks=cache_config.num_blocks,
        block_size=cache_config.block_size,
    )
    profiler = None
    if load.config.torch_profiler_dir is not None:
        profiler = _make_profiler(backend, load.config.torch_profiler_dir)
    core = EngineCore(
        Scheduler(scheduler_config, cache_config),
        runner,
        MonotonicClock(),
        profiler=profiler,
        max_in_flight=backend.max_in_flight if load.config.async_scheduling else 1,
        ranges=_ranges(load.config),
    )
    return core, ready


def _build_backend(
    load: Load, model: ModelConfig, scheduler: SchedulerConfig, progress: Progress
) -> tuple[Backend, CacheConfig]:
    """On a CPU the native kernels compute, unless fp32 or fp16 is asked for: those, like every
    other device, are torch's, and so is a CPU without a compiler."""
    config = load.config
    if config.device == "cuda":
        return _build_on_gpu(load, model, scheduler, progress)
    is_dummy = config.load_format == "dummy"
    if not is_dummy and config.dtype in ("auto", "bfloat16"):
        progress.update("preparing the CPU kernels", 0, None)
        prepared = prepare_native(config, model)
        if isinstance(prepared, NativeBuild):
            return prepared.build(load, model, scheduler, progress)
        log.warning("engine.without_native_kernels", reason=prepared, effect="several times slower")
    if config.quantization is not None or config.kv_cache_dtype != "auto":
        raise ConfigError(
            "quantization and kv_cache_dtype need the native CPU kernels (device cpu, dtype auto or"
            " bfloat16, load_format auto, and a C++ compiler) or, for kv_cache_dtype, a GPU"
        )
    progress.update("importing torch", 0, None)
    from .torch_builder import build_torch  # 2 s, which the native kernels do without

    return build_torch(load, model, scheduler, progress)


def _build_on_gpu(
    load: Load, model: ModelConfig, scheduler: SchedulerConfig, progress: Progress
) -> tuple[Backend, CacheConfig]:
    config = load.config
    if config.quantization is not None:
        raise ConfigError("quantization int8 is for CPUs; on a GPU serve the weights as they are")
    progress.update("importing torch", 0, None)
    from .cuda_builder import build_cuda

    built = build_cuda(config, load.files, model, scheduler, progress)
    log.info(
        "engine.gpu_memory",
        total_gib=_gib(built.memory.total),
        activations_gib=_gib(built.memory.activations),
        kv_cache_gib=_gib(built.kv_cache_bytes),
        kv_cache_tokens=(built.cache.num_blocks - 1) * built.cache.block_size,
    )
    if (graphs := built.graphs) is not None:
        log.info(
            "engine.cuda_graphs",
            num_captured=graphs.num_captured,
            num_planned=graphs.num_planned,
            seconds=round(graphs.seconds, 1),
            gib=_gib(graphs.num_bytes),
        )
    return built.backend, built.cache


def _ranges(config: EngineConfig) -> Ranges:
    if not config.nvtx or config.device != "cuda":
        return no_ranges
    from .runner.nvtx import nvtx_ranges  # torch is here already

    return nvtx_ranges


def _make_profiler(backend: Backend, folder: str) -> Profiler:
    if not isinstance(backend, Profilable):
        raise ConfigError(
            "torch_profiler_dir needs device cuda, or dtype float32 on a CPU: the CPU kernels are"
            " no operators of torch; look at them with perf"
        )
    return backend.make_profiler(Path(folder))


def _gib(num_bytes: int) -> float:
    return round(num_bytes / (1 << 30), 2)


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
