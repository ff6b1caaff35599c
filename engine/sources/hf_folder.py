"""A folder in the Hugging Face layout on this disk."""

from __future__ import annotations

import json
from pathlib import Path

from shoal.errors import ModelNotFound, UnsupportedModel

_INDEX = "model.safetensors.index.json"


def check_hf_folder(folder: Path) -> None:
    """Raises ModelNotFound, naming each missing part, unless the folder can be served.

    Needed are `config.json`, `tokenizer.json` and weights in safetensors: one file, or shards
    with their index.
    """
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    missing += _missing_weights(folder)
    if not missing:
        return
    message = f"{folder} is not a whole model folder; missing: {', '.join(missing)}"
    if gguf_files := sorted(path.name for path in folder.glob("*.gguf")):
        message += f". It holds GGUF files ({', '.join(gguf_files)}): name the file, not the folder"
    elif "tokenizer.json" in missing and (folder / "tokenizer.model").is_file():
        message += (
            ". With transformers, AutoTokenizer.from_pretrained(...).save_pretrained(...) "
            "writes tokenizer.json from tokenizer.model"
        )
    raise ModelNotFound(message)


def _missing_weights(folder: Path) -> list[str]:
    index_path = folder / _INDEX
    if not index_path.is_file():
        return [] if any(folder.glob("*.safetensors")) else ["weights (*.safetensors)"]
    try:
        shards = sorted(set(json.loads(index_path.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedModel(f"{index_path} is not a safetensors index: {error!r}") from error
    return [shard for shard in shards if not (folder / shard).is_file()]
