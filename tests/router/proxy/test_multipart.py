from __future__ import annotations

import pytest

from shoal.errors import InvalidRequest
from shoal.router.proxy.multipart import form_field

TYPE = b"multipart/form-data; boundary=xyz"


def form(*parts: bytes, end: bytes = b"--xyz--\r\n") -> bytes:
    return b"".join(b"--xyz\r\n%b\r\n" % part for part in parts) + end


def field(name: bytes, value: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % (name, value)


FILE = (
    b'Content-Disposition: form-data; name="file"; filename="model.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n\0\1\2--xyz\r\n--xy\r\n\r\n"
)


def value_of(body: bytes, content_type: bytes = TYPE) -> bytes | None:
    found = form_field(body, content_type, "model")
    if found is None:
        return None
    assert body[found.start : found.end] == found.value
    return found.value


@pytest.mark.parametrize(
    "body",
    [
        form(field(b"model", b"whisper")),
        form(FILE, field(b"model", b"whisper")),
        form(field(b"model", b"whisper"), FILE),
        b"preamble --xyz\r\n\r\n" + form(field(b"model", b"whisper")),
        form(field(b"model", b"whisper"), end=b"--xyz--"),
        form(b"content-disposition: form-data; name=model\r\n\r\nwhisper"),
        form(b"CONTENT-DISPOSITION:form-data;NAME=model\r\n\r\nwhisper"),
        form(b"Content-Disposition: form-data; name*=utf-8''model\r\n\r\nwhisper"),
        form(b'X-A: b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper'),
        form(field(b"a-model", b"x"), field(b"model", b"whisper"), field(b"model2", b"y")),
    ],
)  # fmt: skip
def test_the_model_of_a_form(body: bytes) -> None:
    assert value_of(body) == b"whisper"


@pytest.mark.parametrize(
    "content_type",
    [
        b'multipart/form-data; boundary="xyz"',
        b"Multipart/Form-Data; charset=utf-8; Boundary=xyz",
    ],
)
def test_ways_to_name_the_boundary(content_type: bytes) -> None:
    assert value_of(form(field(b"model", b"whisper")), content_type) == b"whisper"


def test_a_form_without_it() -> None:
    assert value_of(form(FILE)) is None
    assert value_of(b"--xyz--\r\n") is None
    named_by_file = (
        b'Content-Disposition: form-data; name="f"; filename="name=\\"model\\""\r\n\r\nx'
    )
    assert value_of(form(named_by_file)) is None


def test_an_empty_value_and_one_with_line_ends() -> None:
    assert value_of(form(field(b"model", b""))) == b""
    assert value_of(form(field(b"model", b"a\r\nb"))) == b"a\r\nb"


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (form(field(b"model", b"a"), field(b"model", b"b")), TYPE, "twice"),
        (form(b"Content-Disposition: form-data; name=x; name=model\r\n\r\na"), TYPE, "two names"),
        (
            form(b"Content-Disposition: a; name=x\r\nContent-Disposition: a; name=model\r\n\r\na"),
            TYPE,
            "two names",
        ),
        (form(b"Content-Disposition: form-data;\r\n name=model\r\n\r\na"), TYPE, "no list of"),
        (form(b"Content-Disposition : form-data; name=model\r\n\r\na"), TYPE, "no list of"),
        (form(b"nothing\r\n\r\na"), TYPE, "no list of"),
        (form(field(b"model", b"x" * 513)), TYPE, "over 512"),
        (form(field(b"model", b"a"), end=b""), TYPE, "does not end"),
        (form(b"X: " + b"y" * 5000 + b"\r\n\r\na"), TYPE, "does not end"),
        (form(*[field(b"a", b"b")] * 200), TYPE, "more than 128"),
        (b"--xyz \r\n" + field(b"model", b"a") + b"\r\n--xyz--", TYPE, "delimiter"),
        (b"--xyzz\r\n" + field(b"model", b"a") + b"\r\n--xyz--", TYPE, "delimiter"),
        (b"", TYPE, "does not end"),
        (b'{"model": "a"}', TYPE, "does not end"),
        (form(field(b"model", b"a")), b"multipart/form-data", "one boundary"),
        (form(field(b"model", b"a")), b"multipart/form-data; boundary=", "one boundary"),
        (form(field(b"model", b"a")), TYPE + b"; boundary=abc", "one boundary"),
    ],
)
def test_what_two_readers_could_read_differently(
    body: bytes, content_type: bytes, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        form_field(body, content_type, "model")
