"""A tiny completions server: `python fake_openai.py PORT [EXTRA_TOKENS]`.

It answers each request with as many one-letter chunks as were asked for, plus EXTRA_TOKENS, so that
a test can have a server that ignores the length.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GAP_S = 0.002


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extra_tokens = 0

    def do_GET(self) -> None:
        self._answer({"data": [{"id": "smollm2"}]} if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            self._answer({"tokens": [len(word) for word in body["prompt"].split()]})
        else:
            self._stream(body)

    def _stream(self, body: dict[str, Any]) -> None:
        num_output = body["max_tokens"] + self.extra_tokens
        prompt = body["prompt"]
        num_input = len(prompt.split() if isinstance(prompt, str) else prompt)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(num_output):
            reason = "length" if number == num_output - 1 else None
            self._event({"choices": [{"text": "a", "finish_reason": reason}]})
            time.sleep(GAP_S)
        usage = {"prompt_tokens": num_input, "completion_tokens": num_output}
        self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, payload: object) -> None:
        self._chunk(f"data: {json.dumps(payload)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _answer(self, payload: object) -> None:
        content = json.dumps(payload).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    Handler.extra_tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
