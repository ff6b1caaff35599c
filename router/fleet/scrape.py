"""The few numbers a router needs, out of a metrics page of 100 KB. Pure.

Of data-parallel engines, one line each, counts add up and usage is the mean.
"""

from __future__ import annotations

from typing import NamedTuple

from shoal import metrics as names
from shoal.metrics_page import lines_of, values_of


class Numbers(NamedTuple):
    """Of one scrape; None: the page does not say."""

    num_requests_running: int | None = None
    num_requests_waiting: int | None = None
    kv_cache_usage: float | None = None
    """In [0, 1]."""
    num_cache_tokens: int | None = None
    block_size: int | None = None
    generation_tokens: float | None = None
    """A counter: it goes back when the process is another one."""
    process_start_time: float | None = None
    """Unix time in seconds."""


class PageReader:
    """Reads the pages of one worker; remembers under which name it found what."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def read(self, page: bytes) -> Numbers:
        """Never raises: a line that is no sample is as good as none."""
        running = self._values(page, names.NUM_REQUESTS_RUNNING)
        waiting = self._values(page, names.NUM_REQUESTS_WAITING)
        usage = self._values(page, names.KV_CACHE_USAGE_PERC)
        generated = self._values(page, names.GENERATION_TOKENS)
        started = self._values(page, names.PROCESS_START_TIME)
        num_cache_tokens, block_size = self._cache_size(page)
        return Numbers(
            num_requests_running=int(sum(running)) if running else None,
            num_requests_waiting=int(sum(waiting)) if waiting else None,
            kv_cache_usage=min(1.0, max(0.0, sum(usage) / len(usage))) if usage else None,
            num_cache_tokens=num_cache_tokens,
            block_size=block_size,
            generation_tokens=sum(generated) if generated else None,
            process_start_time=started[0] if started else None,
        )

    def _cache_size(self, page: bytes) -> tuple[int | None, int | None]:
        """KV cache in tokens, and tokens of a block."""
        tokens, block_size = 0, None
        for line in lines_of(page, names.CACHE_CONFIG_INFO.encode()):
            labels = _labels(line)
            block_size = _count(labels.get("block_size")) or block_size
            blocks = _count(labels.get("num_gpu_blocks"))
            tokens += _count(labels.get("kv_cache_size_tokens")) or blocks * (block_size or 0)
        if tokens or block_size:
            return tokens or None, block_size
        sglang_tokens = self._values(page, names.SGLANG_MAX_TOTAL_NUM_TOKENS)
        if not sglang_tokens:
            return None, None
        sizes = self._values(page, names.SGLANG_PAGE_SIZE)
        return int(sum(sglang_tokens)), int(sizes[0]) if sizes and sizes[0] >= 1 else None

    def _values(self, page: bytes, name: str) -> list[float]:
        known = self._known.get(name)
        if known is not None and (values := values_of(page, known)):
            return values
        for candidate in (name, *names.ALIASES.get(name, ())):
            spelling = candidate.encode()
            if spelling != known and (values := values_of(page, spelling)):
                self._known[name] = spelling
                return values
        return []


def _labels(line: bytes) -> dict[str, str]:
    try:
        return next(iter(names.parse_prometheus_text(line.decode()))).labels
    except (ValueError, StopIteration):
        return {}


def _count(text: str | None) -> int:
    """0 for what is no count: vLLM writes "None" before it knows."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 16 else 0
