"""Header fields between two hops: which end here, which pass, and the bytes of a message head.

Hop-by-hop fields are those of RFC 9110, section 7.6.1, and whatever a Connection field names. The
router writes the framing of requests itself (a body always travels with its length), so nothing a
client puts into its framing reaches a worker.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

Headers = list[tuple[bytes, bytes]]
"""Fields in the order they came; names in lower case."""

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NOT_FORWARDED: Final = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"expect",
    b"x-forwarded-for",
}
_REPLACED_KEYS: Final = frozenset({b"authorization", b"x-api-key"})
_NOT_RETURNED: Final = HOP_BY_HOP | {b"x-request-id", b"server"}

LOWER_NAMES: Final[dict[bytes, bytes]] = {}
"""Lower case of header names seen; bounded, since clients choose them."""


def lower(name: bytes) -> bytes:
    known = LOWER_NAMES.get(name)
    if known is None:
        known = name.lower()
        if len(LOWER_NAMES) < 1024 and len(name) <= 64:
            LOWER_NAMES[name] = known
    return known


_NOTHING: Final[frozenset[bytes]] = frozenset()
_NO_NAMES: Final = frozenset({b"close", b"keep-alive", b""})

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def find(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first field of that (lower case) name."""
    for field, value in headers:
        if field == name:
            return value
    return None


def named_by_connection(headers: Headers) -> frozenset[bytes]:
    """The fields that Connection fields declare to be hop-by-hop."""
    named = _NOTHING
    for name, value in headers:
        if name == b"connection":
            named |= {token.strip().lower() for token in value.split(b",")}
    return named - _NO_NAMES if named else named


def forwarded_fields(headers: Headers, *, keep_credentials: bool) -> bytes:
    """The client's fields that go on to a worker, as lines."""
    dropped = _NOT_FORWARDED
    if named := named_by_connection(headers):
        dropped = dropped | named
    if not keep_credentials:
        dropped = dropped | _REPLACED_KEYS
    return b"".join(
        [b"%b: %b\r\n" % (name, value) for name, value in headers if name not in dropped]
    )


def returned_fields(headers: Headers) -> bytes:
    """The worker's fields that go back to the client, as lines; framing is ours to write."""
    dropped = _NOT_RETURNED
    if named := named_by_connection(headers):
        dropped = dropped | named
    return b"".join(
        [b"%b: %b\r\n" % (name, value) for name, value in headers if name not in dropped]
    )


def forwarded_for(headers: Headers, peer: bytes) -> bytes:
    """The X-Forwarded-For line: the chain so far and the client we see."""
    before = [value for name, value in headers if name == b"x-forwarded-for"]
    return b"x-forwarded-for: %b\r\n" % b", ".join([*before, peer])


def lines_bytes(headers: Headers) -> int:
    """How long fields are as lines."""
    return sum([len(name) + len(value) + 4 for name, value in headers])
