"""What two others make of the bytes a worker got: h11, and the standard library's server."""

from __future__ import annotations

import io
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

import h11


class Understood(NamedTuple):
    method: str
    target: str
    fields: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes


def by_h11(data: bytes) -> list[Understood]:
    """Raises h11.RemoteProtocolError when it refuses them."""
    requests: list[Understood] = []
    read_by_h11(data, requests)
    return requests


def read_by_h11(data: bytes, requests: list[Understood]) -> None:
    """Appends the requests up to the first that is refused, then raises for it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    connection.receive_data(b"")
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            if connection.our_state is h11.SEND_RESPONSE:
                requests.pop()  # its head was sound, its body is not
            raise
        if isinstance(event, h11.Request):
            fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            requests.append(
                Understood(event.method.decode(), event.target.decode("latin-1"), fields, b"")
            )
        elif isinstance(event, h11.Data):
            requests[-1] = requests[-1]._replace(body=requests[-1].body + event.data)
        elif event is h11.PAUSED:
            connection.send(h11.Response(status_code=400, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is h11.MUST_CLOSE:
                return  # as the client asked
            connection.start_next_cycle()
        elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
            return requests


def by_http_server(data: bytes) -> list[Understood]:
    """Raises ValueError when it refuses them."""
    source = io.BytesIO(data)
    requests: list[Understood] = []
    while line := source.readline():
        handler = _Handler(source, line)
        body = source.read(int(handler.headers["content-length"]))
        fields = [(name.lower(), value) for name, value in handler.headers.items()]
        requests.append(Understood(handler.command, handler.path, fields, body))
    return requests


class _Handler(BaseHTTPRequestHandler):
    """Parses one head and no more."""

    def __init__(self, source: io.BytesIO, line: bytes) -> None:
        self.rfile = source  # type: ignore[assignment]
        self.raw_requestline = line
        if not self.parse_request():
            raise ValueError("refused")

    def send_error(self, code: int, message: str | None = None, explain: Any = None) -> None:
        raise ValueError(f"{code}: {message}")
