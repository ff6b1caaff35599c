"""The tokenizer of one model: ids, texts, special tokens and the chat template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from shoal.errors import InvalidRequest

from .chat_template import ChatTemplate
from .token_bytes import TokenToBytes

if TYPE_CHECKING:
    import tokenizers

_LARGEST_ID = 2**32 - 1


class Tokenizer:
    """Wraps a `tokenizers.Tokenizer`; built by `load_tokenizer`.

    Immutable after construction and safe to share between threads.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        token_to_bytes: TokenToBytes,
        strips_leading_space: bool,
        bos_token_id: int | None,
        eos_token_ids: Sequence[int],
        chat_template: ChatTemplate | None,
    ) -> None:
        self._backend = backend
        self._token_to_bytes = token_to_bytes
        self._chat_template = chat_template
        self.strips_leading_space = strips_leading_space
        """SentencePiece puts a space before the text; the first space decoded is that one."""
        self.bos_token_id = bos_token_id
        self.eos_token_ids = tuple(dict.fromkeys(eos_token_ids))
        """Any of them ends a generation; the first is the tokenizer's own."""
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        added = backend.get_added_tokens_decoder()
        self.special_token_ids = frozenset(i for i, token in added.items() if token.special)
        self._bytes: dict[int, bytes] = {}

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`.

        Special tokens written out in the text ("<|im_end|>") become their ids, as in
        `transformers`: chat prompts are rendered to text first and need it. `add_special_tokens`
        adds what the model wants around a text (often a BOS); rendered chat prompts already
        contain it. Raises InvalidRequest for text that is not valid Unicode.

        A few microseconds per token, without the GIL: give long texts to a worker thread.
        """
        try:
            # Of the library's calls only those for batches release the GIL.
            (encoding,) = self._backend.encode_batch_fast(
                [text], add_special_tokens=add_special_tokens
            )
        except (UnicodeEncodeError, TypeError) as error:
            # A lone surrogate, e.g. from the JSON string "\\ud800", has no UTF-8 form.
            raise InvalidRequest(
                f"the text is not valid Unicode and cannot be tokenized: {error}"
            ) from error
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`; bytes that are not valid UTF-8 become U+FFFD."""
        skipped = self.special_token_ids if skip_special_tokens else frozenset()
        data = b"".join([self.token_bytes(i) for i in ids if i not in skipped])
        if self.strips_leading_space and data.startswith(b" "):
            data = data[1:]
        return data.decode(errors="replace")

    def token_str(self, token_id: int) -> str:
        """The token as the vocabulary spells it; "" for an id that no token has.

        Such ids exist: embeddings are often padded, and clients may send any number.
        """
        if not 0 <= token_id <= _LARGEST_ID:
            return ""
        return self._backend.id_to_token(token_id) or ""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token adds to the text; they need not be valid UTF-8 alone."""
        data = self._bytes.get(token_id)
        if data is None:
            data = self._token_to_bytes(self.token_str(token_id))
            if data:
                self._bytes[token_id] = data
        return data

    @property
    def has_chat_template(self) -> bool:
        return self._chat_template is not None

    def apply_chat_template(
        self,
        messages: list[dict[str, Any]],
        /,
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **template_kwargs: Any,
    ) -> str:
        """The conversation as one prompt text, special tokens included.

        Encode it with `add_special_tokens=False`. Raises InvalidRequest when the model has no
        chat template or the template refuses the messages.
        """
        if self._chat_template is None:
            raise InvalidRequest(
                "this model has no chat template; use /v1/completions with a plain prompt",
                param="messages",
            )
        return self._chat_template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            **template_kwargs,
        )
