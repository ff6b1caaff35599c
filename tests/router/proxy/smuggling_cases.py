"""Messages that two parsers could read in two ways, and what the router must do with each.

Sources: RFC 9112 (sections 2 to 7 and 11), the request-smuggling variants published by PortSwigger
("HTTP desync attacks", "TE.0", "0.CL"), and what llhttp, hyper, Go and uvicorn had to fix. A case
says how many requests may reach a worker and with which bodies: everything else is refused.
"""

from __future__ import annotations

from typing import NamedTuple

BODY = b'{"model":"m"}'
EVIL = b'{"model":"m","evil":1}'
_LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
_HEAD = _LINE + b"Host: router\r\n"
SMUGGLED = _HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(EVIL), EVIL)
"""What an attacker would like a worker to run."""
_CHUNKED = b"d\r\n%b\r\n0\r\n\r\n" % BODY


class Case(NamedTuple):
    name: str
    message: bytes
    statuses: tuple[int, ...] = (400,)
    """Of all answers, in order."""
    forwarded: tuple[bytes, ...] = ()
    """Bodies of the requests that a worker gets."""
    is_open: bool = False
    """Whether the connection goes on afterwards."""
    waits: bool = False
    """The message is one without an end: the answer comes when the time is up."""


def _with_length(length: bytes) -> bytes:
    return _HEAD + b"Content-Length:" + length + b"\r\n\r\n" + BODY


def _with_coding(line: bytes) -> bytes:
    return _HEAD + line + b"\r\n\r\n" + _CHUNKED


def _with_field(line: bytes) -> bytes:
    return _HEAD + line + b"\r\nContent-Length: 13\r\n\r\n" + BODY


def _with_chunks(chunks: bytes) -> bytes:
    return _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def _with_line(line: bytes) -> bytes:
    return line + b"\r\nHost: router\r\nContent-Length: 13\r\n\r\n" + BODY


def _sound(name: str, message: bytes, *bodies: bytes) -> Case:
    """Odd, but with one reading alone."""
    bodies = bodies or (BODY,)
    return Case(name, message, (200,) * len(bodies), bodies, is_open=True)


LENGTHS = [
    Case("length and chunked", _HEAD + b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n"
         + _CHUNKED),
    Case("chunked and length", _HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
         + _CHUNKED + SMUGGLED),
    Case("two lengths that differ", _HEAD + b"Content-Length: 13\r\nContent-Length: 0\r\n\r\n"
         + BODY),
    Case("two lengths that agree", _HEAD + b"Content-Length: 13\r\nContent-Length: 13\r\n\r\n"
         + BODY),
    Case("a list of lengths", _with_length(b" 13, 13")),
    Case("length with a plus", _with_length(b" +13")),
    Case("length below zero", _with_length(b" -13")),
    Case("length in hexadecimal", _with_length(b" 0xd")),
    Case("length with a letter", _with_length(b" 13x")),
    Case("length with a blank in it", _with_length(b" 1 3")),
    Case("length with an underscore", _with_length(b" 1_3")),
    Case("length in Arabic digits", _with_length(" ١٣".encode())),
    Case("length with a fraction", _with_length(b" 13.0")),
    Case("length of nothing", _with_length(b"")),
    Case("length of blanks", _with_length(b"   ")),
    Case("length after a vertical tab", _with_length(b" \x0b13")),
    Case("length beyond 64 bits", _with_length(b" 18446744073709551629")),
    Case("length beyond the limit", _with_length(b" 99999999999"), (413,)),
    _sound("length with leading zeros", _with_length(b" 00013")),
    _sound("length between blanks and tabs", _with_length(b" \t13\t ")),
]  # fmt: skip

