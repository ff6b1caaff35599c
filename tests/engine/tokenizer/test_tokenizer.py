from __future__ import annotations

import pytest

from shoal.engine.tokenizer.gguf_tokenizer import tokenizer_from_gguf
from shoal.engine.tokenizer.token_bytes import byte_level_bytes, sentencepiece_bytes
from shoal.engine.tokenizer.tokenizer import Tokenizer
from shoal.errors import InvalidRequest
from tests.engine.tokenizer.gguf_vocabularies import train_byte_level
from tests.engine.tokenizer.varied_text import varied_lines


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizer_from_gguf(train_byte_level("smollm", varied_lines(200, seed=1)))


def test_text_that_is_not_unicode_is_the_clients_mistake(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="not valid Unicode"):
        tokenizer.encode("a\ud800b")


def test_without_a_chat_template_chats_are_refused(tokenizer: Tokenizer) -> None:
    assert not tokenizer.has_chat_template
    with pytest.raises(InvalidRequest, match="no chat template; use /v1/completions"):
        tokenizer.apply_chat_template([{"role": "user", "content": "hi"}])


def test_empty_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_every_byte_has_its_token(tokenizer: Tokenizer) -> None:
    every_byte = {tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)}
    assert {bytes([byte]) for byte in range(256)} <= every_byte


@pytest.mark.parametrize("offset", [0, 10**6, 2**32, 2**70, -(10**6)])
def test_ids_that_no_token_has_are_empty(tokenizer: Tokenizer, offset: int) -> None:
    """Embeddings are often padded, so a model can name them, and a client can send anything."""
    token_id = tokenizer.vocab_size + offset
    assert tokenizer.token_str(token_id) == ""
    assert tokenizer.token_bytes(token_id) == b""
    assert tokenizer.decode([token_id]) == ""


@pytest.mark.parametrize(
    ("token", "data"),
    [("Ġthe", b" the"), ("Ċ", b"\n"), ("ðŁ", b"\xf0\x9f"), ("<｜x｜>", "<｜x｜>".encode())],
)
def test_byte_level_spelling(token: str, data: bytes) -> None:
    assert byte_level_bytes(token) == data


@pytest.mark.parametrize(
    ("token", "data"),
    [
        ("▁the", b" the"),
        ("<0x0A>", b"\n"),
        ("<0xF0>", b"\xf0"),
        ("<0xF0", b"<0xF0"),
        ("é", b"\xc3\xa9"),
    ],
)
def test_sentencepiece_spelling(token: str, data: bytes) -> None:
    assert sentencepiece_bytes(token) == data
