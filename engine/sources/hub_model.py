"""`hf:ORG/NAME[@REVISION]`: models on the Hugging Face hub, through its own library.

The library brings the conventions people know: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, a
cache shared with other tools, and downloads that continue where they were cut off.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shoal.errors import DownloadFailed, ModelError, ModelNotFound

from .hf_folder import check_hf_folder
from .model_files import ModelFiles
from .progress import Progress

_SPEC = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?:@(\S+))?")
_WANTED = ["*.safetensors", "*.json", "*.jinja"]
_UNWANTED = ["original/*", "onnx/*", "openvino/*", "consolidated*"]
"""Copies of the same weights in layouts other programs read."""


def resolve_hub(text: str, *, cache_dir: Path | None, progress: Progress) -> ModelFiles:
    """The snapshot folder of `hf:text`; what is cached and current is not fetched again.

    Without a network a complete cached snapshot is used. `cache_dir` None means the library's
    own cache. Raises ModelNotFound (no such repository or revision, no access, parts missing)
    and DownloadFailed (unreachable, cut off).
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise ModelNotFound(f"hf:{text} is not of the form hf:ORG/NAME or hf:ORG/NAME@REVISION")
    repository, revision = match[1], match[2]
    folder = _download(repository, revision, cache_dir=cache_dir, progress=progress)
    check_hf_folder(folder)
    return _model_files(repository, folder)


def cached_snapshots(cache_dir: Path | None) -> Iterator[ModelFiles]:
    """Whole models in the hub cache, one for each cached revision."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        cache = scan_cache_dir(_hub_cache(cache_dir))
    except CacheNotFound:
        return
    for repo in sorted(cache.repos, key=lambda repo: repo.repo_id):
        for revision in sorted(repo.revisions, key=lambda revision: revision.commit_hash):
            try:
                check_hf_folder(revision.snapshot_path)
            except ModelError:
                continue  # something else than a model we could serve, or cut off
            yield _model_files(repo.repo_id, revision.snapshot_path)


def _model_files(repository: str, folder: Path) -> ModelFiles:
    return ModelFiles(repository, folder, "hf", f"hf:{repository}@{folder.name}")


def _hub_cache(cache_dir: Path | None) -> Path | None:
    return None if cache_dir is None else cache_dir / "models" / "hf"


def _download(
    repository: str, revision: str | None, *, cache_dir: Path | None, progress: Progress
) -> Path:
    # The library takes half a second to import: only those who ask for a hub model wait for it.
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    progress.update(f"asking the hub for {repository}", 0, None)
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=_hub_cache(cache_dir),
                allow_patterns=_WANTED,
                ignore_patterns=_UNWANTED,
                tqdm_class=_byte_counter(f"downloading {repository}", progress),
            )
        )
    except HFValidationError as error:
        raise ModelNotFound(f"{repository!r} is not a repository name: {error}") from error
    except (httpx.HTTPError, OSError) as error:
        raise _failure(repository, revision, error) from error


def _failure(repository: str, revision: str | None, error: Exception) -> ModelError:
    """What went wrong, in words that say what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__  # the hub did answer; the library then looked into its cache
    if isinstance(error, GatedRepoError):  # before its base class RepositoryNotFoundError
        return ModelNotFound(
            f"{repository} is gated: accept its terms on its hub page, then set HF_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFound(
            f"the hub has no repository {repository}, or it is private: check the name, "
            "or set HF_TOKEN to a token that may read it"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFound(f"{repository} has no revision {revision!r}")
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return ModelNotFound(
            f"the hub refused access to {repository} (HTTP {error.response.status_code}): "
            "set HF_TOKEN to a token that may read it"
        )
    if isinstance(error, LocalEntryNotFoundError):
        return DownloadFailed(
            f"the hub cannot be reached and {repository} is not whole in the cache: {error}"
        )
    return DownloadFailed(
        f"downloading {repository} failed ({error}); run the same command to continue it"
    )


def _byte_counter(stage: str, progress: Progress) -> type[Any]:
    """A progress bar class for the hub library: it draws nothing and reports bytes.

    The library makes one bar for files and two for bytes (received and written), from several
    threads; reporting the most seen so far keeps the report from going backwards.
    """
    from tqdm import tqdm

    most = 0

    class ByteCounter(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no watcher thread

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "file": io.StringIO()})

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            nonlocal most
            if self.unit == "B" and self.n >= most:
                most = int(self.n)
                progress.update(stage, most, int(self.total) if self.total else None)
            return True

    return ByteCounter
