"""How the next token of a request is chosen and when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_LOGPROBS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Sampling and stopping rules of one request, in the OpenAI API's and vLLM's words.

    Raises ValueError naming the field, its value and the allowed range. Sampling with
    n > 1 is n requests, so `n` is not here.
    """

    max_tokens: int = 16
    min_tokens: int = 0
    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = 0
    """0: all tokens."""
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int | None = None
    """Same seed, same tokens, whatever else is in the batch."""
    output_offset: int = 0
    """So many of the last prompt tokens are the beginning of the answer: penalties count them, and
    the randomness of a seed goes on after them. What another worker began is continued exactly."""
    logprobs: int | None = None
    """Top log-probabilities to report per output token; 0 reports the chosen token's only."""
    prompt_logprobs: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        _require(0 <= self.min_tokens <= self.max_tokens, "min_tokens", self.min_tokens,
                 f"between 0 and max_tokens ({self.max_tokens})")  # fmt: skip
        _require(0.0 <= self.temperature <= 100.0, "temperature", self.temperature, "in [0, 100]")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (off) or positive")
        _require(0.0 < self.top_p <= 1.0, "top_p", self.top_p, "in (0, 1]")
        _require(0.0 <= self.min_p <= 1.0, "min_p", self.min_p, "in [0, 1]")
        _require(self.output_offset >= 0, "output_offset", self.output_offset, "0 or more")
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _require(-2.0 <= value <= 2.0, name, value, "in [-2, 2]")
        _require(0.0 < self.repetition_penalty <= 10.0, "repetition_penalty",
                 self.repetition_penalty, "in (0, 10]")  # fmt: skip
        for token_id, bias in self.logit_bias.items():
            _require(token_id >= 0 and -100.0 <= bias <= 100.0, "logit_bias",
                     {token_id: bias}, "token ids mapped to [-100, 100]")  # fmt: skip
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            _require(value is None or 0 <= value <= MAX_LOGPROBS, name, value,
                     f"between 0 and {MAX_LOGPROBS}")  # fmt: skip
        _require(all(self.stop), "stop", list(self.stop), "non-empty strings")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0


def _require(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{name} must be {allowed}, got {value}")
