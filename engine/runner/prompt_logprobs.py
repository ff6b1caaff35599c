"""Collects the log-probabilities of prompt tokens over the chunks of a prefill.

They are handed out once, when the prompt is complete: a request that is preempted before that
starts again from nothing, and one that is preempted later does not report a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..core.output import NewRequestData, TokenLogprobs
from .input_batch import StepInputs
from .logprobs import token_logprobs
from .sampling_table import TokenHistory

CHUNK_BYTES = 64 << 20
"""Logits held at once: 341 positions of a vocabulary of 49,152. A prompt of 4,000 would take
786 MB in one piece."""


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
        self,
        inputs: StepInputs,
        history: TokenHistory,
        hidden: Tensor,
        compute_logits: Callable[[Tensor], Tensor],
    ) -> dict[str, list[TokenLogprobs]]:
        """Add what a step computed; returns the reports that are complete now.

        hidden: [num_tokens, hidden_size] of all tokens of the step.
        """
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
            targets = torch.from_numpy(history.token_ids[row, first:last]).to(
                hidden.device, torch.int64
            )
            start = int(inputs.last_tokens[i] - inputs.query_lens[i]) + 1
            self._collected[request_id] += _in_chunks(
                hidden[start : start + len(targets)],
                targets,
                compute_logits,
                num_top=self._num_top[request_id],
            )
            if inputs.seq_lens[i] >= num_prompt_tokens:
                complete[request_id] = self._collected[request_id]
        self.remove(complete)
        return complete


def _in_chunks(
    hidden: Tensor, targets: Tensor, compute_logits: Callable[[Tensor], Tensor], *, num_top: int
) -> list[TokenLogprobs]:
    reports: list[TokenLogprobs] = []
    chunk = 1  # the first one also tells how large a row of logits is
    while len(reports) < len(targets):
        places = slice(len(reports), len(reports) + chunk)
        logits = compute_logits(hidden[places])
        reports += token_logprobs(logits, targets[places], num_top=[num_top] * len(logits))
        chunk = max(CHUNK_BYTES // (logits.shape[1] * logits.element_size()), 1)
    return reports
