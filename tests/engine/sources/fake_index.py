"""A package index (PEP 503) with wheels made on the spot, that can be cut off or hang."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.engine.sources.loopback import QuietHandler, serving


def make_wheel(name: str, version: str, members: dict[str, bytes], *, record: bool = True) -> bytes:
    """The bytes of a wheel of `name` that holds `members`."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    members = {
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{member},{_record_hash(data)},{len(data)}" for member, data in members.items()]
    if record:
        members[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return buffer.getvalue()


def _record_hash(data: bytes) -> str:
    digest = hashlib.sha256(data).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass
class FakeIndex:
    """Wheels by file name; what was asked for; and how the next download goes wrong."""

    wheels: dict[str, bytes] = field(default_factory=dict)
    downloads: list[str] = field(default_factory=list)
    cut_off_downloads: int = 0
    hang: threading.Event | None = None
    """Downloads wait for it."""

    def add(self, name: str, version: str, members: dict[str, bytes], **options: bool) -> str:
        """Publish a wheel; returns its sha256."""
        wheel = make_wheel(name, version, members, **options)
        self.wheels[f"{name.replace('-', '_')}-{version}-py3-none-any.whl"] = wheel
        return hashlib.sha256(wheel).hexdigest()


@contextmanager
def serving_index(index: FakeIndex) -> Iterator[str]:
    """Serves `index`; yields the value for PIP_INDEX_URL."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            kind, name = self.path.strip("/").split("/")
            if kind == "simple":
                self._page(name)
            else:
                self._wheel(name)

        def _page(self, name: str) -> None:
            links = [
                f'<a href="/files/{file}#sha256={hashlib.sha256(wheel).hexdigest()}">{file}</a>'
                for file, wheel in index.wheels.items()
                if file.split("-")[0].replace("_", "-") == name
            ]
            body = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()
            self.answer(200 if links else 404, body, Content_Type="text/html")

        def _wheel(self, file: str) -> None:
            index.downloads.append(file)
            wheel = index.wheels[file]
            if index.hang is not None:
                index.hang.wait()
            if index.cut_off_downloads:
                index.cut_off_downloads -= 1
                self.answer_cut_off(wheel, after=len(wheel) // 2)
            else:
                self.answer(200, wheel)

    with serving(Handler) as url:
        yield f"{url}/simple"
