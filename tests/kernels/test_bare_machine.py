"""The kernels, their tests and the GPU engine run where only torch, Triton and transformers are.

`make test-gpu` and `make bench-gpu` are run from the source tree on such machines.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ABSENT = (
    "structlog", "msgspec", "httptools", "uvloop", "uvicorn", "fastapi", "starlette", "gguf",
    "ml_dtypes", "zmq", "prometheus_client", "psutil", "xxhash", "redis", "opentelemetry",
)  # fmt: skip
"""What we need elsewhere and neither torch nor transformers brings along."""

IMPORT = """
import importlib, sys
for name in sys.argv[2:]:
    sys.modules[name] = None  # an import of it fails
importlib.import_module(sys.argv[1])
"""


def modules(folder: str) -> list[str]:
    files = sorted((ROOT / folder).rglob("*.py"))
    names = [".".join(("shoal", *f.relative_to(ROOT).with_suffix("").parts)) for f in files]
    return [n.removesuffix(".__init__") for n in names if not n.endswith("__main__")]


BARE = [m for m in modules("kernels") if ".cpu" not in m] + modules("benchmarks/gpu")


def test_kernels_and_gpu_benchmarks_import_with_torch_and_triton_alone() -> None:
    """In one process: each costs an import of torch, 2 s."""
    code = IMPORT + f"for name in {BARE!r}: importlib.import_module(name)\n"
    run_without(code, "torch")


@pytest.mark.parametrize("module", ["shoal.engine.engine_core", "shoal.engine.runner.cuda_backend"])
def test_the_gpu_engine_imports_there_too(module: str) -> None:
    run_without(IMPORT, module)


def run_without(code: str, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, module, *ABSENT],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
