from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer
from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

from shoal.engine.sources.gguf_metadata import read_gguf_metadata
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.tokenizer.gguf_tokenizer import tokenizer_from_gguf
from shoal.engine.tokenizer.load import load_tokenizer
from shoal.engine.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from shoal.engine.tokenizer.tokenizer import Tokenizer
from shoal.errors import UnsupportedModel
from tests.engine.tokenizer.gguf_vocabularies import (
    CONTROL_TOKENS,
    USER_DEFINED,
    through_a_file,
    train_byte_level,
    train_sentencepiece,
)
from tests.engine.tokenizer.varied_text import varied_lines

LINES = list(varied_lines(10_000, seed=20_261_123))
FEW_LINES = LINES[:1_000]


@pytest.fixture(scope="module")
def ours(smollm2: ModelFiles) -> Tokenizer:
    return load_tokenizer(smollm2)


@pytest.fixture(scope="module")
def theirs(smollm2: ModelFiles) -> Any:
    """What transformers builds from the same file."""
    return AutoTokenizer.from_pretrained(smollm2.path.parent, gguf_file=smollm2.path.name)


@pytest.fixture(scope="module")
def published(theirs: Any) -> tokenizers.Tokenizer:
    """The same with the pre-tokenizer of SmolLM2's own tokenizer.json, as its hub page has it.

    transformers 5.19 reads `tokenizer.ggml.pre` but has no entry for "smollm" and falls back to
    GPT-2's rules, which keep runs of digits whole and cut the last space off a run before them.
    """
    backend = tokenizers.Tokenizer.from_str(theirs.backend_tokenizer.to_str())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return backend


def test_smollm2_agrees_with_its_published_tokenizer_on_all_lines(
    ours: Tokenizer, published: tokenizers.Tokenizer
) -> None:
    expected = published.encode_batch(LINES)
    differing = [
        line
        for line, encoding in zip(LINES, expected, strict=True)
        if ours.encode(line) != encoding.ids
    ]
    assert differing == []


def test_smollm2_agrees_with_transformers_wherever_its_rule_for_digits_does_not_matter(
    ours: Tokenizer, theirs: Any
) -> None:
    lines = [line for line in LINES if not _digits_are_cut_differently(line)]
    assert len(lines) > 6_000
    expected = theirs(lines)["input_ids"]
    assert [ours.encode(line) for line in lines] == expected


def _digits_are_cut_differently(line: str) -> bool:
    other_digits = any(c > "\x7f" and unicodedata.category(c)[0] == "N" for c in line)
    return other_digits or re.search(r"\s\s[0-9]", line) is not None


def test_smollm2_decodes_like_transformers(ours: Tokenizer, theirs: Any) -> None:
    for line in FEW_LINES:
        ids = ours.encode(line)
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )


def test_smollm2_facts(ours: Tokenizer) -> None:
    assert ours.vocab_size == 49_152
    assert ours.bos_token_id == 1
    assert ours.eos_token_ids == (2,)
    assert len(ours.special_token_ids) == 17
    assert ours.encode("<|im_start|>user") == [1, ours.encode("user")[0]]
    assert ours.encode("Hi") == ours.encode("Hi", add_special_tokens=False)
    assert ours.token_str(2) == "<|im_end|>"
    assert ours.token_bytes(2) == b"<|im_end|>"
    assert ours.token_bytes(ours.encode("\n\n")[0]) == b"\n\n"
    assert ours.token_bytes(ours.vocab_size + 5) == b""


def test_smollm2_chat_prompt(ours: Tokenizer, theirs: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Was ist 2 + 2? 🎉"},
    ]
    assert ours.has_chat_template
    assert ours.apply_chat_template(messages) == theirs.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2", "tekken"])
def test_byte_level_vocabularies_agree_with_transformers(pre: str, tmp_path: Path) -> None:
    metadata = through_a_file(train_byte_level(pre, FEW_LINES), tmp_path / "tiny.gguf")
    tokenizer = tokenizer_from_gguf({**metadata, "tokenizer.ggml.add_bos_token": False})
    # transformers leaves out the normalisation of Qwen2's own tokenizer.json, and adds GPT-2's
    # "<|endoftext|>" to a vocabulary that has no such token.
    lines = [unicodedata.normalize("NFC", x) for x in FEW_LINES if "<|endoftext|>" not in x]

    reference = _transformers_tokenizer(metadata)
    reference.model.ignore_merges = PRE_TOKENIZERS[pre].ignore_merges

    assert [tokenizer.encode(line) for line in lines] == [
        encoding.ids for encoding in reference.encode_batch(lines)
    ]
    assert [
        tokenizer.decode(tokenizer.encode(x), skip_special_tokens=False) for x in lines
    ] == lines


def _transformers_tokenizer(metadata: dict[str, Any]) -> tokenizers.Tokenizer:
    prefix = "tokenizer.ggml."
    fields = {key.removeprefix(prefix): value for key, value in metadata.items()}
    fields["tokenizer_type"] = fields["model"]
    fields["pre_tokenizer_type"] = fields.get("pre")
    backend, _ = convert_gguf_tokenizer("llama", fields)
    return backend


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_every_byte_level_vocabulary_round_trips(pre: str, tmp_path: Path) -> None:
    lines = [unicodedata.normalize("NFC", line) for line in FEW_LINES[:200]]
    metadata = through_a_file(train_byte_level(pre, lines, vocab_size=400), tmp_path / "t.gguf")
    tokenizer = tokenizer_from_gguf({**metadata, "tokenizer.ggml.add_bos_token": False})
    for line in lines:
        assert tokenizer.decode(tokenizer.encode(line), skip_special_tokens=False) == line


def test_qwen2_normalises_to_nfc() -> None:
    tokenizer = tokenizer_from_gguf(train_byte_level("qwen2", FEW_LINES[:100]))
    assert tokenizer.encode("e\u0301") == tokenizer.encode("é")


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("gpt-2", "a  12345", ["a", " ", " 12345"]),
        ("smollm", "a  123", ["a", "  ", "1", "2", "3"]),
        ("llama-bpe", "a  12345", ["a", " ", " ", "123", "45"]),
        ("qwen2", "it'S 12\n\n", ["it", "'S", " ", "1", "2", "\n\n"]),
        ("tekken", "camelCase 12", ["camel", "Case", " ", "1", "2"]),
    ],
)
def test_how_each_family_cuts_text(pre: str, text: str, pieces: list[str]) -> None:
    cuts = PRE_TOKENIZERS[pre].pre_tokenizer().pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in cuts] == pieces


def test_sentencepiece_vocabulary_agrees_with_sentencepiece(tmp_path: Path) -> None:
    """SentencePiece never takes "<s>" in a text for the token, so such lines are left out."""
    lines = [line.replace("\x00", "") for line in LINES[:3_000] if not re.search("<[s/u]", line)]
    metadata, processor = train_sentencepiece(lines[:500])
    tokenizer = tokenizer_from_gguf(through_a_file(metadata, tmp_path / "tiny.gguf"))

    assert tokenizer.eos_token_ids == (processor.eos_id(),)
    for line in lines:
        ids = tokenizer.encode(line)
        assert ids == [processor.bos_id(), *processor.encode(line)]
        assert tokenizer.decode(ids) == processor.decode(ids) == line.replace("▁", " ")


def test_sentencepiece_finds_control_tokens_in_the_text() -> None:
    metadata, processor = train_sentencepiece(FEW_LINES[:300])
    tokenizer = tokenizer_from_gguf(metadata)
    assert tokenizer.encode("a</s>")[-1] == processor.eos_id()
    assert tokenizer.token_bytes(tokenizer.encode("\x07")[-1]) == b"\x07"


def test_without_space_prefix_the_first_space_is_text() -> None:
    metadata, _ = train_sentencepiece(FEW_LINES[:300])
    tokenizer = tokenizer_from_gguf({**metadata, "tokenizer.ggml.add_space_prefix": False})
    assert tokenizer.decode(tokenizer.encode(" the")) == " the"
    assert tokenizer.token_str(tokenizer.encode("the", add_special_tokens=False)[0])[0] != "▁"


def test_bos_and_eos_are_added_as_the_file_says() -> None:
    metadata = train_byte_level("smollm", FEW_LINES[:50], vocab_size=300)
    both = {**metadata, "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    plain = tokenizer_from_gguf(metadata).encode("ab")
    assert tokenizer_from_gguf(both).encode("ab") == [0, *plain, 1]
    assert tokenizer_from_gguf(both).encode("ab", add_special_tokens=False) == plain


def test_llama3_adds_bos_unless_the_file_says_otherwise() -> None:
    metadata = train_byte_level("llama-bpe", FEW_LINES[:50], vocab_size=300)
    assert tokenizer_from_gguf(metadata).encode("ab")[0] == 0
    without = {**metadata, "tokenizer.ggml.add_bos_token": False}
    assert tokenizer_from_gguf(without).encode("ab")[0] != 0


def test_end_of_turn_tokens_also_end_a_generation() -> None:
    """A file may name only the end of a text as EOS, while chats end with <|im_end|>."""
    metadata = train_byte_level("smollm", FEW_LINES[:50], vocab_size=300)
    tokenizer = tokenizer_from_gguf({**metadata, "tokenizer.ggml.eos_token_id": 0})
    assert tokenizer.eos_token_ids == (0, CONTROL_TOKENS.index("<|im_end|>"))


def test_user_defined_tokens_are_whole_but_not_special() -> None:
    metadata = train_byte_level("smollm", FEW_LINES[:50], vocab_size=300)
    types = [*metadata["tokenizer.ggml.token_type"], USER_DEFINED]
    tokens = [*metadata["tokenizer.ggml.tokens"], "<think>"]
    tokenizer = tokenizer_from_gguf(
        {**metadata, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    )
    ids = tokenizer.encode("<think>")
    assert ids == [len(tokens) - 1]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tokenizer.ggml.model": "bert"}, r"'bert' is not supported; supported: gpt2, llama"),
        ({"tokenizer.ggml.pre": "falcon"}, r"'falcon' is not supported; supported: .*smollm"),
        ({"tokenizer.ggml.merges": ["a nosuchtoken"]}, "merges are broken"),
        ({"tokenizer.chat_template": "{% if %}"}, "chat template is broken"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(change: dict[str, Any], complaint: str) -> None:
    metadata = train_byte_level("smollm", FEW_LINES[:50], vocab_size=300)
    with pytest.raises(UnsupportedModel, match=complaint):
        tokenizer_from_gguf({**metadata, **change})


@pytest.mark.parametrize("missing", ["model", "tokens", "merges"])
def test_files_without_a_whole_tokenizer_are_refused(missing: str) -> None:
    metadata = train_byte_level("smollm", FEW_LINES[:50], vocab_size=300)
    del metadata[f"tokenizer.ggml.{missing}"]
    with pytest.raises(UnsupportedModel, match=rf"no tokenizer\.ggml\.{missing}"):
        tokenizer_from_gguf(metadata)


def test_metadata_of_a_real_file_is_what_the_gguf_package_reads(smollm2: ModelFiles) -> None:
    metadata = read_gguf_metadata(smollm2.path)
    assert metadata["general.architecture"] == "llama"
    assert metadata["llama.attention.head_count_kv"] == 3
    assert len(metadata["tokenizer.ggml.merges"]) == 48_900
