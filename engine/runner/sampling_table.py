"""The sampling parameters of all rows, kept in columns, and the plan they make for a step."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.output import NewRequestData
from ..core.sampling_params import SamplingParams
from .logit_edits import Entries, LogitEdits
from .sampling_plan import LogprobRows, RandomRows, SamplingPlan

IntArray = NDArray[np.int64]

_COLUMNS = np.dtype(
    [
        ("temperature", np.float32),
        ("top_k", np.int64),
        ("top_p", np.float32),
        ("min_p", np.float32),
        ("is_filtered", np.bool_),
        ("seed", np.int64),
        ("is_edited", np.bool_),
        ("min_tokens", np.int64),
        ("reports_logprobs", np.bool_),
        ("num_top_logprobs", np.int64),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHistory:
    """Tokens of all rows; each array has one entry, or one line, per row of the batch."""

    token_ids: NDArray[np.int32]
    num_prompt_tokens: IntArray
    num_tokens: IntArray


class SamplingTable:
    """One row of sampling parameters per request; a step costs one gather and a few `any`s.

    Only requests with a penalty, a bias or an unmet `min_tokens` cost Python time of their own.
    """

    def __init__(self, max_num_seqs: int, *, vocab_size: int, device: torch.device) -> None:
        self._columns = np.zeros(max_num_seqs, dtype=_COLUMNS)
        self._params: dict[int, SamplingParams] = {}
        self._stop_token_ids: dict[int, list[int]] = {}
        self._vocab_size = vocab_size
        self._device = device

    def set_row(self, row: int, new: NewRequestData) -> None:
        """Fill a row. A tokenizer may name stop ids past the model's vocabulary: never sampled."""
        params = new.sampling_params
        self._columns[row] = (
            params.temperature,
            params.top_k if params.top_k < self._vocab_size else 0,
            params.top_p,
            params.min_p,
            params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0,
            _seed_bits(params),
            _has_penalty(params) or bool(params.logit_bias),
            params.min_tokens,
            params.logprobs is not None,
            params.logprobs or 0,
        )
        self._params[row] = params
        self._stop_token_ids[row] = [t for t in new.stop_token_ids if t < self._vocab_size]

    def plan(self, rows: IntArray, history: TokenHistory) -> SamplingPlan:
        """The plan for the requests of `rows` [num_rows], in that order."""
        columns = self._columns[rows]
        num_output_tokens = history.num_tokens[rows] - history.num_prompt_tokens[rows]
        is_short = num_output_tokens < columns["min_tokens"]
        return SamplingPlan(
            random=self._random_rows(columns, num_output_tokens),
            edits=self._edits(rows, columns["is_edited"], is_short, history),
            logprobs=self._logprob_rows(columns),
        )

    def _random_rows(self, columns: NDArray[np.void], positions: IntArray) -> RandomRows | None:
        places = columns["temperature"].nonzero()[0]
        if not places.size:
            return None
        chosen = columns[places]
        return RandomRows(
            rows=self._tensor(places),
            temperature=self._tensor(chosen["temperature"]),
            top_k=self._tensor(chosen["top_k"]),
            top_p=self._tensor(chosen["top_p"]),
            min_p=self._tensor(chosen["min_p"]),
            seeds=self._tensor(chosen["seed"]),
            positions=self._tensor(positions[places]),
            filtered=bool(chosen["is_filtered"].any()),
        )

    def _logprob_rows(self, columns: NDArray[np.void]) -> LogprobRows | None:
        places = columns["reports_logprobs"].nonzero()[0]
        if not places.size:
            return None
        num_top = columns["num_top_logprobs"][places].tolist()
        return LogprobRows(rows=places.tolist(), num_top=num_top)

    def _edits(
        self,
        rows: IntArray,
        is_edited: NDArray[np.bool_],
        is_short: NDArray[np.bool_],
        history: TokenHistory,
    ) -> LogitEdits | None:
        places = (is_edited | is_short).nonzero()[0]
        if not places.size:
            return None
        repetition, presence, frequency, added = (_EntryList() for _ in range(4))
        for place in places.tolist():
            row = int(rows[place])
            params = self._params[row]
            token_ids = history.token_ids[row, : history.num_tokens[row]]
            output_ids = token_ids[history.num_prompt_tokens[row] :]
            if params.repetition_penalty != 1.0:
                repetition.add(place, token_ids, params.repetition_penalty)
            if params.presence_penalty:
                presence.add(place, output_ids, params.presence_penalty)
            if params.frequency_penalty:
                frequency.add(place, output_ids, params.frequency_penalty)
            for token_id, bias in params.logit_bias.items():
                added.add(place, [token_id], bias)
            if is_short[place]:
                added.add(place, self._stop_token_ids[row], -np.inf)
        return LogitEdits(
            repetition=repetition.entries(self._device),
            presence=presence.entries(self._device),
            frequency=frequency.entries(self._device),
            added=added.entries(self._device),
        )

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array.copy()).to(self._device)


class _EntryList:
    """Collects matrix entries: one `add` per row and rule."""

    def __init__(self) -> None:
        self._token_ids: list[NDArray[np.int64]] = []
        self._rows: list[int] = []
        self._values: list[float] = []

    def add(self, row: int, token_ids: NDArray[np.int32] | list[int], value: float) -> None:
        if len(token_ids):
            self._token_ids.append(np.asarray(token_ids, dtype=np.int64))
            self._rows.append(row)
            self._values.append(value)

    def entries(self, device: torch.device) -> Entries | None:
        if not self._rows:
            return None
        lengths = [len(ids) for ids in self._token_ids]
        rows = np.repeat(np.array(self._rows, dtype=np.int64), lengths)
        values = np.repeat(np.array(self._values, dtype=np.float32), lengths)
        return Entries(
            torch.from_numpy(rows).to(device),
            torch.from_numpy(np.concatenate(self._token_ids)).to(device),
            torch.from_numpy(values).to(device),
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
