"""A tokenizer for a model without one: `--load-format dummy` with a config.json alone.

Every byte of a text is a token, and every other id of the vocabulary has a word of its own, so that
whatever random weights answer can be seen, streamed and counted.
"""

from __future__ import annotations

from .token_bytes import byte_level_bytes
from .tokenizer import Tokenizer

_SPACE = "Ġ"
"""How byte-level vocabularies write a space."""


def stand_in_tokenizer(vocab_size: int) -> Tokenizer:
    """Bytes, then words " w256", " w257", ... up to `vocab_size` ids; no special tokens.

    In a vocabulary below 256 the bytes that have no id are lost from texts.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())[:vocab_size]
    words = [f"{_SPACE}w{i}" for i in range(len(alphabet), vocab_size)]
    backend = Backend(BPE({token: i for i, token in enumerate(alphabet + words)}, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = ByteLevelDecoder()
    return Tokenizer(
        backend,
        token_to_bytes=byte_level_bytes,
        strips_leading_space=False,
        bos_token_id=None,
        eos_token_ids=(),
        chat_template=None,
    )
