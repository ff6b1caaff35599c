"""What is kept of one request: times, counts, and how it ended."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray


class RequestRecord(msgspec.Struct, array_like=True, kw_only=True):
    """One request. Times are seconds from the start of the run, by the client's clock.

    `first_s` is None until a token came, so a request that failed later still tells its TTFT.
    """

    session: int
    turn: int
    intended_s: float
    """When it should have been sent: every latency counts from here (no coordinated omission)."""
    sent_s: float | None = None
    """When sending began; a new connection is made after it."""
    first_s: float | None = None
    last_s: float | None = None
    """Arrival of the last token."""
    end_s: float | None = None
    """End of the answer, or of the attempt."""
    gaps: bytes = b""
    """Seconds between chunks that carry tokens, as packed float32."""
    num_chunks: int = 0
    planned_prompt_tokens: int | None = None
    planned_output_tokens: int | None = None
    prompt_tokens: int | None = None
    """As the server counted; None when it does not say. So the next two."""
    output_tokens: int | None = None
    cached_tokens: int | None = None
    error: str | None = None
    """Kind of failure; None for a complete answer."""
    detail: str = ""
    """What the server or the socket said, cut to a few hundred characters."""
    status: int | None = None

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.intended_s

    @property
    def e2e_s(self) -> float | None:
        """Of complete answers only."""
        if self.error is not None or self.end_s is None:
            return None
        return self.end_s - self.intended_s

    @property
    def num_output_tokens(self) -> int:
        """The server's count, or the number of chunks where it gives none."""
        return self.num_chunks if self.output_tokens is None else self.output_tokens

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first; None below two tokens."""
        if self.first_s is None or self.last_s is None or self.num_output_tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.num_output_tokens - 1)

    @property
    def itl_s(self) -> NDArray[np.float32]:
        return np.frombuffer(self.gaps, dtype=np.float32)
