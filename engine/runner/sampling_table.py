"""The sampling parameters of all rows, kept in columns, and the plan they make for a step."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.output import NewRequestData
from ..core.sampling_params import SamplingParams
from .sampling_plan import NO_REPORT, Entries, LogitEdits, SamplingPlan

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHistory:
    """Tokens of all rows; each array has one entry, or one line, per row of the batch."""

    token_ids: NDArray[np.int32]
    num_prompt_tokens: IntArray
    num_tokens: IntArray


class SamplingTable:
    """One row of sampling parameters per request; a step costs one gather a column.

    Only requests with a penalty, a bias or an unmet `min_tokens` cost Python time of their own.
    """

    def __init__(self, max_num_seqs: int, *, vocab_size: int) -> None:
        self._temperature = np.zeros(max_num_seqs, np.float32)
        self._top_k = np.zeros(max_num_seqs, np.int32)
        self._top_p = np.ones(max_num_seqs, np.float32)
        self._min_p = np.zeros(max_num_seqs, np.float32)
        self._seeds = np.zeros(max_num_seqs, np.int64)
        self._num_logprobs = np.full(max_num_seqs, NO_REPORT, np.int32)
        self._min_tokens = np.zeros(max_num_seqs, np.int64)
        self._output_offset = np.zeros(max_num_seqs, np.int64)
        self._is_edited = np.zeros(max_num_seqs, np.bool_)
        self._has_penalty = np.zeros(max_num_seqs, np.bool_)
        self._params: dict[int, SamplingParams] = {}
        self._stop_token_ids: dict[int, list[int]] = {}
        self._vocab_size = vocab_size

    def set_row(self, row: int, new: NewRequestData) -> None:
        """Fill a row. A tokenizer may name stop ids past the model's vocabulary: never sampled."""
        params = new.sampling_params
        self._temperature[row] = params.temperature
        self._top_k[row] = params.top_k if params.top_k < self._vocab_size else 0
        self._top_p[row] = params.top_p
        self._min_p[row] = params.min_p
        self._seeds[row] = _seed_bits(params)
        self._num_logprobs[row] = (
            NO_REPORT if params.logprobs is None else min(params.logprobs, self._vocab_size)
        )
        self._min_tokens[row] = params.min_tokens
        self._output_offset[row] = params.output_offset
        self._has_penalty[row] = _has_penalty(params)
        self._is_edited[row] = self._has_penalty[row] or bool(params.logit_bias)
        self._params[row] = params
        self._stop_token_ids[row] = [t for t in new.stop_token_ids if t < self._vocab_size]

    def plan(self, rows: IntArray, history: TokenHistory) -> SamplingPlan:
        """The plan for the requests of `rows` [num_rows], in that order."""
        num_output_tokens = history.num_tokens[rows] - history.num_prompt_tokens[rows]
        is_short = num_output_tokens < self._min_tokens[rows]
        return SamplingPlan(
            temperature=self._temperature[rows],
            top_k=self._top_k[rows],
            top_p=self._top_p[rows],
            min_p=self._min_p[rows],
            seeds=self._seeds[rows],
            positions=num_output_tokens + self._output_offset[rows],
            num_logprobs=self._num_logprobs[rows],
            edits=self._edits(rows, is_short, history),
        )

    def reads_outputs(self, rows: IntArray) -> bool:
        """Whether a plan for these rows looks at which tokens came before; others look only at how
        many."""
        return bool(self._has_penalty[rows].any())

    def _edits(
        self, rows: IntArray, is_short: NDArray[np.bool_], history: TokenHistory
    ) -> LogitEdits | None:
        places = (self._is_edited[rows] | is_short).nonzero()[0]
        if not places.size:
            return None
        repetition, presence, frequency, added = (_EntryList() for _ in range(4))
        for place in places.tolist():
            row = int(rows[place])
            params = self._params[row]
            token_ids = history.token_ids[row, : history.num_tokens[row]]
            output_ids = token_ids[history.num_prompt_tokens[row] - params.output_offset :]
            if params.repetition_penalty != 1.0:
                repetition.add(place, np.unique(token_ids), params.repetition_penalty)
            if params.presence_penalty:
                presence.add(place, np.unique(output_ids), params.presence_penalty)
            if params.frequency_penalty:
                frequency.add(place, output_ids, params.frequency_penalty)
            for token_id, bias in params.logit_bias.items():
                added.add(place, [token_id], bias)
            if is_short[place]:
                added.add(place, self._stop_token_ids[row], -np.inf)
        return LogitEdits(
            repetition=repetition.entries(),
            presence=presence.entries(),
            frequency=frequency.entries(),
            added=added.entries(),
        )


class _EntryList:
    """Collects matrix entries: one `add` per row and rule, in ascending order of rows."""

    def __init__(self) -> None:
        self._token_ids: list[NDArray[np.int32]] = []
        self._rows: list[int] = []
        self._values: list[float] = []

    def add(self, row: int, token_ids: NDArray[np.int32] | list[int], value: float) -> None:
        if len(token_ids):
            self._token_ids.append(np.asarray(token_ids, dtype=np.int32))
            self._rows.append(row)
            self._values.append(value)

    def entries(self) -> Entries | None:
        if not self._rows:
            return None
        lengths = [len(ids) for ids in self._token_ids]
        return Entries(
            rows=np.repeat(np.array(self._rows, dtype=np.int32), lengths),
            token_ids=np.concatenate(self._token_ids),
            values=np.repeat(np.array(self._values, dtype=np.float32), lengths),
        )


def _has_penalty(params: SamplingParams) -> bool:
    return (
        params.repetition_penalty != 1.0
        or params.presence_penalty != 0.0
        or params.frequency_penalty != 0.0
    )


def _seed_bits(params: SamplingParams) -> int:
    """The request's seed, or fresh random bits, as a signed 64-bit integer."""
    seed = secrets.randbits(64) if params.seed is None else params.seed
    return (seed + (1 << 63)) % (1 << 64) - (1 << 63)