CODINGS = [
    Case("unknown coding", _with_coding(b"Transfer-Encoding: xchunked")),
    Case("identity", _with_coding(b"Transfer-Encoding: identity")),
    Case("chunked, then identity", _with_coding(b"Transfer-Encoding: chunked, identity")),
    Case("gzip, then chunked", _with_coding(b"Transfer-Encoding: gzip, chunked")),
    Case("chunked twice in one field", _with_coding(b"Transfer-Encoding: chunked, chunked")),
    Case("chunked in two fields",
         _with_coding(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
    Case("chunked, and another field that is not",
         _with_coding(b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow")),
    Case("blank before the colon", _with_coding(b"Transfer-Encoding : chunked")),
    Case("tab before the colon", _with_coding(b"Transfer-Encoding\t: chunked")),
    Case("vertical tab before the coding", _with_coding(b"Transfer-Encoding: \x0bchunked")),
    Case("NUL after the coding", _with_coding(b"Transfer-Encoding: chunked\0")),
    Case("quoted coding", _with_coding(b'Transfer-Encoding: "chunked"')),
    Case("coding with a parameter", _with_coding(b"Transfer-Encoding: chunked;q=1")),
    Case("coding in a folded line", _with_coding(b"Transfer-Encoding:\r\n chunked")),
    Case("coding hidden in a fold", _with_coding(b"X: y\r\n Transfer-Encoding: chunked")),
    Case("coding behind a bare LF", _with_coding(b"X: y\nTransfer-Encoding: chunked")),
    Case("coding behind a bare CR", _with_coding(b"X: y\rTransfer-Encoding: chunked")),
    Case("no coding", _with_coding(b"Transfer-Encoding:")),
    Case("chunked from HTTP/1.0",
         b"POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNKED),
    _sound("coding in capitals", _with_coding(b"TRANSFER-ENCODING: CHUNKED")),
]  # fmt: skip

CHUNKS = [
    Case("size with 0x", _with_chunks(b"0xd\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("size with a plus", _with_chunks(b"+d\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("size below zero", _with_chunks(b"-d\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("size before a blank", _with_chunks(b"d \r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("size after a blank", _with_chunks(b" d\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("no size", _with_chunks(b"\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("size beyond 64 bits", _with_chunks(b"1000000000000000d\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("size of 2**64 - 1", _with_chunks(b"ffffffffffffffff\r\n" + BODY), (408,), waits=True),
    Case("size ended by LF", _with_chunks(b"d\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("data longer than its size", _with_chunks(b"c\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("data ended by LF", _with_chunks(b"d\r\n" + BODY + b"\n0\r\n\r\n")),
    Case("data ended by two bytes", _with_chunks(b"d\r\n" + BODY + b"xx0\r\n\r\n")),
    Case("extension ended by LF", _with_chunks(b"d;a\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("extension with a bare CR", _with_chunks(b"d;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("extension with NUL", _with_chunks(b"d;a\0\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Case("trailer that is no field", _with_chunks(b"d\r\n" + BODY + b"\r\n0\r\nnothing\r\n\r\n")),
    Case("no last chunk", _with_chunks(b"d\r\n" + BODY + b"\r\n"), (408,), waits=True),
    _sound("extensions", _with_chunks(b'd;a;b=c;d="e f"\r\n' + BODY + b"\r\n0;z\r\n\r\n")),
    _sound("size with leading zeros", _with_chunks(b"0000d\r\n" + BODY + b"\r\n000\r\n\r\n")),
    _sound("many chunks", _with_chunks(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
           + b"0\r\n\r\n")),
    Case("a length among the trailers", _with_chunks(
        b"d\r\n" + BODY + b"\r\n0\r\nContent-Length: 99\r\n\r\n")),
    Case("a coding among the trailers", _with_chunks(
        b"d\r\n" + BODY + b"\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n")),
    _sound("trailers that look like fields of the head", _with_chunks(
        b"d\r\n" + BODY + b"\r\n0\r\nHost: evil\r\nExpect: 100-continue\r\n"
        b"X-Request-Id: evil\r\nX-Evil: 1\r\nUpgrade: h2c\r\n\r\n")),
    _sound("a request inside a chunk", _with_chunks(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY) + 2, BODY + b"\r\n")), BODY + b"\r\n"),
]  # fmt: skip

FIELDS = [
    Case("bare LF everywhere", _with_field(b"X: y").replace(b"\r\n", b"\n")),
    Case("bare LF after a value", _with_field(b"X: y\nZ: w")),
    Case("bare CR in a value", _with_field(b"X: y\rZ: w")),
    Case("bare LF at the end of the head", _HEAD + b"Content-Length: 13\r\n\n" + BODY),
    Case("folded value", _with_field(b"X: y\r\n z")),
    Case("blank before the first field", _LINE + b" Host: router\r\nContent-Length: 13\r\n\r\n"
         + BODY),
    Case("blank before a colon", _with_field(b"X : y")),
    Case("blank in a name", _with_field(b"X Y: z")),
    Case("no name", _with_field(b": y")),
    Case("no colon", _with_field(b"XY")),
    Case("NUL in a name", _with_field(b"X\0: y")),
    Case("NUL in a value", _with_field(b"X: y\0z")),
    Case("control byte in a value", _with_field(b"X: y\x01z")),
    Case("DEL in a value", _with_field(b"X: y\x7fz")),
    Case("control byte in a name", _with_field(b"X\x08: y")),
    Case("umlaut in a name", _with_field("Ö: y".encode())),
    Case("brackets in a name", _with_field(b"X[]: y")),
    Case("no Host", _LINE + b"Content-Length: 13\r\n\r\n" + BODY),
    Case("two Hosts", _HEAD + b"Host: evil\r\nContent-Length: 13\r\n\r\n" + BODY),
    Case("two Hosts that agree", _HEAD + b"Host: router\r\nContent-Length: 13\r\n\r\n" + BODY),
    _sound("Latin-1 in a value", _with_field(b"X: \xe4\xff")),
    _sound("framing fields named hop-by-hop",
           _with_field(b"Connection: content-length, host, transfer-encoding")),
]  # fmt: skip

REQUEST_LINES = [
    Case("HTTP/0.9", b"GET /v1/models\r\n\r\n"),
    Case("HTTP/0.9 with fields", _with_line(b"POST /v1/chat/completions")),
    Case("version 0.9 by name", _with_line(b"POST /v1/chat/completions HTTP/0.9")),
    Case("version 2.0", _with_line(b"POST /v1/chat/completions HTTP/2.0")),
    Case("version 1.2", _with_line(b"POST /v1/chat/completions HTTP/1.2")),
    Case("version with two digits", _with_line(b"POST /v1/chat/completions HTTP/1.10")),
    Case("version in small letters", _with_line(b"POST /v1/chat/completions http/1.1")),
    Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    Case("TLS on a plain port", b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + b"\0" * 32),
    Case("something binary", bytes(range(256))),
    Case("method in small letters", _with_line(b"post /v1/chat/completions HTTP/1.1")),
    Case("unknown method", _with_line(b"SMUGGLE /v1/chat/completions HTTP/1.1")),
    Case("blank before the method", _with_line(b" POST /v1/chat/completions HTTP/1.1")),
    Case("tabs between the parts", _with_line(b"POST\t/v1/chat/completions\tHTTP/1.1")),
    Case("blank in the target", _with_line(b"POST /v1/chat/completions /v1/x HTTP/1.1")),
    Case("blank after the version", _with_line(b"POST /v1/chat/completions HTTP/1.1 ")),
    Case("NUL in the target", _with_line(b"POST /v1/chat\0/completions HTTP/1.1")),
    Case("umlaut in the target", _with_line("POST /v1/chät HTTP/1.1".encode())),
    Case("relative target", _with_line(b"POST v1/chat/completions HTTP/1.1")),
    Case("authority as the target", _with_line(b"POST router:80 HTTP/1.1")),
    Case("CONNECT", b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n" + SMUGGLED, (405,)),
    Case("asterisk", _with_line(b"POST * HTTP/1.1"), (404,), is_open=True),
    Case("TRACE", b"TRACE /v1/chat/completions HTTP/1.1\r\nHost: router\r\n\r\n", (405,),
         is_open=True),
    Case("fragment behind a forbidden path",
         _with_line(b"POST /v1/load_lora_adapter#x HTTP/1.1"), (404,), is_open=True),
    Case("fragment in the target", _with_line(b"POST /v1/chat/completions#x HTTP/1.1"), (404,),
         is_open=True),
    Case("forbidden path in absolute form",
         _with_line(b"POST http://router/v1/load_lora_adapter HTTP/1.1"), (404,), is_open=True),
    Case("escaped dots", _with_line(b"POST /v1/%2e%2e/sleep HTTP/1.1"), (404,), is_open=True),
    Case("dots", _with_line(b"POST /v1/../sleep HTTP/1.1"), (404,), is_open=True),
    Case("doubled slashes", _with_line(b"POST /v1//load_lora_adapter HTTP/1.1"), (404,),
         is_open=True),
    Case("backslash", _with_line(b"POST /v1\\..\\sleep HTTP/1.1"), (404,), is_open=True),
    _sound("absolute form", _with_line(b"POST http://router/v1/chat/completions HTTP/1.1")),
    _sound("absolute form of another host",
           _with_line(b"POST http://user:word@evil:1/v1/chat/completions HTTP/1.1")),
    _sound("empty lines first", b"\r\n\r\n" + _with_line(b"POST /v1/chat/completions HTTP/1.1")),
    _sound("blanks between the parts", _with_line(b"POST  /v1/chat/completions  HTTP/1.1")),
]  # fmt: skip

PIPELINES = [
    _sound("two requests", SMUGGLED + SMUGGLED, EVIL, EVIL),
    _sound("an empty line between two", SMUGGLED + b"\r\n" + SMUGGLED, EVIL, EVIL),
    Case("body longer than its length", _HEAD + b"Content-Length: 13\r\n\r\n" + BODY + b"more"
         + SMUGGLED, (200,), (BODY,)),
    Case("a request after Connection: close", _HEAD + b"Connection: close\r\nContent-Length: 13"
         b"\r\n\r\n" + BODY + SMUGGLED, (200,), (BODY,)),
    Case("a request after HTTP/1.0", b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: 13"
         b"\r\n\r\n" + BODY + SMUGGLED, (200,), (BODY,)),
    Case("a request after HTTP/1.0 that would go on",
         b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + SMUGGLED, (200,)),
    Case("a request after our own answer that closes",
         b"GET /health HTTP/1.1\r\nHost: router\r\nConnection: close\r\n\r\n" + SMUGGLED, (200,)),
    Case("a request after a refused one", _with_field(b"X: y\0") + SMUGGLED),
    Case("a request after a body over the limit", _with_length(b" 99999999999") + SMUGGLED, (413,)),
    Case("a GET with a request as its body",
         b"GET /health HTTP/1.1\r\nHost: router\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
         + SMUGGLED, (200,), is_open=True),
    Case("a HEAD with a request as its body",
         b"HEAD /v1/chat/completions HTTP/1.1\r\nHost: router\r\nContent-Length: %d\r\n\r\n"
         % len(SMUGGLED) + SMUGGLED, (405,), is_open=True),
    _sound("Upgrade to HTTP/2, with a body", _with_field(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM")),
    _sound("Upgrade, chunked, and a request behind it", _HEAD + b"Connection: upgrade\r\n"
           b"Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNKED + SMUGGLED, BODY, EVIL),
    _sound("two that would upgrade", 2 * _with_field(b"Connection: upgrade\r\nUpgrade: h2c")
           + SMUGGLED, BODY, BODY, EVIL),
    Case("an upgrade without a length after one with", _with_field(
         b"Connection: upgrade\r\nUpgrade: h2c") + _HEAD + b"Connection: upgrade\r\nUpgrade: h2c"
         b"\r\n\r\n" + SMUGGLED, (200, 400, 200), (BODY, EVIL), is_open=True),
    Case("an upgrade, then something else", _with_field(b"Connection: upgrade\r\nUpgrade: h2c")
         + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (200,), (BODY,)),
    Case("an Upgrade that nobody names", _with_field(b"Upgrade: h2c"), (200,), (BODY,),
         is_open=True),
    Case("WebSocket", b"GET /v1/realtime HTTP/1.1\r\nHost: router\r\nConnection: Upgrade\r\n"
         b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n" + SMUGGLED, (405, 200), (EVIL,),
         is_open=True),
]  # fmt: skip

ALL = [*LENGTHS, *CODINGS, *CHUNKS, *FIELDS, *REQUEST_LINES, *PIPELINES]
