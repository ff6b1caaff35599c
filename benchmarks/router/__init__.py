"""Shoal's router beside vllm-router, sglang-router and nginx: `make bench-router`."""
