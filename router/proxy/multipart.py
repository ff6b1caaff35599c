"""One text field of a multipart form (RFC 7578): audio routes name their model there.

Whose model it is decides what a key may do, so a form is read as the workers read it (Starlette,
with python-multipart), and refused where two readers could differ: a field that occurs twice, two
names of one part, a delimiter without its line.
"""

from __future__ import annotations

from email.message import Message
from typing import Any, NamedTuple

from shoal.errors import InvalidRequest

_MAX_VALUE_BYTES = 512
_MAX_HEAD_BYTES = 4096
_MAX_PARTS = 128


class FormField(NamedTuple):
    """Where a field's value is in the body."""

    value: bytes
    start: int
    end: int


def form_field(body: bytes, content_type: bytes, name: str) -> FormField | None:
    """A field of a form, without decoding files around it; None: it is not there.

    Raises InvalidRequest for what is no form, or one with two readings.
    """
    delimiter = b"\r\n--" + _boundary(content_type)
    if body.startswith(delimiter[2:]):
        at = len(delimiter) - 2
    else:
        at = _find(body, delimiter, 0) + len(delimiter)
    found: FormField | None = None
    for _ in range(_MAX_PARTS):
        if body.startswith(b"--", at):
            return found
        if not body.startswith(b"\r\n", at):
            raise _bad_form("a delimiter is followed by something else than its line's end")
        head_end = body.find(b"\r\n\r\n", at, at + _MAX_HEAD_BYTES)
        if head_end < 0:
            raise _bad_form("the header of a part does not end")
        start = head_end + 4
        end = _find(body, delimiter, start)
        if _name(body[at + 2 : head_end]) == name:
            if found is not None:
                raise InvalidRequest(f"{name} occurs twice in the form.", param=name)
            if end - start > _MAX_VALUE_BYTES:
                raise InvalidRequest(f"{name} is over {_MAX_VALUE_BYTES} bytes.", param=name)
            found = FormField(body[start:end], start, end)
        at = end + len(delimiter)
    raise _bad_form(f"it has more than {_MAX_PARTS} parts")


def _find(body: bytes, delimiter: bytes, start: int) -> int:
    found = body.find(delimiter, start)
    if found < 0:
        raise _bad_form("the last part does not end")
    return found


def _boundary(content_type: bytes) -> bytes:
    values = _params(content_type.decode("latin-1"), "boundary")
    if len(values) != 1 or not 0 < len(values[0]) <= 200:
        raise _bad_form("the Content-Type must name one boundary")
    return values[0].encode("latin-1", "replace")


def _name(head: bytes) -> str | None:
    """What a part is called."""
    names: list[str] = []
    for line in head.decode("latin-1").split("\r\n"):
        field, colon, value = line.partition(":")
        if not colon or field != field.strip():
            raise _bad_form("the header of a part is no list of fields")
        if field.lower() == "content-disposition":
            names += _params(value, "name")
    if len(names) > 1:
        raise _bad_form("a part has two names")
    return names[0] if names else None


def _params(value: str, wanted: str) -> list[str]:
    """The values of all parameters of that name, RFC 2231 and quotes taken off."""
    message = Message()
    message["content-type"] = value
    values = []
    params: list[tuple[str, Any]] = message.get_params([])
    for name, param in params:
        if name.lower() == wanted:
            values.append(param[-1] if isinstance(param, tuple) else param)
    return values


def _bad_form(why: str) -> InvalidRequest:
    return InvalidRequest(f"The body is no form: {why}.", code="invalid_form")
