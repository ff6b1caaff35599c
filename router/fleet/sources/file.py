"""Endpoints in a YAML file that somebody else writes: a list like `discovery.static`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import structlog
import yaml

from shoal.errors import ConfigError

from ...settings.discovery import StaticEndpoint
from ..roster import Found
from .source import Publish, found

POLL_S = 0.5
MAX_BYTES = 16 * 1024 * 1024
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C one where libyaml is there: a thousand endpoints in 30 ms instead of 300."""

log = structlog.get_logger(__name__)


class FileSource:
    """Watches one file by its time, size and inode: a ConfigMap changes by a link, others by a
    rename, and no notification covers both and network disks too."""

    def __init__(self, path: str, *, poll_s: float = POLL_S) -> None:
        self.name = f"file {path}"
        self._path = Path(path)
        self._poll_s = poll_s

    async def run(self, publish: Publish) -> None:
        seen: object = None
        while True:
            stamp = await asyncio.to_thread(self._stamp)
            if stamp != seen:
                seen = stamp
                try:
                    listed = await asyncio.to_thread(read_endpoints, self._path)
                except ConfigError as error:
                    log.warning("discovery.file_refused", reason=str(error), kept="the old list")
                else:
                    publish(listed)
            await asyncio.sleep(self._poll_s)

    def _stamp(self) -> object:
        """Differs when the file does."""
        try:
            stat = self._path.stat()
        except OSError as error:
            return error.errno
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def read_endpoints(path: Path) -> tuple[Found, ...]:
    """Raises ConfigError that names the file, and what in it is wrong."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the endpoints in {path}: {error.strerror}") from None
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{path} has more than {MAX_BYTES} bytes; that is no list of endpoints")
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if document is None:
        raise ConfigError(f"{path} is empty; write [] when there are no endpoints")
    try:
        return found(msgspec.convert(document, list[StaticEndpoint], strict=True))
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path} is not a list of endpoints: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
