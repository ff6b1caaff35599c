"""A screenshot as a PNG with a palette: a page has few colours, and so a third of the bytes.

Only what Chromium writes is read: 8 bits a channel, RGB or RGBA, not interlaced.
https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NUM_COLOURS = 160


def smaller(png: bytes) -> bytes:
    """The same picture in its most frequent colours; others become the nearest of them.

    Vivid ones count more: a red word among greys is what the page wants to say.
    """
    pixels = _pixels(png)
    height, width, _ = pixels.shape
    packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colours, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    spread = np.ptp(_channels(colours), axis=1)
    kept = colours[np.argsort(counts * (1 + spread))[::-1][:_NUM_COLOURS]]
    distance = np.abs(_channels(colours)[:, None] - _channels(kept)[None]).sum(axis=2)
    indexes = distance.argmin(axis=1).astype(np.uint8)[inverse].reshape(height, width)
    rows = np.insert(indexes, 0, 0, axis=1)  # filter 0: indexes are not differences
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", _channels(kept).astype(np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _channels(packed: NDArray[np.uint32]) -> NDArray[np.int32]:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.int32)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _pixels(png: bytes) -> Pixels:
    """[height, width, 3]"""
    width, height, _, colour_type = struct.unpack(">IIBB", png[16:26])
    channels = {2: 3, 6: 4}[colour_type]
    data, place = b"", len(_SIGNATURE)
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    raw = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * channels)
    above = np.zeros(width * channels, np.uint8)
    rows = []
    for row in raw:
        above = _unfiltered(int(row[0]), row[1:], above, channels)
        rows.append(above)
    return np.stack(rows).reshape(height, width, channels)[:, :, :3]


def _unfiltered(kind: int, row: Pixels, above: Pixels, channels: int) -> Pixels:
    if kind == 0:
        return row
    if kind == 1:
        return np.cumsum(row.reshape(-1, channels), axis=0, dtype=np.uint8).reshape(-1)
    if kind == 2:
        return row + above
    predict = _average if kind == 3 else _paeth
    found, up = [0] * channels + row.tolist(), [0] * channels + above.tolist()
    for place in range(channels, len(found)):
        left, corner = found[place - channels], up[place - channels]
        found[place] = (found[place] + predict(left, up[place], corner)) & 255
    return np.array(found[channels:], np.uint8)


def _average(left: int, up: int, _corner: int) -> int:
    return (left + up) >> 1


def _paeth(left: int, up: int, corner: int) -> int:
    estimate = left + up - corner
    return min((left, up, corner), key=lambda near: abs(estimate - near))
