"""The GPU engine: on a GPU where there is one, else on the CPU with the torch twins of the kernels.

Like tests/kernels/triton this folder is also run alone on machines with torch, Triton and
transformers but without the rest of our dependencies (`make test-gpu`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is imported, so before any test is

    from tests.kernels.triton import interpreter_casts, interpreter_scalars

    interpreter_casts.install()
    interpreter_scalars.install()


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: a second thread only waits."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
