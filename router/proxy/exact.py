"""Exact prefixes: the prompt's own token ids, where workers tell which blocks they hold.

Only a tokenizer with the model's template knows the tokens of a prompt, and every worker has one:
it is asked at /tokenize, and what it said is kept for as long as the same prompt comes again. When
it does not answer in time the request is routed by the bytes of its prompt, like all others.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.types import EndpointStatus, EngineKind
from ..prefix_hash import exact_root, token_hashes
from ..request_fields import ABSENT
from .fetch import FetchFailed, fetch, post

if TYPE_CHECKING:
    from .admission import Admission
    from .fleet_view import FleetEntry
    from .gateway import Gateway

_TIMEOUT_S = 0.25
_KEPT_PROMPTS = 4096
_TOKENIZING = frozenset({EngineKind.SHOAL, EngineKind.VLLM})
_MIN_BYTES = 256
"""A shorter prompt has hardly a block to share."""


class _Tokens(msgspec.Struct):
    tokens: list[int]


_decode = msgspec.json.Decoder(_Tokens).decode


class ExactPrompts:
    """Block hashes of prompts, from the workers' tokenizers."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: OrderedDict[tuple[int, int], tuple[tuple[int, ...], int]] = OrderedDict()
        """By the prompt's last chunk hash and length: block hashes and number of tokens."""

    def applies(self, admission: Admission) -> FleetEntry | None:
        """The worker to ask for the prompt's tokens; None: exact mode does not apply."""
        gateway = self._gateway
        if not gateway.experience.exact_index.block_sizes or not admission.prefix_hashes:
            return None
        fields = admission.fields
        if fields.messages is ABSENT and fields.prompt is ABSENT:
            return None
        for state in gateway.fleet.serving(admission.served_model):
            entry = gateway.fleet.entries.get(state.endpoint.endpoint_id)
            if (
                entry is not None
                and entry.kv_block_size
                and state.status is EndpointStatus.READY
                and state.endpoint.engine in _TOKENIZING
            ):
                return entry
        return None

    async def look_up(self, admission: Admission, entry: FleetEntry) -> None:
        """Put the block hashes into the admission, if a worker tells the tokens in time."""
        key = (admission.prefix_hashes[-1], hash(admission.body))
        known = self._known.get(key)
        if known is None:
            known = await self._ask(admission, entry)
            if known is None:
                return
            self._known[key] = known
            if len(self._known) > _KEPT_PROMPTS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        admission.block_hashes, admission.num_prompt_tokens = known
        admission.block_size = entry.kv_block_size

    async def _ask(
        self, admission: Admission, entry: FleetEntry
    ) -> tuple[tuple[int, ...], int] | None:
        fields = admission.fields
        question: dict[str, Any] = {"model": admission.served_model}
        if fields.messages is not ABSENT:
            question["messages"] = fields.messages
            if fields.tools is not ABSENT:
                question["tools"] = fields.tools
        else:
            question["prompt"] = fields.prompt
        body = msgspec.json.encode(question)
        try:
            status, answer = await fetch(
                entry.pool,
                post(entry.pool, b"/tokenize", body, fields=self._gateway.worker_lines()),
                timeout_s=_TIMEOUT_S,
            )
            tokens = _decode(answer).tokens if status == 200 else None
        except (FetchFailed, msgspec.MsgspecError):
            tokens = None
        if tokens is None:
            return None
        adapter = admission.served_model if admission.served_model in entry.adapters else None
        salt = fields.cache_salt
        root = exact_root(admission.served_model, adapter, salt if isinstance(salt, str) else None)
        return token_hashes(tokens, entry.kv_block_size, root), len(tokens)
