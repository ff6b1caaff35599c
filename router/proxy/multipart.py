"""One text field of a multipart form (RFC 7578): audio routes name their model there."""

from __future__ import annotations

from email.message import Message

_MAX_VALUE_BYTES = 512


def form_field(body: bytes, content_type: bytes, name: bytes) -> bytes | None:
    """The value of a form field, without decoding files around it; None: it is not there."""
    message = Message()
    message["content-type"] = content_type.decode("latin-1")
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        return None
    delimiter = b"--" + boundary.encode("latin-1")
    wanted = b'name="%b"' % name
    start = 0
    while (found := body.find(delimiter, start)) >= 0:
        start = found + len(delimiter)
        head_end = body.find(b"\r\n\r\n", start, start + 4096)
        if head_end < 0:
            return None
        head = body[start:head_end]
        # filename="..." holds name="..." too: the blank or ";" before it tells them apart.
        if b"; " + wanted in head or b";" + wanted in head:
            end = body.find(b"\r\n" + delimiter, head_end)
            value = body[head_end + 4 : end if end >= 0 else head_end + 4]
            return value if len(value) <= _MAX_VALUE_BYTES else None
    return None
