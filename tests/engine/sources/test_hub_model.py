from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest

from shoal.engine.sources.cached_models import list_cached
from shoal.engine.sources.resolve import resolve
from shoal.errors import DownloadFailed, ModelNotFound
from tests.engine.sources.fake_hub import FakeHub, serving_hub

WEIGHTS = os.urandom(400_000)
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"model": {}}',
    "model.safetensors": WEIGHTS,
    "README.md": b"not wanted",
    "pytorch_model.bin": b"not wanted either",
    "original/consolidated.00.safetensors": b"the same weights again",
    "consolidated.safetensors": b"and again",
}
WANTED = {"config.json", "tokenizer.json", "model.safetensors"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    hub = FakeHub({"org/tiny": {"main": FILES, "v2": {**FILES, "config.json": b'{"v": 2}'}}})
    with serving_hub(hub) as url:
        # The library reads HF_ENDPOINT once, when it is imported.
        monkeypatch.setattr(hub_constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def test_a_model_is_pulled_without_what_we_do_not_read(hub: FakeHub, tmp_path: Path) -> None:
    reports: list[tuple[str, int, int | None]] = []

    class Recorded:
        def update(self, stage: str, done: int, total: int | None) -> None:
            reports.append((stage, done, total))

    files = resolve("hf:org/tiny", cache_dir=tmp_path, progress=Recorded())

    commit = hub.commit("org/tiny", "main")
    assert (files.name, files.format) == ("org/tiny", "hf")
    assert files.source == f"hf:org/tiny@{commit}"
    assert {path.name for path in files.path.iterdir()} == WANTED
    assert (files.path / "model.safetensors").read_bytes() == WEIGHTS
    done = [done for stage, done, _ in reports if stage == "downloading org/tiny"]
    assert done == sorted(done)
    assert done[-1] == sum(len(FILES[name]) for name in WANTED)


def test_what_is_cached_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    first = resolve("hf:org/tiny", cache_dir=tmp_path)
    fetched = len(hub.downloads)
    assert resolve("hf:org/tiny", cache_dir=tmp_path) == first
    assert len(hub.downloads) == fetched
    assert [model.files for model in list_cached(tmp_path)] == [first]


@pytest.mark.parametrize("by_commit", [False, True])
def test_a_revision(hub: FakeHub, tmp_path: Path, by_commit: bool) -> None:
    revision = hub.commit("org/tiny", "v2") if by_commit else "v2"
    files = resolve(f"hf:org/tiny@{revision}", cache_dir=tmp_path)
    assert (files.path / "config.json").read_bytes() == b'{"v": 2}'
    assert files.source == f"hf:org/tiny@{hub.commit('org/tiny', 'v2')}"


def test_a_download_cut_off_continues_where_it_stopped(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr(hub_constants, "DOWNLOAD_CHUNK_SIZE", 50_000)  # 10 MB otherwise
    hub.cut_off_after = 150_000
    files = resolve("hf:org/tiny", cache_dir=tmp_path)
    assert (files.path / "model.safetensors").read_bytes() == WEIGHTS
    assert [asked for _, asked in hub.downloads if asked] == ["bytes=150000-"]


def test_a_pull_that_failed_is_taken_up_by_the_next(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.cut_off_after, hub.fail_after_cut = 150_000, 500
    with pytest.raises(DownloadFailed, match="run the same command to continue"):
        resolve("hf:org/tiny", cache_dir=tmp_path)
    assert list_cached(tmp_path) == []

    hub.fail_with = None
    files = resolve("hf:org/tiny", cache_dir=tmp_path)
    assert (files.path / "model.safetensors").read_bytes() == WEIGHTS
    assert {path.name for path in files.path.iterdir()} == WANTED


def test_without_a_network_the_cache_serves(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = resolve("hf:org/tiny", cache_dir=tmp_path)
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    assert resolve("hf:org/tiny", cache_dir=tmp_path) == files
    with pytest.raises(DownloadFailed, match="cannot be reached and org/other is not whole"):
        resolve("hf:org/other", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("hf:org/none", "no repository org/none, or it is private"),
        ("hf:org/tiny@v3", "org/tiny has no revision 'v3'"),
        ("hf:org/gated", "org/gated is gated: accept its terms"),
        ("hf:org/bare", r"missing: tokenizer\.json, weights"),
        ("hf:org//x", "not of the form hf:ORG/NAME"),
        ("hf:", "not of the form hf:ORG/NAME"),
        ("hf:org/-x-", "not a repository name"),
    ],
)
def test_what_cannot_be_found(hub: FakeHub, tmp_path: Path, model: str, complaint: str) -> None:
    hub.gated.add("org/gated")
    hub.repositories["org/bare"] = {"main": {"config.json": b"{}"}}
    with pytest.raises(ModelNotFound, match=complaint):
        resolve(model, cache_dir=tmp_path)


def test_a_token_opens_what_is_private(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    with pytest.raises(ModelNotFound, match="set HF_TOKEN"):
        resolve("hf:org/tiny", cache_dir=tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert resolve("hf:org/tiny", cache_dir=tmp_path).name == "org/tiny"


@pytest.mark.parametrize(("status", "error"), [(403, ModelNotFound), (500, DownloadFailed)])
def test_a_hub_that_refuses_or_fails(
    hub: FakeHub, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    hub.fail_with = status
    with pytest.raises(error):
        resolve("hf:org/tiny", cache_dir=tmp_path)


def test_the_environment_names_the_hub_and_its_cache(hub: FakeHub, tmp_path: Path) -> None:
    script = (
        "from shoal.engine.sources.resolve import resolve\n"
        "from shoal.engine.sources.cached_models import list_cached\n"
        "files = resolve('hf:org/tiny')\n"
        "assert [model.files for model in list_cached()] == [files]\n"
        "print(files.path)"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub_constants.ENDPOINT,
        "HF_HOME": str(tmp_path / "hf"),
        "SHOAL_CACHE": str(tmp_path / "shoal"),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "hf")
