"""How long a step may take, and so how many prompt tokens go into it.

A step keeps every running answer waiting for its next token, so prefills get what the target of
the step leaves beside the decodes. Worked example, 8 decodes that take 13 ms by themselves: the
target is 26 ms, so at 1 ms a token a prompt of 4,000 tokens advances by 13 tokens a step, not 500.

While others want their first token too, the first in order takes at most half of that time. The
next in order get the rest: a short prompt does not wait until a long one before it is through.

Liveness: the first prefill of a step computes at least `MIN_CHUNK` tokens, or all that it lacks,
whatever the target; so the first in order always advances.
"""

from __future__ import annotations

from .step_time import StepShape, StepTimeModel

STRETCH = 2.0
"""Prefills may make a step so many times as long as its decodes alone: half of it is theirs, so a
prompt takes twice as long as without decodes. What is measured at the 99th percentile is more than
what is aimed at, by the noise of the machine and of the prediction."""
SHORT_S = 0.025
"""But steps up to so long are always fine: 40 tokens a second are more than anybody reads, and
shorter steps would read all weights for a handful of tokens."""
LONG_S = 0.5
"""Arrivals and aborts wait for the end of a step, so that it is bounded without decodes too."""
EMPTY_STRETCH = 4.0
"""Yet at most a quarter of such a step goes into what it costs with no token in it."""
MIN_SHARE = 1 / 8
"""If the decodes alone miss a target that was set, prefills get so much of their time, not none."""
FIRST_SHARE = 1 / 2
"""Of the first prefill in order, of the time for prefills, while others wait for theirs."""
MIN_CHUNK = 4


def step_target_s(
    decodes_s: float, *, num_decodes: int, num_prefills: int, itl_target_s: float | None
) -> float:
    """Seconds that a step with prefills should take, if it takes `decodes_s` without them.

    Where more requests want their first token than are running, each gets the same share of the
    step. Worked example: 4 decodes of 9 ms and 28 prompts -> 28 / 32 of the step are the prompts',
    72 ms in all. Half of it would hold back the 28 for the 4, and then read all weights for small
    batches.
    """
    if not num_decodes:
        return max(EMPTY_STRETCH * decodes_s, LONG_S)
    if itl_target_s is not None:
        return itl_target_s
    fair_s = (1 + num_prefills / num_decodes) * decodes_s
    return max(STRETCH * decodes_s, min(fair_s, LONG_S), SHORT_S)


class PrefillTime:
    """The seconds that one step has for prefills; thrown away with the step."""

    def __init__(
        self,
        model: StepTimeModel,
        decodes: StepShape,
        *,
        num_prefills: int,
        itl_target_s: float | None,
    ) -> None:
        decodes_s = model.predict(decodes)
        self.target_s = step_target_s(
            decodes_s,
            num_decodes=decodes.num_decodes,
            num_prefills=num_prefills,
            itl_target_s=itl_target_s,
        )
        self._model = model
        self._left_s = max(self.target_s - decodes_s, MIN_SHARE * decodes_s)
        self._first_share = FIRST_SHARE if num_prefills > 1 else 1.0
        self._is_unused = True

    @property
    def is_spent(self) -> bool:
        """Whether there is no time left for any token of any prefill."""
        return not self._is_unused and self._left_s < self._model.prefill_seconds(1, start=0)

    def fit(self, num_tokens: int, *, start: int) -> int:
        """How many of these tokens, from position `start`, the step has time for.

        All, at least `MIN_CHUNK`, or none: slivers would cost more than they bring.
        """
        share = self._first_share if self._is_unused else 1.0
        fitting = self._model.num_prefill_tokens(share * self._left_s, start=start)
        if fitting >= num_tokens:
            return num_tokens
        if fitting >= MIN_CHUNK:
            return int(fitting)
        return min(num_tokens, MIN_CHUNK) if self._is_unused else 0

    def spend(self, num_tokens: int, *, start: int) -> None:
        """Take off what a chunk costs."""
        self._left_s -= self._model.prefill_seconds(num_tokens, start=start)
        self._is_unused = False
