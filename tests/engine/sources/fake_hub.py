"""A Hugging Face hub on the loopback interface: what `snapshot_download` asks for, no more.

Small files are served where they are asked for; large ones (weights) are answered with a redirect
to a store that knows them by their hash, as the real hub does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.engine.sources.loopback import QuietHandler, serving

_ROUTE = re.compile(
    r"/api/models/(?P<info>[^/]+/[^/]+)/revision/(?P<revision>[^?]+)"
    r"|/api/models/(?P<tree>[^/]+/[^/]+)/tree/(?P<commit>[^?]+)"
    r"|/store/(?P<sha256>\w+)"
    r"|/(?P<repo>[^/]+/[^/]+)/resolve/(?P<at>[^/]+)/(?P<file>.+)"
)


@dataclass
class FakeHub:
    """Repositories as {name: {revision: {file: bytes}}}, and how requests go wrong."""

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str | None = None
    """Asked of every request but those to the store when set."""
    fail_with: int | None = None
    """Status for everything."""
    cut_off_after: int | None = None
    """The next file longer than this stops after so many bytes."""
    fail_after_cut: int | None = None
    """Status for everything after that."""
    downloads: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of each file fetched."""

    def commit(self, repository: str, revision: str) -> str:
        return hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()

    def files(self, repository: str, commit_or_revision: str) -> dict[str, bytes] | None:
        for revision, files in self.repositories.get(repository, {}).items():
            if commit_or_revision in (revision, self.commit(repository, revision)):
                return files
        return None

    def stored(self, sha256: str) -> bytes:
        for revisions in self.repositories.values():
            for files in revisions.values():
                for data in files.values():
                    if hashlib.sha256(data).hexdigest() == sha256:
                        return data
        raise KeyError(sha256)


def _is_large(name: str) -> bool:
    return name.endswith(".safetensors")


@contextmanager
def serving_hub(hub: FakeHub) -> Iterator[str]:
    """Serves `hub`; yields the value for HF_ENDPOINT."""

    class Handler(QuietHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            match = _ROUTE.fullmatch(path)
            if hub.fail_with is not None:
                self.answer(hub.fail_with)
            elif match is None:
                self.answer(404)
            elif match["sha256"]:
                self._store(match["sha256"])
            elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.answer(401, X_Error_Code="RepoNotFound")
            elif match["info"]:
                self._info(match["info"], match["revision"])
            elif match["tree"]:
                self._tree(match["tree"], match["commit"])
            else:
                self._resolve(match["repo"], match["at"], match["file"])

        def _refused(self, repository: str, revision: str) -> bool:
            if repository in hub.gated:
                self.answer(403, X_Error_Code="GatedRepo")
            elif repository not in hub.repositories:
                self.answer(404, X_Error_Code="RepoNotFound")
            elif hub.files(repository, revision) is None:
                self.answer(404, X_Error_Code="RevisionNotFound")
            else:
                return False
            return True

        def _info(self, repository: str, revision: str) -> None:
            if self._refused(repository, revision):
                return
            info = {"id": repository, "sha": hub.commit(repository, revision), "siblings": []}
            self.answer(200, json.dumps(info).encode(), Content_Type="application/json")

        def _tree(self, repository: str, commit: str) -> None:
            if self._refused(repository, commit):
                return
            entries = [self._entry(name, data) for name, data in
                       (hub.files(repository, commit) or {}).items()]  # fmt: skip
            self.answer(200, json.dumps(entries).encode(), Content_Type="application/json")

        def _entry(self, name: str, data: bytes) -> dict[str, object]:
            entry = {"type": "file", "path": name, "size": len(data),
                     "oid": hashlib.sha1(data).hexdigest()}  # fmt: skip
            if not _is_large(name):
                return entry
            lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            return {**entry, "lfs": lfs}

        def _resolve(self, repository: str, at: str, name: str) -> None:
            if self._refused(repository, at):
                return
            data = (hub.files(repository, at) or {}).get(name)
            if data is None:
                self.answer(404, X_Error_Code="EntryNotFound")
                return
            commit = at if len(at) == 40 else hub.commit(repository, at)
            if _is_large(name):
                port = self.headers["Host"].rpartition(":")[2]
                sha256 = hashlib.sha256(data).hexdigest()
                self.answer(
                    302,
                    Location=f"http://localhost:{port}/store/{sha256}",  # another host, as a CDN is
                    X_Repo_Commit=commit,
                    X_Linked_ETag=f'"{sha256}"',
                    X_Linked_Size=str(len(data)),
                )
            else:
                etag = f'"{hashlib.sha1(data).hexdigest()}"'
                self._send(name, data, ETag=etag, X_Repo_Commit=commit)

        def _store(self, sha256: str) -> None:
            self._send(sha256, hub.stored(sha256), ETag=f'"{sha256}"')

        def _send(self, name: str, data: bytes, **headers: str) -> None:
            if self.command == "HEAD":
                self.answer(200, data, **headers)
                return
            requested = self.headers.get("Range")
            hub.downloads.append((name, requested))
            if requested:
                start = int(requested.removeprefix("bytes=").rstrip("-"))
                content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
                self.answer(206, data[start:], Content_Range=content_range, **headers)
            elif hub.cut_off_after is not None and len(data) > hub.cut_off_after:
                self.answer_cut_off(data, after=hub.cut_off_after, **headers)
                hub.cut_off_after, hub.fail_with = None, hub.fail_after_cut
            else:
                self.answer(200, data, **headers)

    with serving(Handler) as url:
        yield url
