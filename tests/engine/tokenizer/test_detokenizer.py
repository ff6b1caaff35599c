from __future__ import annotations

import random
from typing import Any

import pytest

from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.tokenizer.detokenizer import IncrementalDetokenizer
from shoal.engine.tokenizer.gguf_tokenizer import tokenizer_from_gguf
from shoal.engine.tokenizer.load import load_tokenizer
from shoal.engine.tokenizer.tokenizer import Tokenizer
from tests.engine.tokenizer.gguf_vocabularies import train_byte_level, train_sentencepiece
from tests.engine.tokenizer.varied_text import varied_lines

LINES = list(varied_lines(500, seed=7))


@pytest.fixture(scope="module", params=["smollm2", "sentencepiece", "byte-level"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "smollm2":
        files: ModelFiles = request.getfixturevalue("smollm2")
        return load_tokenizer(files)
    if request.param == "sentencepiece":
        return tokenizer_from_gguf(train_sentencepiece(LINES)[0])
    return tokenizer_from_gguf(train_byte_level("llama-bpe", LINES))


def stream(tokenizer: Tokenizer, prompt: list[int], output: list[int], **options: Any) -> list[str]:
    detokenizer = IncrementalDetokenizer(
        tokenizer, prompt, **{"skip_special_tokens": True, **options}
    )
    return [*(detokenizer.append([i]) for i in output), detokenizer.finish()]


@pytest.mark.parametrize("skip", [True, False])
def test_the_stream_adds_up_to_the_whole(tokenizer: Tokenizer, skip: bool) -> None:
    for line in LINES:
        ids = tokenizer.encode(line)
        pieces = stream(tokenizer, [], ids, skip_special_tokens=skip)
        assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=skip)


def test_any_ids_stream_like_they_decode(tokenizer: Tokenizer) -> None:
    """Models do write invalid UTF-8: any ids, in any grouping."""
    rng = random.Random(3)
    for _ in range(200):
        ids = [rng.randrange(tokenizer.vocab_size + 3) for _ in range(rng.randrange(30))]
        detokenizer = IncrementalDetokenizer(tokenizer, [], skip_special_tokens=False)
        text, rest = "", ids
        while rest:
            size = rng.randint(1, 4)
            text += detokenizer.append(rest[:size])
            rest = rest[size:]
        assert text + detokenizer.finish() == tokenizer.decode(ids, skip_special_tokens=False)


def test_output_after_a_prompt_is_the_text_that_follows_it(tokenizer: Tokenizer) -> None:
    rng = random.Random(5)
    for line in LINES:
        ids = tokenizer.encode(line)
        cut = rng.randint(0, len(ids))
        before = tokenizer.decode(ids[:cut], skip_special_tokens=False).rstrip("�")
        whole = tokenizer.decode(ids, skip_special_tokens=False)
        text = "".join(stream(tokenizer, ids[:cut], ids[cut:], skip_special_tokens=False))
        if "�" not in whole:
            assert before + text == whole


def test_no_piece_ends_within_a_character(tokenizer: Tokenizer) -> None:
    text = "👩‍👩‍👧‍👦 𠜎 é 日本"
    pieces = stream(tokenizer, [], tokenizer.encode(text))
    assert "�" not in "".join(pieces)
    assert "".join(pieces) == text


def test_a_character_that_never_completes_is_replaced_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("\U0010abcd", add_special_tokens=False)
    assert len(ids) > 1
    assert stream(tokenizer, ids[:1], ids[1:])[-2:] == ["\U0010abcd", ""]
    cut_off = stream(tokenizer, tokenizer.encode("a"), ids[-4:-1])
    assert "".join(cut_off[:-1]).strip() == ""
    assert cut_off[-1] == "�"


def test_the_first_space_of_sentencepiece_belongs_to_no_text() -> None:
    tokenizer = tokenizer_from_gguf(train_sentencepiece(LINES)[0])
    ids = tokenizer.encode("the fox", add_special_tokens=False)
    assert tokenizer.token_bytes(ids[0])[:1] == b" "
    assert "".join(stream(tokenizer, [], ids)) == "the fox"
    assert "".join(stream(tokenizer, [tokenizer.bos_token_id or 0], ids)) == "the fox"
    assert "".join(stream(tokenizer, tokenizer.encode("a"), ids)) == " the fox"


def test_special_tokens_are_left_out_or_kept(smollm2: ModelFiles) -> None:
    tokenizer = load_tokenizer(smollm2)
    ids = tokenizer.encode("a<|im_end|>b")
    assert "".join(stream(tokenizer, [], ids)) == "ab"
    assert "".join(stream(tokenizer, [], ids, skip_special_tokens=False)) == "a<|im_end|>b"
