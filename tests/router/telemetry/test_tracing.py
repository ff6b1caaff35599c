from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shoal.router.telemetry import tracing
from shoal.router.telemetry.request_span import Attempt, RequestSpan
from shoal.router.telemetry.traceparent import child_traceparent
from shoal.router.telemetry.tracing import Tracer
from shoal.router.telemetry.usage import Usage

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Keeps the spans it is sent over OTLP."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.paths: set[str] = set()
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest.FromString(
            self.rfile.read(int(self.headers["Content-Length"]))
        )
        self.server.paths.add(self.path)
        if self.server.status == 200:
            for resource in request.resource_spans:
                self.server.resources.append(attributes(resource.resource))
                for scope in resource.scope_spans:
                    self.server.spans.extend(scope.spans)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes
    }


def make_request(incoming: bytes | None = None, ratio: float = 1.0, **fields: Any) -> RequestSpan:
    request = RequestSpan(
        context=child_traceparent(incoming, ratio, Random(3)),
        operation="chat",
        method="POST",
        path="/v1/chat/completions",
        start_s=100.0,
        end_s=103.0,
        status=200,
        model="llama",
    )
    return request._replace(**fields)


def exported(collector: Collector, *requests: RequestSpan) -> list[Any]:
    tracer = Tracer(collector.url + "/", host="10.0.0.1", port=8080)
    for request in requests:
        tracer.record(request)
    tracer.close(timeout_s=10)
    assert tracer.dropped == 0
    return collector.spans


def test_a_request_is_a_server_span(collector: Collector) -> None:
    before = time.time_ns()
    now = time.monotonic()
    incoming = f"00-{TRACE}-{PARENT}-01".encode()
    request = make_request(
        incoming, response_model="meta/llama", usage=Usage(40, 32, 7), request_id="r-1",
        tenant="sales", start_s=now - 2.5, first_token_s=now - 2.0, end_s=now,
    )  # fmt: skip
    (span,) = exported(collector, request)
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == PARENT
    assert span.span_id.hex() == request.context.span_id
    assert request.context.traceparent == f"00-{TRACE}-{span.span_id.hex()}-01".encode()
    assert span.name == "chat llama"
    assert span.kind == span.SPAN_KIND_SERVER
    assert span.status.code == 0
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "llama",
        "gen_ai.response.model": "meta/llama",
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 32,
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "server.address": "10.0.0.1",
        "server.port": 8080,
        "shoal.request_id": "r-1",
        "shoal.tenant": "sales",
        "shoal.attempts": 0,
        "shoal.failovers": 0,
        "shoal.time_to_first_token_s": pytest.approx(0.5),
    }
    assert abs(span.end_time_unix_nano - before) < 60e9
    assert span.end_time_unix_nano - span.start_time_unix_nano == pytest.approx(2.5e9, abs=1e4)
    (first_token,) = span.events
    assert first_token.time_unix_nano - span.start_time_unix_nano == pytest.approx(5e8, abs=1e4)
    assert collector.paths == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "shoal-router"


def test_queue_and_attempts_are_its_children(collector: Collector) -> None:
    request = make_request(
        queued_s=(100.1, 100.4),
        attempts=(
            Attempt("w1", "http://10.0.0.7:8000", 100.4, 100.5, None, "connect", "cost", "least",
                    {"uncached_tokens": 8.0}),
            Attempt("w2", "https://worker.example/base", 100.6, 103.0, 200),
        ),
    )  # fmt: skip
    queue, first, second, server = exported(collector, request)
    assert {span.trace_id.hex() for span in (queue, first, second)} == {request.context.trace_id}
    assert {span.parent_span_id for span in (queue, first, second)} == {server.span_id}
    assert server.parent_span_id == b""
    assert len({span.span_id for span in collector.spans}) == 4
    assert queue.name == "queue"
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == pytest.approx(3e8, abs=1e4)
    assert [first.kind, second.kind] == [first.SPAN_KIND_CLIENT] * 2
    assert [first.status.code, second.status.code, server.status.code] == [2, 0, 0]
    told = attributes(first)
    assert told["server.address"] == "10.0.0.7"
    assert told["server.port"] == 8000
    assert told["shoal.endpoint"] == "w1"
    assert told["shoal.attempt"] == 1
    assert told["shoal.decision.policy"] == "cost"
    assert told["shoal.decision.reason"] == "least"
    assert told["shoal.decision.uncached_tokens"] == 8.0
    assert told["error.type"] == "connect"
    assert "http.response.status_code" not in told
    assert attributes(second)["server.address"] == "worker.example"
    assert attributes(second)["http.response.status_code"] == 200
    assert attributes(server)["shoal.attempts"] == 2


def test_an_error_is_named(collector: Collector) -> None:
    (span,) = exported(collector, make_request(status=503, error="queue_timeout"))
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert attributes(span)["error.type"] == "queue_timeout"
    assert attributes(span)["http.response.status_code"] == 503


def test_what_is_not_sampled_is_not_exported(collector: Collector) -> None:
    assert exported(collector, make_request(ratio=0.0)) == []


def test_what_a_client_chose_is_cut(collector: Collector) -> None:
    (span,) = exported(collector, make_request(model="m" * 10_000, path="/" + "p" * 10_000))
    assert len(span.name) == 256
    assert len(span.SerializeToString()) < 2000


@pytest.mark.filterwarnings("ignore")
def test_spans_that_a_collector_refuses_are_counted(collector: Collector) -> None:
    collector.status = 400
    tracer = Tracer(collector.url, host="127.0.0.1", port=1)
    tracer.record(make_request())
    tracer.close(timeout_s=10)
    assert tracer.dropped == 1


def test_spans_that_have_no_room_are_counted(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "_MAX_PENDING", 10)
    monkeypatch.setattr(tracing, "_BATCH", 20)
    monkeypatch.setattr(tracing, "_FLUSH_S", 3600)
    tracer = Tracer(collector.url, host="127.0.0.1", port=1)
    for _ in range(20):
        tracer.record(make_request())
    tracer.close(timeout_s=10)
    assert len(collector.spans) == 10
    assert tracer.dropped == 10


def test_the_sdk_is_loaded_by_the_tracer_alone() -> None:
    code = (
        "import json, sys\n"
        "from shoal.router.telemetry import access_log, exposition, metrics, request_span\n"
        "from shoal.router.telemetry import traceparent, usage, usage_log\n"
        "from shoal.router.access import authenticator\n"
        "print(json.dumps([m for m in sys.modules if m in ('opentelemetry', 'jwt', 'httpx')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []
