"""Tiny vocabularies, trained here and written as GGUF metadata the way converters write them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from gguf import GGUFWriter
from tokenizers import models, trainers

from shoal.engine.sources.gguf_metadata import read_gguf_metadata
from shoal.engine.tokenizer.pre_tokenizers import pre_tokenizer_rules

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
CONTROL_TOKENS = ["<|begin|>", "<|im_end|>"]


def train_byte_level(pre: str, lines: Iterable[str], *, vocab_size: int = 600) -> dict[str, Any]:
    """Metadata of a byte-level BPE vocabulary trained on `lines` cut by the rules of `pre`."""
    rules = pre_tokenizer_rules(pre)
    backend = tokenizers.Tokenizer(models.BPE())
    if normalizer := rules.normalizer():
        backend.normalizer = normalizer
    backend.pre_tokenizer = rules.pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=CONTROL_TOKENS,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer)
    model = json.loads(backend.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [
            CONTROL if token in CONTROL_TOKENS else NORMAL for token in tokens
        ],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


def train_sentencepiece(
    lines: Iterable[str], *, vocab_size: int = 800
) -> tuple[dict[str, Any], sentencepiece.SentencePieceProcessor]:
    """Metadata of a SentencePiece BPE vocabulary set up like Llama 2's, and its own processor."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        character_coverage=0.99,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(processor.get_piece_size())
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [processor.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [processor.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": [_piece_type(processor, i) for i in ids],
        "tokenizer.ggml.unknown_token_id": processor.unk_id(),
        "tokenizer.ggml.bos_token_id": processor.bos_id(),
        "tokenizer.ggml.eos_token_id": processor.eos_id(),
    }, processor


def _piece_type(processor: sentencepiece.SentencePieceProcessor, token_id: int) -> int:
    if processor.is_unknown(token_id):
        return UNKNOWN
    if processor.is_control(token_id):
        return CONTROL
    return BYTE if processor.is_byte(token_id) else NORMAL


def through_a_file(metadata: dict[str, Any], path: Path) -> dict[str, Any]:
    """`metadata` written to a GGUF file with the gguf package and read back with our reader."""
    writer = GGUFWriter(path, "llama")
    for key, value in metadata.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return read_gguf_metadata(path)
