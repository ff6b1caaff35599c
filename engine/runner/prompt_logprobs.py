"""Collects the log-probabilities of prompt tokens over the chunks of a prefill.

They are handed out once, when the prompt is complete: a request that is preempted before that
starts again from nothing, and one that is preempted later does not report a second time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from ..core.output import NewRequestData, TokenLogprobs
from .input_batch import StepInputs
from .sampling_plan import LongInts
from .sampling_table import TokenHistory


class TokenLogprobsOf(Protocol):
    """`Backend.token_logprobs`."""

    def __call__(
        self, tokens: LongInts, targets: LongInts, *, num_top: int
    ) -> list[TokenLogprobs]: ...


class PromptLogprobs:
    """The requests that asked, and what has been collected for each."""

    def __init__(self) -> None:
        self._num_top: dict[str, int] = {}
        self._collected: dict[str, list[TokenLogprobs]] = {}

    def add(self, new: NewRequestData) -> None:
        """Take note of a request; one that has output tokens has reported before."""
        num_top = new.sampling_params.prompt_logprobs
        if num_top is not None and len(new.token_ids) == new.num_prompt_tokens:
            self._num_top[new.request_id] = num_top
            self._collected[new.request_id] = []

    def remove(self, request_ids: Iterable[str]) -> None:
        """Forget requests; those that never asked are ignored."""
        for request_id in request_ids:
            self._num_top.pop(request_id, None)
            self._collected.pop(request_id, None)

    def collect(
        self, inputs: StepInputs, history: TokenHistory, token_logprobs: TokenLogprobsOf
    ) -> dict[str, list[TokenLogprobs]]:
        """Add what a step computed; returns the reports that are complete now."""
        complete: dict[str, list[TokenLogprobs]] = {}
        if not self._num_top:
            return complete
        asked = [i for i, request_id in enumerate(inputs.req_ids) if request_id in self._num_top]
        for i in asked:
            request_id, row = inputs.req_ids[i], int(inputs.rows[i])
            num_prompt_tokens = int(history.num_prompt_tokens[row])
            # Position p predicts token p + 1, so the prompt's last position predicts output.
            first = int(inputs.seq_lens[i] - inputs.query_lens[i]) + 1
            last = min(int(inputs.seq_lens[i]) + 1, num_prompt_tokens)
            targets = history.token_ids[row, first:last].astype(np.int64)
            start = int(inputs.last_tokens[i] - inputs.query_lens[i]) + 1
            if len(targets):
                tokens = np.arange(start, start + len(targets))
                num_top = self._num_top[request_id]
                self._collected[request_id] += token_logprobs(tokens, targets, num_top=num_top)
            if inputs.seq_lens[i] >= num_prompt_tokens:
                complete[request_id] = self._collected[request_id]
        self.remove(complete)
        return complete
