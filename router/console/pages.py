"""The files of the console: read once, served from memory, under a strict content policy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).with_name("static")
ROOT = "/console/"
INDEX = "index.html"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Scripts and styles come from here alone, and nothing of it runs inside other people's pages."""
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript",
          ".svg": "image/svg+xml"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """One file."""

    body: bytes
    media_type: str
    etag: str

    def answer(self, request: Request) -> Response:
        """304 to a browser that has it. It always asks: a new version counts at once."""
        headers = {**HEADERS, "etag": self.etag, "cache-control": "no-cache"}
        known = request.headers.get("if-none-match", "")
        if self.etag in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media_type, headers=headers)


def load_pages(folder: Path = FOLDER) -> dict[str, Page]:
    """By path. They are open to everybody: they hold no data."""
    pages = {f"{ROOT}{file.name}": _page(file) for file in sorted(folder.iterdir())
             if file.suffix in _TYPES}  # fmt: skip
    return {ROOT: pages[f"{ROOT}{INDEX}"], **pages}


def _page(file: Path) -> Page:
    body = file.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    return Page(body=body, media_type=_TYPES[file.suffix], etag=etag)
