from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.tokenizer.gguf_tokenizer import tokenizer_from_gguf
from shoal.engine.tokenizer.load import load_tokenizer
from shoal.engine.tokenizer.tokenizer import Tokenizer
from shoal.errors import ModelNotFound, UnsupportedModel
from tests.engine.tokenizer.gguf_vocabularies import train_byte_level, train_sentencepiece
from tests.engine.tokenizer.varied_text import varied_lines

LINES = list(varied_lines(1_000, seed=11))
KINDS = ["byte-level", "sentencepiece"]


def write_folder(folder: Path, kind: str, **settings: Any) -> Path:
    """A model folder's tokenizer files, as transformers saves them."""
    metadata = (
        train_byte_level("llama-bpe", LINES[:200])
        if kind == "byte-level"
        else train_sentencepiece(LINES[:200])[0]
    )
    tokenizer_from_gguf(metadata)._backend.save(str(folder / "tokenizer.json"))
    tokens = metadata["tokenizer.ggml.tokens"]
    special = {
        "bos_token": tokens[metadata["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[metadata["tokenizer.ggml.eos_token_id"]],
    }
    write_json(folder / "tokenizer_config.json",
               {"tokenizer_class": "PreTrainedTokenizerFast", **special, **settings})  # fmt: skip
    return folder


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def load(folder: Path) -> Tokenizer:
    return load_tokenizer(ModelFiles("tiny", folder, "hf", str(folder)))


@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_transformers(kind: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, kind)
    ours, theirs = load(folder), AutoTokenizer.from_pretrained(folder)

    assert (ours.bos_token_id, ours.eos_token_ids) == (theirs.bos_token_id, (theirs.eos_token_id,))
    assert ours.vocab_size == len(theirs)
    assert set(theirs.all_special_ids) <= ours.special_token_ids
    for line in LINES:
        ids = ours.encode(line)
        assert ids == theirs(line)["input_ids"]
        assert ours.encode(line, add_special_tokens=False) == theirs(
            line, add_special_tokens=False
        )["input_ids"]  # fmt: skip
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "byte-level")
    path = folder / "tokenizer.json"
    saved = json.loads(path.read_bytes())
    saved["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst",
                           "stride": 0}  # fmt: skip
    write_json(path, saved)
    assert len(load(folder).encode("one two three four five six")) > 3


@pytest.mark.parametrize(
    ("generation", "config", "eos"),
    [
        ({"eos_token_id": [5, 1, 7]}, {"eos_token_id": 9}, (1, 5, 7)),
        ({"eos_token_id": 5}, {}, (1, 5)),
        ({}, {"eos_token_id": 9}, (1, 9)),
        ({}, {}, (1,)),
    ],
)
def test_every_token_that_may_end_a_generation(
    tmp_path: Path, generation: dict[str, Any], config: dict[str, Any], eos: tuple[int, ...]
) -> None:
    folder = write_folder(tmp_path, "byte-level")
    write_json(folder / "generation_config.json", generation)
    write_json(folder / "config.json", config)
    assert load(folder).eos_token_ids == eos


def test_special_tokens_written_as_objects_or_in_their_own_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "byte-level")
    write_json(folder / "tokenizer_config.json", {"bos_token": {"content": "<|begin|>"}})
    write_json(folder / "special_tokens_map.json", {"eos_token": "<|im_end|>", "bos_token": "?"})
    tokenizer = load(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_ids) == (0, (1,))


NAMED = [
    {"name": "default", "template": "plain {{ eos_token }}"},
    {"name": "tool_use", "template": "tools"},
]


@pytest.mark.parametrize(
    ("setting", "files", "plain", "with_tools"),
    [
        ("{{ bos_token }}", {}, "<|begin|>", "<|begin|>"),
        (NAMED, {}, "plain <|im_end|>", "tools"),
        ("setting", {"chat_template.jinja": "file"}, "file", "file"),
        (
            None,
            {"chat_template.jinja": "file", "additional_chat_templates/tool_use.jinja": "tools"},
            "file",
            "tools",
        ),
    ],
)
def test_where_chat_templates_are_found(
    tmp_path: Path, setting: Any, files: dict[str, str], plain: str, with_tools: str
) -> None:
    folder = write_folder(tmp_path, "byte-level", chat_template=setting)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    tokenizer = load(folder)
    assert tokenizer.apply_chat_template([]) == plain
    assert tokenizer.apply_chat_template([], tools=[{}]) == with_tools


def test_a_folder_without_settings_still_has_a_tokenizer(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "byte-level")
    (folder / "tokenizer_config.json").unlink()
    tokenizer = load(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_ids) == (None, ())
    assert not tokenizer.has_chat_template


def test_what_is_missing_or_not_supported_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"has no tokenizer\.json"):
        load(tmp_path)

    folder = write_folder(tmp_path, "byte-level")
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(UnsupportedModel, match=r"tokenizer_config\.json is not valid JSON"):
        load(folder)
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(UnsupportedModel, match="holds list, not a JSON object"):
        load(folder)

    path = folder / "tokenizer.json"
    saved = json.loads(path.read_bytes())
    write_json(path, {**saved, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}})
    with pytest.raises(UnsupportedModel, match="decoder 'WordPiece' is not supported; supported: "):
        load(folder)
    path.write_text("{}")
    with pytest.raises(UnsupportedModel, match="not a usable tokenizer"):
        load(folder)
