"""How long a step takes, learnt from the steps that ran.

    seconds ~= fixed + decodes + their context + prefill tokens + prefill pairs

each times a coefficient. A pair is a query token with one token of its context. Decodes have
coefficients of their own: each reads the KV cache for a single token, and its row goes through the
output layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

from .least_squares import LeastSquares, Row

EXPECTED: Row = (32.0, 1.0, 1 / 4096, 1.0, 1 / 4096)
"""What a step, a decode, a token of context, a prefill token and a pair are expected to cost, in
prefill tokens: where learning starts, and the scale on which a coefficient is large or small."""

PRIOR_VARIANCE = 1000.0
"""Of each coefficient by itself, before steps have told better (see `least_squares` for the unit):
with errors of 5 %, an expectation may be wrong by 1.6 times itself."""


@dataclass(frozen=True, slots=True)
class StepShape:
    """What makes one step longer than another."""

    num_decodes: int = 0
    decode_context: int = 0
    """Tokens that the decodes attend to, all decodes together."""
    prefill_tokens: int = 0
    prefill_pairs: int = 0


def count_pairs(num_tokens: int, *, start: int) -> int:
    """Pairs of a chunk at position `start`: its first token attends to `start` + 1 tokens, and each
    to one more than the one before."""
    return num_tokens * start + num_tokens * (num_tokens + 1) // 2


class StepTimeModel:
    """Predicts the seconds of a step from its shape; never less for more work."""

    def __init__(self) -> None:
        self._fit: LeastSquares | None = None

    @property
    def has_learnt(self) -> bool:
        return self._fit is not None

    def predict(self, shape: StepShape) -> float:
        """Seconds of a step; 0 as long as nothing has been learnt."""
        return 0.0 if self._fit is None else self._fit.predict(_features(shape))

    def prefill_seconds(self, num_tokens: int, *, start: int) -> float:
        """What a chunk at position `start` adds to a step."""
        pairs = count_pairs(num_tokens, start=start)
        chunk = StepShape(prefill_tokens=num_tokens, prefill_pairs=pairs)
        return self.predict(chunk) - self.predict(StepShape())

    def num_prefill_tokens(self, seconds: float, *, start: int) -> float:
        """The longest chunk at position `start` that adds at most so many seconds to a step.

        n tokens add n * token + (n * start + n * (n + 1) / 2) * pair: a quadratic in n, solved in
        the form that neither divides by a `pair` of 0 nor cancels. Infinite if tokens are free.
        """
        if self._fit is None:
            return inf
        if seconds <= 0:
            return 0.0
        *_, token, pair = map(float.__mul__, self._fit.coefficients, EXPECTED)
        linear = token + pair * (start + 0.5)
        divisor = linear + sqrt(linear * linear + 2 * pair * seconds)
        return 2 * seconds / divisor if divisor else inf

    def observe(self, shape: StepShape, seconds: float) -> None:
        """Learn from a step; one without a duration or without tokens tells nothing."""
        if not 0 < seconds < inf or not (shape.num_decodes or shape.prefill_tokens):
            return
        features = _features(shape)
        if self._fit is None:  # the first step sets the scale
            self._fit = LeastSquares(seconds / sum(features), own_variance=PRIOR_VARIANCE)
        self._fit.observe(features, seconds)


def _features(shape: StepShape) -> Row:
    """The shape in expected prefill tokens: all five of one order of magnitude."""
    fixed, decode, context, token, pair = EXPECTED
    return (
        fixed,
        decode * shape.num_decodes,
        context * shape.decode_context,
        token * shape.prefill_tokens,
        pair * shape.prefill_pairs,
    )
