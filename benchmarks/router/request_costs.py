"""What access and telemetry cost the router per request, in microseconds of one core.

    python -m shoal.benchmarks.router.request_costs

The best of several rounds each, so a busy machine disturbs little; last line is JSON.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from hashlib import sha256

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from shoal.router.access.authenticator import Authenticator
from shoal.router.access.jwt import TokenVerifier
from shoal.router.access.keys import KeyStore, generate_key, key_digest
from shoal.router.settings.access import JWTConfig, PriceConfig
from shoal.router.telemetry.access_log import AccessEntry, format_entries
from shoal.router.telemetry.line_log import BATCH_ENTRIES, LineLog
from shoal.router.telemetry.metrics import RouterMetrics
from shoal.router.telemetry.request_span import Attempt, RequestSpan
from shoal.router.telemetry.traceparent import child_traceparent
from shoal.router.telemetry.tracing import Tracer
from shoal.router.telemetry.usage import Usage, cost_of, usage_from_tail

NOW = 1_800_000_000.0
USAGE = (
    b'"usage":{"prompt_tokens":812,"total_tokens":876,"completion_tokens":64,'
    b'"prompt_tokens_details":{"cached_tokens":768}}}'
)
ANSWER = b'{"choices":[{"message":{"content":"' + b"hello " * 300 + b'"}}],' + USAGE
CHUNK = b'data: {"id":"x","choices":[{"delta":{"content":"a"}}]}\n\n'
STREAM = CHUNK * 40 + b'data: {"id":"x","choices":[],' + USAGE + b"\n\ndata: [DONE]\n\n"


def best_us(call: Callable[[], object], *, num_calls: int = 2000, num_rounds: int = 50) -> float:
    """Microseconds of one call, the loop's own cost taken off."""

    def measure(what: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(num_rounds):
            start = time.perf_counter()
            for _ in range(num_calls):
                what()
            best = min(best, time.perf_counter() - start)
        return best

    return (measure(call) - measure(lambda: None)) / num_calls * 1e6


def access_costs() -> dict[str, float]:
    key = generate_key()
    names = [*(str(number) for number in range(1000)), key]
    entries = [{"name": f"key-{n}", "sha256": key_digest(name)} for n, name in enumerate(names)]
    by_key = Authenticator(KeyStore.from_yaml(json.dumps(entries).encode()))
    bearer = b"Bearer " + key.encode()

    signing = rsa.generate_private_key(65537, 2048)
    config = JWTConfig(jwks_url="https://id.example", issuer="id", audience="shoal")
    verifier = TokenVerifier(config)
    jwk = RSAAlgorithm.to_jwk(signing.public_key(), as_dict=True)
    verifier.keys.replace({"keys": [jwk | {"kid": "k", "key_ops": ["verify"]}]})
    claims = {"iss": "id", "aud": "shoal", "sub": "alice", "exp": NOW + 600}
    token = jwt.encode(claims, signing, "RS256", headers={"kid": "k"}).encode()
    by_token = Authenticator(tokens=verifier)
    forgetful = TokenVerifier(config, keys=verifier.keys, max_remembered=0)
    digest = sha256(token).digest()
    return {
        "authenticate, one of 1,001 keys": best_us(lambda: by_key.authenticate(bearer, None, NOW)),
        "authenticate, a JWT seen before": best_us(
            lambda: by_token.authenticate(b"Bearer " + token, None, NOW)
        ),
        "authenticate, a new JWT (RS256)": best_us(
            lambda: forgetful.verify(token, digest, NOW), num_calls=100
        ),
    }


def telemetry_costs() -> dict[str, float]:
    metrics = RouterMetrics()
    metrics.know_models(["llama"])
    usage, price = Usage(812, 768, 64), PriceConfig(prompt=0.2, cached=0.05, completion=0.6)
    endpoint = metrics.endpoint("w1")
    draw = random.Random(1)
    incoming = child_traceparent(None, 1.0, draw).traceparent

    def count() -> None:
        model = metrics.model("llama")
        model.routed(812, 768)
        endpoint.decided("cost")
        endpoint.in_flight += 1
        model.finished(200, 1.5, 0.03, 11)
        model.used("sales", usage, 0.1)
        endpoint.in_flight -= 1

    def entry() -> AccessEntry:
        return AccessEntry(
            NOW + 1 / 7, b"4f1d7a", b"POST", b"/v1/chat/completions", 200, 12.3456789, "sales",
            "team-a", "llama", "http://10.0.0.7:8000", 3.456789, 300, 2000, 812, 768, 64, None, 1,
        )  # fmt: skip

    def drop(_: list[AccessEntry]) -> bytes:
        return b""

    log: LineLog[AccessEntry] = LineLog("/dev/null", format_batch=drop)
    batch = [entry() for _ in range(BATCH_ENTRIES)]
    costs = {
        "metrics, all of a request": best_us(count),
        "access log, append": best_us(lambda: log.append(entry())),
        "access log, format (in its thread)": best_us(
            lambda: format_entries(batch), num_calls=10
        ) / BATCH_ENTRIES,
        "usage_from_tail, answer of 2 KB": best_us(lambda: usage_from_tail(ANSWER)),
        "usage_from_tail, stream": best_us(lambda: usage_from_tail(STREAM)),
        "usage_from_tail, 2 KB without": best_us(lambda: usage_from_tail(CHUNK * 40)),
        "cost_of": best_us(lambda: cost_of(usage, price)),
        "child_traceparent, new trace": best_us(lambda: child_traceparent(None, 0.01, draw)),
        "child_traceparent, client's trace": best_us(
            lambda: child_traceparent(incoming, 0.01, draw)
        ),
    }  # fmt: skip
    log.close()
    return costs


def trace_costs() -> dict[str, float]:
    """Of a sampled request; the exporter finds nobody, and is not waited for."""
    tracer = Tracer("http://127.0.0.1:9", host="127.0.0.1", port=8080)
    attempt = Attempt("w1", "http://10.0.0.7:8000", 1.0, 2.0, 200, None, "cost", "least", {"a": 1})
    request = RequestSpan(
        child_traceparent(None, 1.0, random.Random(1)),
        "chat", "POST", "/v1/chat/completions", 1.0, 2.0, 200, "llama", attempts=(attempt,),
    )  # fmt: skip
    cost = best_us(lambda: tracer.record(request), num_calls=100, num_rounds=20)
    tracer.close(0)
    return {"Tracer.record, sampled, two spans": cost}


def main() -> None:
    costs = access_costs() | telemetry_costs() | trace_costs()
    for name, cost in costs.items():
        print(f"{name:36} {cost:8.2f} us")
    print(json.dumps({name: round(cost, 3) for name, cost in costs.items()}))


if __name__ == "__main__":
    main()
