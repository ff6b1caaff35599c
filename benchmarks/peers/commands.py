"""How each contestant is started: the fastest settings that were found for a small machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shoal import __version__

from .comparison import OURS, OURS_BF16
from .folder import MODEL, PeersFolder
from .install.llama_cpp import VERSION
from .install.openvino import WANTED
from .install.vllm import TORCH, VLLM

HERE = Path(__file__).parent
SERVED_NAME = "smollm2"
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
"""Processors with one of these multiply bf16 numbers; others turn them into float32 first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommand:
    """A contestant that speaks HTTP; `{port}` in the arguments becomes a free port."""

    name: str
    argv: list[str]
    version: str
    settings: str
    """What a reader must know of how it ran."""
    model: str = SERVED_NAME
    ready_path: str = "/health"
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineCommand:
    """A contestant without a server; see `openvino_offline.py` for what its program answers."""

    name: str
    argv: list[str]
    version: str
    settings: str
    env: Mapping[str, str] = field(default_factory=dict)


Command = ServerCommand | OfflineCommand


def shoal(model: str = MODEL, *, bf16: bool = False) -> ServerCommand:
    """With its defaults; or with bf16 weights and activations, as the peers have them."""
    program = str(Path(sys.executable).with_name("shoal"))
    argv = [program, "serve", model, "--port", "{port}", "--served-model-name", SERVED_NAME]
    return ServerCommand(
        name=OURS_BF16 if bf16 else OURS,
        argv=[*argv, "--dtype", "bfloat16"] if bf16 else argv,
        version=__version__,
        settings="--dtype bfloat16" if bf16 else "defaults",
        ready_path="/ready",
    )


def vllm(
    folder: PeersFolder, *, features: frozenset[str], num_cores: int | None = None
) -> ServerCommand:
    """Eager, for compiling takes minutes; all cores bound; tcmalloc and Intel's OpenMP preloaded.

    bf16 where the processor multiplies it, else float32: on two cores of a Zen 3 (AVX2 only)
    bfloat16 gave 13, 19 and 23 output tokens/s at concurrency 1, 8 and 32, float32 12, 68 and 113.
    """
    dtype = "bfloat16" if features & BF16_FEATURES else "float32"
    preload = [
        Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4"),
        folder.vllm / "lib" / "libiomp5.so",
    ]
    cores = num_cores or os.cpu_count() or 1
    return ServerCommand(
        name="vllm",
        version=f"{VLLM} ({TORCH})",
        argv=[
            str(folder.vllm_python), str(HERE / "vllm_main.py"), "serve", str(folder.hf_model),
            "--host", "127.0.0.1", "--port", "{port}", "--served-model-name", SERVED_NAME,
            "--dtype", dtype, "--max-model-len", "8192", "--max-num-seqs", "64", "--enforce-eager",
        ],
        settings=f"{dtype}, --enforce-eager, threads on all {cores} cores, 2 GiB of KV cache",
        env={
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{cores - 1}",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "LD_PRELOAD": ":".join(str(path) for path in preload if path.exists()),
        },
    )  # fmt: skip


def llama_format(features: frozenset[str]) -> str:
    """The number format of llama.cpp's weights: bf16 where the processor multiplies it, else f16.

    On two cores of a Zen 3 (AVX2 only) f16 gave 50, 100 and 111 output tokens/s at concurrency 1,
    8 and 32; bf16 42, 86 and 89; f32 32, 79 and 96; q8_0 58, 89 and 89; q4_1 48, 55 and 52.
    """
    return "bf16" if features & BF16_FEATURES else "f16"


def llama_cpp(
    folder: PeersFolder, *, features: frozenset[str], num_cores: int | None = None
) -> ServerCommand:
    """32 slots of 4,096 tokens, each with a KV buffer of its own.

    With one buffer for all slots the server saves and clears idle slots, and the workload with a
    shared prefix takes minutes.
    """
    cores = str(num_cores or os.cpu_count() or 1)
    number_format = llama_format(features)
    return ServerCommand(
        name="llama.cpp",
        version=f"b{VERSION.split('.')[0]}",
        argv=[
            str(folder.llama_server), "--model", str(folder.llama_model(number_format)),
            "--alias", SERVED_NAME, "--host", "127.0.0.1", "--port", "{port}",
            "--threads", cores, "--threads-batch", cores, "--parallel", "32",
            "--ctx-size", "131072", "--no-kv-unified", "--cache-ram", "0", "--no-warmup",
        ],
        settings=f"{number_format} weights, {cores} threads, 32 slots of 4,096 tokens",
    )  # fmt: skip


def openvino(folder: PeersFolder, gguf: Path) -> OfflineCommand:
    return OfflineCommand(
        name="openvino",
        version=WANTED[0],
        argv=[str(folder.openvino_python), str(HERE / "openvino_offline.py"), str(gguf)],
        settings="in process (no HTTP), Q4_1 weights, prompts of random tokens, "
        "2 GiB of KV cache, 2,048-token steps",
    )
