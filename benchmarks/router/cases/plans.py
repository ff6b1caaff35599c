"""What the clients of the fault cases ask, and when an answer is good."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ..http_client import Answer
from ..loads.closed_loop import Plan, Verdict, failure_detail
from ..loads.requests import chat_request, stream_text
from ..oracle import greedy_answer
from ..workers import FAKE_SEED, MODEL

_WORKER = re.compile(rb'"system_fingerprint":"(w\d+)"')


def whole(headers: Mapping[str, str], *, num_tokens: int) -> Plan:
    """A whole answer of a mock worker; it names its worker."""

    def judge(answer: Answer) -> tuple[Verdict, str]:
        if answer.ok:
            return Verdict.GOOD, worker_of(answer)
        return Verdict.FAILED, failure_detail(answer)

    return Plan(chat_request(MODEL, max_tokens=num_tokens, stream=False, headers=headers), judge)


def mock_stream(headers: Mapping[str, str], *, num_tokens: int) -> Plan:
    """A stream of a mock worker."""
    request = chat_request(MODEL, max_tokens=num_tokens, stream=True, headers=headers)
    return Plan(request, stream_judge("".join(f" tok{i}" for i in range(num_tokens))))


def fake_stream(headers: Mapping[str, str], *, num_tokens: int, client: int) -> Plan:
    """A greedy stream of a fake worker: other words for each client, the same from any worker."""
    content = f"Tell story {client} of the sea."
    request = chat_request(
        MODEL,
        [{"role": "user", "content": content}],
        max_tokens=num_tokens,
        stream=True,
        headers=headers,
    )
    answer = greedy_answer([("user", content)], num_tokens=num_tokens, seed=FAKE_SEED)
    return Plan(request, stream_judge(answer))


def stream_judge(text: str) -> Callable[[Answer], tuple[Verdict, str]]:
    """Good is a stream with exactly this text, then [DONE], then the end of the body."""

    def judge(answer: Answer) -> tuple[Verdict, str]:
        if answer.status != 200:
            return Verdict.FAILED, failure_detail(answer)
        got, done = stream_text(answer.body)
        if answer.ok and done and got == text:
            return Verdict.GOOD, worker_of(answer)
        if answer.ok and done:
            return Verdict.CUT, f"other text, {len(got)} of {len(text)} characters"
        return Verdict.CUT, failure_detail(answer)

    return judge


def worker_of(answer: Answer) -> str:
    """Name of the mock worker that answered; empty where the answer has none."""
    found = _WORKER.search(answer.parts[0] if answer.parts else b"")
    return found[1].decode() if found else ""
