"""A model on a GPU: weights, a profile run, the KV cache it leaves room for, CUDA graphs.

Imports torch, and nothing that a machine with torch, Triton and numpy alone has not got.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from shoal.errors import ConfigError

from .config import EngineConfig
from .core.config import CacheConfig, SchedulerConfig
from .core.sampling_params import MAX_LOGPROBS
from .models.config import ModelConfig
from .models.llama import LlamaForCausalLM
from .models.loader import dummy_model, load_model
from .runner.cuda_backend import CudaBackend
from .runner.cuda_graph import CaptureReport
from .runner.gpu_kv_cache import allocate_kv_caches, kv_dtype_of, layer_block_bytes
from .runner.gpu_memory import GpuMemory
from .runner.graph_buckets import CaptureLimits
from .runner.kv_cache import add_host_blocks, fill_memory
from .runner.nvtx import nvtx_ranges
from .runner.step_ranges import no_ranges
from .runner.torch_device import resolve_dtype
from .runner.trial_steps import largest_step, trial_inputs, trial_plan
from .sources.model_files import ModelFiles
from .sources.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaBuild:
    """A backend that is ready to compute, and how the memory was divided."""

    backend: CudaBackend
    cache: CacheConfig
    memory: GpuMemory
    kv_cache_bytes: int
    graphs: CaptureReport | None
    """None: graphs are switched off."""


@torch.inference_mode()
def build_cuda(
    config: EngineConfig,
    files: ModelFiles,
    model: ModelConfig,
    scheduler: SchedulerConfig,
    progress: Progress,
) -> CudaBuild:
    """Load the weights, run the largest step, give the rest to the KV cache, capture graphs.

    Raises ConfigError without a GPU or when the memory does not suffice, UnsupportedModel when the
    checkpoint is not what its configuration says.
    """
    if not torch.cuda.is_available():
        raise ConfigError(
            "device is cuda, but torch finds no CUDA GPU. Install a CUDA build of torch, check"
            " nvidia-smi and CUDA_VISIBLE_DEVICES, or serve with --device cpu."
        )
    torch.set_grad_enabled(False)
    device = torch.device("cuda", torch.cuda.current_device())
    dtype = resolve_dtype(config.dtype, device)
    if config.kv_cache_dtype not in ("auto", "fp8", "int8"):
        raise ConfigError(
            f"kv_cache_dtype is {config.kv_cache_dtype}, but a GPU has auto, fp8 and int8"
        )
    modules = load_weights(config, files, model, dtype=dtype, device=device, progress=progress)
    kv_dtype = kv_dtype_of(config.kv_cache_dtype, dtype)
    block_bytes = layer_block_bytes(modules.config, block_size=config.block_size, kv_dtype=kv_dtype)
    builder = _BackendBuilder(modules, config, scheduler, kv_dtype, device)
    memory = builder.profile(progress)
    kv_cache_bytes = config.kv_cache_bytes or memory.kv_cache_bytes(config.gpu_memory_utilization)
    cache = fill_memory(
        modules.config,
        scheduler=scheduler,
        layer_block_bytes=block_bytes,
        num_bytes=kv_cache_bytes,
        block_size=config.block_size,
        enable_prefix_caching=config.enable_prefix_caching,
    )
    if config.kv_offloading_bytes is not None:
        cache = add_host_blocks(
            cache,
            modules.config,
            layer_block_bytes=block_bytes,
            num_bytes=config.kv_offloading_bytes,
        )
    backend = builder.backend(cache)
    graphs = None
    if config.cuda_graphs:
        limits = CaptureLimits(num_bytes=memory.graph_bytes(config.gpu_memory_utilization))
        graphs = backend.capture_graphs(limits, progress)
    return CudaBuild(
        backend=backend, cache=cache, memory=memory, kv_cache_bytes=kv_cache_bytes, graphs=graphs
    )


def load_weights(
    config: EngineConfig,
    files: ModelFiles,
    model: ModelConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    progress: Progress,
) -> LlamaForCausalLM:
    """The modules on the GPU. Raises ConfigError when they do not fit its memory."""
    try:
        if config.load_format == "dummy":
            return dummy_model(model, dtype=dtype, device=device, progress=progress)
        return load_model(files, model, dtype=dtype, device=device, progress=progress)
    except torch.OutOfMemoryError as error:
        free, total = torch.cuda.mem_get_info(device)
        raise ConfigError(
            f"the weights do not fit: the GPU has {total / 2**30:.1f} GiB, of which"
            f" {free / 2**30:.1f} were free when the next tensor was to be placed. Serve a smaller"
            " model, or stop what else uses the GPU."
        ) from error


@dataclass(frozen=True, slots=True)
class _BackendBuilder:
    """What the backend of the profile run and the final one have in common."""

    model: LlamaForCausalLM
    config: EngineConfig
    scheduler: SchedulerConfig
    kv_dtype: torch.dtype
    device: torch.device

    def backend(self, cache: CacheConfig) -> CudaBackend:
        kv_caches = allocate_kv_caches(
            self.model.config, cache, kv_dtype=self.kv_dtype, device=self.device
        )
        return CudaBackend(
            self.model,
            kv_caches,
            cache=cache,
            scheduler=self.scheduler,
            device=self.device,
            ranges=nvtx_ranges if self.config.nvtx else no_ranges,
        )

    def profile(self, progress: Progress) -> GpuMemory:
        """Run steps over a cache of two blocks: the largest, then those that compile the rest."""
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        cache = CacheConfig(
            num_blocks=2,
            block_size=self.config.block_size,
            groups=self.model.config.kv_groups,
        )
        backend = self.backend(cache)
        run_trial_steps(backend, self.scheduler, cache, progress)
        torch.cuda.synchronize(self.device)
        activations = torch.cuda.max_memory_reserved(self.device) - before
        del backend
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(self.device)
        return GpuMemory(total=total, free=free, activations=activations)


def run_trial_steps(
    backend: CudaBackend, scheduler: SchedulerConfig, cache: CacheConfig, progress: Progress
) -> None:
    """The largest step, and small ones of each kind: what they need is compiled afterwards."""
    seats = min(scheduler.max_num_seqs, scheduler.max_num_batched_tokens)
    one_prefill = min(17, scheduler.max_num_batched_tokens, scheduler.max_model_len)
    drawn = trial_plan(seats, temperature=1.0, top_k=50, top_p=0.9)
    trials = (
        (largest_step(scheduler), drawn),
        ([1] * seats, replace(drawn, top_k=drawn.top_k * 0, top_p=drawn.top_p * 0 + 1)),
        ([1], trial_plan(1)),
        ([one_prefill], trial_plan(1, num_logprobs=MAX_LOGPROBS, with_edits=True)),
    )
    for done, (query_lens, plan) in enumerate(trials):
        progress.update("compiling kernels, measuring the largest step", done, len(trials))
        inputs = trial_inputs(
            query_lens, seq_len=1, block_size=cache.block_size, num_groups=len(cache.groups)
        )
        backend.submit(inputs, inputs.last_tokens, plan).result()
