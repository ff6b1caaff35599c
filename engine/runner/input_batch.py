"""The persistent batch: one row per running request, turned into the arrays of each step.

Rows live in arrays that are allocated once. Python loops run over what *changed* (new, finished,
new blocks); everything else is a gather over rows, so a steady step of 256 decodes costs a
fraction of a millisecond. A request keeps its row while it runs; the order of a step is the
scheduler's, and rows are gathered into it.

A step is booked when it is submitted, its tokens when they are known: until then a row counts a
token whose id the host has not got, always its last.

Invariant: the tokens of a row below `num_computed_tokens` have their KV in its blocks once all
submitted steps have run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.output import NewRequestData, SchedulerOutput
from .sampling_table import IntArray, TokenHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInputs:
    """One step, ready for the model. Requests are in execution order: decodes lead."""

    req_ids: list[str]
    rows: IntArray
    """[num_reqs] rows of the batch."""
    query_lens: IntArray
    """[num_reqs] tokens computed in this step."""
    seq_lens: IntArray
    """[num_reqs] tokens computed after this step."""
    samples: NDArray[np.bool_]
    """[num_reqs] whether this step computes the last known token, so that one is sampled."""
    last_tokens: IntArray
    """[num_reqs] index of each request's last token among the tokens of the step."""
    input_ids: IntArray
    """[num_tokens]."""
    positions: IntArray
    """[num_tokens]."""
    block_tables: list[NDArray[np.int32]]
    """Per KV cache group: [num_reqs, max_blocks_of_step]."""
    slot_mapping: list[IntArray]
    """Per KV cache group: [num_tokens], where the K and V of a token are written."""
    sampled_before: IntArray | None = None
    """[num_tokens] where a token's id is to be had: -1 for `input_ids`, else an index into the
    rows that the step submitted just before this one samples, in the order of its `tokens`. The
    host does not know those ids yet. None: it knows all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTokens:
    """Where the tokens go that a submitted step samples; arrays are [num_sampled]."""

    rows: IntArray
    positions: IntArray
    """In the token ids of the row."""
    tenants: IntArray
    """Of each row when the step was submitted: it may belong to another request by now."""
    num_removals: int
    """Of the batch until then."""


class InputBatch:
    """Rows of token ids, progress and block tables.

    Memory: max_num_seqs * max_model_len * 4 bytes of token ids, of which the system commits the
    pages that were ever used.
    """

    def __init__(
        self,
        *,
        max_num_seqs: int,
        max_model_len: int,
        block_size: int,
        num_groups: int,
    ) -> None:
        max_blocks = -(-max_model_len // block_size)
        self.num_computed_tokens: IntArray = np.zeros(max_num_seqs, dtype=np.int64)
        self.history = TokenHistory(
            token_ids=np.zeros((max_num_seqs, max_model_len), dtype=np.int32),
            num_prompt_tokens=np.zeros(max_num_seqs, dtype=np.int64),
            num_tokens=np.zeros(max_num_seqs, dtype=np.int64),
        )
        self._block_tables = [
            np.zeros((max_num_seqs, max_blocks), dtype=np.int32) for _ in range(num_groups)
        ]
        self._num_blocks: IntArray = np.zeros(max_num_seqs, dtype=np.int64)
        self._block_size = block_size
        self._row_of: dict[str, int] = {}
        self._free_rows = list(reversed(range(max_num_seqs)))
        self._tenant: IntArray = np.zeros(max_num_seqs, dtype=np.int64)
        """How many requests have left each row."""
        self._num_removals = 0
        self._last_rows: tuple[list[str], int, IntArray] = ([], 0, np.empty(0, np.int64))
        """Requests of the last step, removals until then, and their rows: most steps have the same
        requests as the one before."""
        self._pending: PendingTokens | None = None
        """Of the newest step, while they are not known."""

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._row_of

    def remove(self, request_ids: Iterable[str]) -> None:
        """Forget requests; each must have a row."""
        for request_id in request_ids:
            row = self._row_of.pop(request_id)
            self._free_rows.append(row)
            self._tenant[row] += 1
            self._num_removals += 1

    def add(self, new: NewRequestData) -> int:
        """Give a request a row and copy what is known of it; returns the row."""
        row = self._row_of[new.request_id] = self._free_rows.pop()
        num_tokens = len(new.token_ids)
        self.history.token_ids[row, :num_tokens] = new.token_ids
        self.history.num_tokens[row] = num_tokens
        self.history.num_prompt_tokens[row] = new.num_prompt_tokens
        self.num_computed_tokens[row] = new.num_computed_tokens
        for table in self._block_tables:
            table[row] = 0
        self._num_blocks[row] = 0
        self.append_blocks(new.request_id, new.block_ids)
        return row

    def append_blocks(self, request_id: str, block_ids: list[list[int]]) -> None:
        """Extend the block tables of a request, one list per KV cache group, of equal length."""
        row = self._row_of[request_id]
        start = int(self._num_blocks[row])
        end = self._num_blocks[row] = start + len(block_ids[0])
        for table, new_ids in zip(self._block_tables, block_ids, strict=True):
            table[row, start:end] = new_ids

    def append_all(self, new_block_ids: dict[str, list[list[int]]]) -> None:
        """`append_blocks` of many requests: decodes get one block each, and one call for all."""
        if any(len(block_ids[0]) != 1 for block_ids in new_block_ids.values()):
            for request_id, block_ids in new_block_ids.items():
                self.append_blocks(request_id, block_ids)
            return
        rows = self._rows(new_block_ids)
        places = self._num_blocks[rows]
        for group, table in enumerate(self._block_tables):
            table[rows, places] = [block_ids[group][0] for block_ids in new_block_ids.values()]
        self._num_blocks[rows] = places + 1

    def prepare(self, scheduler_output: SchedulerOutput) -> StepInputs:
        """The arrays of a step. Changes nothing."""
        num_scheduled = scheduler_output.num_scheduled_tokens
        req_ids, num_reqs = list(num_scheduled), len(num_scheduled)
        rows = self._rows_of_step(req_ids)
        starts = self.num_computed_tokens[rows]
        if scheduler_output.total_num_scheduled_tokens == num_reqs:  # one token each
            query_lens = np.ones(num_reqs, np.int64)
            last_tokens = np.arange(num_reqs)
            token_rows, positions = rows, starts
        else:
            query_lens = np.fromiter(num_scheduled.values(), np.int64, num_reqs)
            ends = query_lens.cumsum()
            last_tokens = ends - 1
            # Token t of the step belongs to request i and stands at starts[i] + (t - first[i]).
            token_rows = np.repeat(rows, query_lens)
            positions = np.arange(ends[-1]) + np.repeat(starts - (ends - query_lens), query_lens)
        seq_lens = starts + query_lens
        block, offset = np.divmod(positions, self._block_size)
        width = -(-int(seq_lens.max()) // self._block_size)
        slots = [
            table[token_rows, block].astype(np.int64) * self._block_size + offset
            for table in self._block_tables
        ]
        return StepInputs(
            req_ids=req_ids,
            rows=rows,
            query_lens=query_lens,
            seq_lens=seq_lens,
            samples=seq_lens == self.history.num_tokens[rows],
            last_tokens=last_tokens,
            input_ids=self.history.token_ids[token_rows, positions].astype(np.int64),
            positions=positions,
            block_tables=[table[rows, :width] for table in self._block_tables],
            slot_mapping=slots,
            sampled_before=self._sampled_before(rows, last_tokens),
        )

    def advance(self, inputs: StepInputs) -> PendingTokens:
        """Book a step that is submitted: progress of all, and one more token for who samples."""
        self.num_computed_tokens[inputs.rows] = inputs.seq_lens
        rows, positions = inputs.rows, inputs.seq_lens
        if not inputs.samples.all():
            rows, positions = rows[inputs.samples], positions[inputs.samples]
        self.history.num_tokens[rows] = positions + 1
        self._pending = PendingTokens(
            rows=rows,
            positions=positions,
            tenants=self._tenant[rows],
            num_removals=self._num_removals,
        )
        return self._pending

    def fill(self, pending: PendingTokens, token_ids: IntArray) -> None:
        """Write down the tokens of a step, now that they are known; not in rows that were left."""
        if pending is self._pending:
            self._pending = None
        rows, positions = pending.rows, pending.positions
        if pending.num_removals != self._num_removals:
            stays = pending.tenants == self._tenant[rows]
            rows, positions, token_ids = rows[stays], positions[stays], token_ids[stays]
        self.history.token_ids[rows, positions] = token_ids

    def _rows(self, request_ids: Collection[str]) -> IntArray:
        return np.fromiter(map(self._row_of.__getitem__, request_ids), np.int64, len(request_ids))

    def _rows_of_step(self, req_ids: list[str]) -> IntArray:
        """The same array as for the step before, if that had the same requests."""
        last_ids, num_removals, rows = self._last_rows
        if num_removals != self._num_removals or last_ids != req_ids:
            rows = self._rows(req_ids)
            self._last_rows = req_ids, self._num_removals, rows
        return rows

    def _sampled_before(self, rows: IntArray, last_tokens: IntArray) -> IntArray | None:
        """`StepInputs.sampled_before`: of each row's tokens only the last may be pending."""
        pending = self._pending
        if pending is None or not pending.rows.size:
            return None
        if pending.rows is rows:  # the same requests, all of which sampled
            places_of_rows = np.arange(len(rows))
        else:
            places_of_rows = self._places_in(pending)[rows]
        num_tokens = int(last_tokens[-1]) + 1
        if num_tokens == len(rows):
            return places_of_rows
        sampled_before: IntArray = np.full(num_tokens, -1, dtype=np.int64)
        sampled_before[last_tokens] = places_of_rows
        return sampled_before

    def _places_in(self, pending: PendingTokens) -> IntArray:
        """Of each row of the batch, the place of its pending token among all; -1: it has none."""
        places: IntArray = np.full(len(self._tenant), -1, dtype=np.int64)
        places[pending.rows] = np.where(
            pending.tenants == self._tenant[pending.rows], np.arange(len(pending.rows)), -1
        )
        return places
