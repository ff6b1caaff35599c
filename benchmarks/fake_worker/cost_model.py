"""How long a model would have taken: prompts by their uncached tokens, gaps by the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shoal.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """Seconds of a pretended model.

    A prompt takes `ttft_s` plus its uncached tokens at `prefill_tokens_per_s`; the second part is
    one resource for all, so prompts queue for it. Example: 1,000 uncached tokens at 10,000 tokens/s
    and ttft 0.1 give 0.2 s alone, and 0.3 s for a second such prompt at the same moment.
    """

    ttft_s: float = 0.1
    itl_s: float = 0.02
    itl_per_seq_s: float = 0.0
    """Added to every gap for each running sequence."""
    prefill_tokens_per_s: float | None = None
    """None: prompts of any length cost `ttft_s`."""

    def __post_init__(self) -> None:
        for name in ("ttft_s", "itl_s", "itl_per_seq_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} is {value}: it must be at least 0")
        if self.prefill_tokens_per_s is not None and not self.prefill_tokens_per_s > 0:
            raise ConfigError(
                f"prefill_tokens_per_s is {self.prefill_tokens_per_s}: it must be above 0"
            )

    def prefill_end(self, now: float, busy_until: float, num_uncached_tokens: int) -> float:
        """When the prefill resource is done with a prompt that arrives now."""
        if self.prefill_tokens_per_s is None:
            return now
        return max(now, busy_until) + num_uncached_tokens / self.prefill_tokens_per_s

    def itl(self, num_running: int) -> float:
        """Seconds from one token to the next while so many sequences run."""
        return self.itl_s + self.itl_per_seq_s * num_running
