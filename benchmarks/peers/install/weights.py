"""The same weights in the formats that the peers read, all made from Shoal's GGUF file."""

from __future__ import annotations

import shutil
from pathlib import Path

from shoal.benchmarks.peers.folder import MODEL, PeersFolder
from shoal.engine.sources.resolve import resolve

from .llama_cpp import converter
from .steps import InstallFailed, Steps

HF_CONVERTER = Path(__file__).parents[1] / "hf_folder.py"


def make_hf_folder(folder: PeersFolder, steps: Steps) -> None:
    """bf16 safetensors, for vLLM and as the converter's source. Raises InstallFailed."""
    if folder.hf_model.is_dir():
        return
    _need_vllm(folder)
    partial = folder.hf_model.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    gguf = resolve(MODEL).path
    steps.run("converting the weights", [folder.vllm_python, HF_CONVERTER, gguf, partial])
    partial.rename(folder.hf_model)


def make_llama_model(folder: PeersFolder, steps: Steps, *, number_format: str) -> None:
    """A GGUF file in `number_format` (`f32`, `f16`, `bf16`, `q8_0`). Raises InstallFailed."""
    target = folder.llama_model(number_format)
    if target.is_file():
        return
    _need_vllm(folder)
    make_hf_folder(folder, steps)
    partial = target.with_suffix(".partial")
    steps.run(
        f"converting the weights to {number_format}",
        [
            folder.vllm_python, converter(folder), folder.hf_model,
            "--outtype", number_format, "--outfile", partial,
        ],
    )  # fmt: skip
    partial.rename(target)


def _need_vllm(folder: PeersFolder) -> None:
    if not folder.vllm_python.exists():
        raise InstallFailed("weights: vLLM's environment converts them, and it is not installed")
