"""Tests of the compiled router: `make test-router-compiled`, with its hot modules as C."""

from __future__ import annotations

import os

import pytest

IS_COMPILED = bool(os.environ.get("SHOAL_TEST_COMPILED"))

replaces_methods = pytest.mark.skipif(
    IS_COMPILED, reason="compiled classes do not let a test replace their methods"
)
