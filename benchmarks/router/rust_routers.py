"""Command lines of vllm-router and sglang-router: one is a fork of the other.

Defaults would do them wrong: they check health every 60 s, and their breakers stay open for 60 s.
Of `cache_aware` the threshold is 0.8: with the default of 0.3 a system prompt that all requests
share is a match good enough to send everything to one worker (measured: 320 of 320 requests).
"""

from __future__ import annotations

from pathlib import Path

from .wish import Wish


def vllm_router(program: Path, wish: Wish) -> list[str]:
    return [
        str(program), *_common(wish), "--max-concurrent-requests", "16384", *_policy(wish),
    ]  # fmt: skip


def sglang_router(program: Path, wish: Wish) -> list[str]:
    return [
        str(program), "launch", *_common(wish), "--max-concurrent-requests", "16384",
        *_policy(wish),
    ]  # fmt: skip


def _common(wish: Wish) -> list[str]:
    words = {
        "--host": "127.0.0.1",
        "--port": wish.port,
        "--prometheus-host": "127.0.0.1",
        "--prometheus-port": wish.side_port,
        "--log-level": "error",
        "--worker-startup-check-interval": 1,
        "--health-check-interval-secs": 1,
        "--health-check-timeout-secs": 1,
        "--health-failure-threshold": 2,
        "--health-success-threshold": 1,
        "--cb-failure-threshold": 3,
        "--cb-success-threshold": 1,
        "--cb-timeout-duration-secs": 2,
    }
    if wish.first_byte_timeout_s is not None:
        # Of the whole request: they have none for the first byte.
        words["--request-timeout-secs"] = max(1, round(wish.first_byte_timeout_s))
    options = [str(word) for pair in words.items() for word in pair]
    return [*options, "--worker-urls", *wish.worker_urls]


def _policy(wish: Wish) -> list[str]:
    if wish.cache_aware:
        return ["--policy", "cache_aware", "--cache-threshold", "0.8"]
    return ["--policy", "round_robin"]
