"""Log-probabilities of the engine in the three shapes clients know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shoal.openai.chat import ChatLogprobs, ChatTokenLogprob, TopLogprob
from shoal.openai.completion import CompletionLogprobs

from ..core.output import TokenLogprobs
from ..tokenizer.tokenizer import Tokenizer


def chat_logprobs(entries: Iterable[TokenLogprobs], tokenizer: Tokenizer) -> ChatLogprobs:
    """Chat's shape: one object per token, with bytes."""
    return ChatLogprobs([_chat_token(entry, tokenizer) for entry in entries])


def _chat_token(entry: TokenLogprobs, tokenizer: Tokenizer) -> ChatTokenLogprob:
    candidates = []
    for token_id, logprob in zip(entry.token_ids, entry.logprobs, strict=True):
        data = tokenizer.token_bytes(token_id)
        candidates.append(TopLogprob(data.decode(errors="replace"), logprob, list(data)))
    chosen = candidates[0]  # the others are the top ones, the chosen token again among them
    return ChatTokenLogprob(chosen.token, chosen.logprob, chosen.bytes, candidates[1:])


class CompletionLogprobsColumns:
    """Completions' shape: columns, with offsets that run on from chunk to chunk of a choice."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._offset = 0

    def columns(
        self, entries: Iterable[TokenLogprobs], *, first_token_id: int | None = None
    ) -> CompletionLogprobs:
        """The columns of the next tokens; `first_token_id` has no probability and comes first."""
        columns = CompletionLogprobs()
        if first_token_id is not None:
            self._add(columns, self._text(first_token_id), None, None)
        for entry in entries:
            top = {
                self._text(token_id): logprob
                for token_id, logprob in zip(entry.token_ids, entry.logprobs, strict=True)
            }
            self._add(columns, self._text(entry.token_ids[0]), entry.logprobs[0], top)
        return columns

    def _add(
        self,
        columns: CompletionLogprobs,
        text: str,
        logprob: float | None,
        top: dict[str, float] | None,
    ) -> None:
        columns.text_offset.append(self._offset)
        columns.tokens.append(text)
        columns.token_logprobs.append(logprob)
        columns.top_logprobs.append(top)
        self._offset += len(text)

    def _text(self, token_id: int) -> str:
        return self._tokenizer.token_bytes(token_id).decode(errors="replace")


def prompt_logprobs(
    entries: Iterable[TokenLogprobs], tokenizer: Tokenizer
) -> list[dict[str, Any] | None]:
    """vLLM's shape: per prompt token its candidates by id; the first token has none."""
    rows: list[dict[str, Any] | None] = [None]
    for entry in entries:
        row: dict[str, Any] = {}
        # The chosen token first, with its own rank; the top ones are in order of rank.
        ranks = [entry.rank, *range(1, len(entry.token_ids))]
        for token_id, logprob, rank in zip(entry.token_ids, entry.logprobs, ranks, strict=True):
            text = tokenizer.token_bytes(token_id).decode(errors="replace")
            row.setdefault(str(token_id), {"logprob": logprob, "rank": rank, "decoded_token": text})
        rows.append(row)
    return rows
