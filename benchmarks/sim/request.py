"""A request on its way through a simulated fleet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SimRequest:
    """Lengths are given; times are written down as they happen, in seconds."""

    arrival_s: float
    num_input_tokens: int
    num_output_tokens: int
    num_cached_tokens: int = 0
    first_token_s: float | None = None
    finished_s: float | None = None

    def anew(self) -> SimRequest:
        """The same one, before anything has happened to it."""
        return SimRequest(
            self.arrival_s, self.num_input_tokens, self.num_output_tokens, self.num_cached_tokens
        )

    @property
    def ttft_s(self) -> float | None:
        """Time to first token, everything before it included."""
        return None if self.first_token_s is None else self.first_token_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time of each further token; 0 where there was only one."""
        if self.finished_s is None or self.first_token_s is None:
            return None
        return (self.finished_s - self.first_token_s) / max(self.num_output_tokens - 1, 1)
