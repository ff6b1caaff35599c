"""The Triton bodies run on the GPU where there is one, else in Triton's interpreter on the CPU.

This folder is also run alone on machines that have torch, Triton and pytest but not the rest of
our dependencies (`make test-gpu`), so it must not need the fixtures of the folders above.
"""

from __future__ import annotations

import os

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
