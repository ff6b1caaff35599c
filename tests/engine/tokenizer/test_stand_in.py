from __future__ import annotations

from pathlib import Path

import pytest

from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.tokenizer.load import load_tokenizer_or_stand_in
from shoal.engine.tokenizer.stand_in import stand_in_tokenizer
from shoal.errors import UnsupportedModel


@pytest.mark.parametrize("text", ["", "Hello, world!", "naïve 火 \n\t\x00 🦈"])
def test_texts_are_bytes_and_come_back(text: str) -> None:
    tokenizer = stand_in_tokenizer(1000)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.encode())
    assert all(0 <= i < 256 for i in ids)
    assert tokenizer.decode(ids) == text


def test_every_other_id_is_a_word_of_its_own() -> None:
    tokenizer = stand_in_tokenizer(1000)
    assert tokenizer.vocab_size == 1000
    assert tokenizer.decode([256, 999]) == " w256 w999"
    assert len({tokenizer.token_bytes(i) for i in range(1000)}) == 1000
    assert tokenizer.eos_token_ids == ()
    assert not tokenizer.has_chat_template


def test_a_tiny_vocabulary_loses_bytes_but_no_ids() -> None:
    tokenizer = stand_in_tokenizer(101)
    assert tokenizer.vocab_size == 101
    assert all(i < 101 for i in tokenizer.encode("".join(map(chr, range(300)))))


def folder(path: Path, config: str) -> ModelFiles:
    (path / "config.json").write_text(config)
    return ModelFiles("dummy", path, "hf", str(path))


def test_a_folder_without_tokenizer_gets_one_of_its_size(tmp_path: Path) -> None:
    tokenizer = load_tokenizer_or_stand_in(folder(tmp_path, '{"vocab_size": 500}'))
    assert tokenizer.vocab_size == 500


@pytest.mark.parametrize("config", ["{}", "[]", "nonsense", '{"vocab_size": "many"}'])
def test_without_a_vocabulary_size_it_is_refused(config: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="vocab_size"):
        load_tokenizer_or_stand_in(folder(tmp_path, config))


def test_a_broken_tokenizer_is_not_replaced(tmp_path: Path) -> None:
    files = folder(tmp_path, '{"vocab_size": 500}')
    (tmp_path / "tokenizer.json").write_text("nonsense")
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json"):
        load_tokenizer_or_stand_in(files)
