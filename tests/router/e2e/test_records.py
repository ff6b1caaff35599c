"""A little workload that is known to the last token: what metrics, logs and decisions say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.router.e2e.asking import CHAT, COMPLETIONS, chat_body, greedy, stream
from tests.router.e2e.conftest import Connect, StartWorkers
from tests.router.e2e.processes import Nursery, until
from tests.router.e2e.routers import Router
from tests.router.e2e.test_reload import new_key

PRICES = {"fake": {"prompt": 1_000_000, "cached": 100_000, "completion": 10_000_000}}
"""A prompt token is 1, a cached one 0.1, one of the answer 10."""
LONG = "word " * 100


async def test_everything_is_counted_once(
    start_workers: StartWorkers, router: Router, nursery: Nursery, connect: Connect, tmp_path: Path
) -> None:
    [worker] = start_workers(1)
    keys = tmp_path / "keys.yaml"
    alice = new_key(nursery, keys, "alice", "--tenant", "wonderland")
    telemetry = {
        "access_log": str(router.access_log), "usage_log": str(router.usage_log), "prices": PRICES
    }  # fmt: skip
    router.configure([worker], {"auth": {"keys_file": str(keys)}, "telemetry": telemetry})
    before = router.metrics()
    client = connect(router, headers={"authorization": f"Bearer {alice}"})

    def named(name: str) -> dict[str, str]:
        return {"headers": {"x-request-id": name}}  # type: ignore[dict-item]

    whole = await client.post(CHAT, json=chat_body(LONG, max_tokens=5), **named("whole"))
    again = await client.post(CHAT, json=chat_body(LONG, max_tokens=5), **named("again"))
    streamed = await stream(client, greedy(LONG, max_tokens=7), **named("streamed"))
    silent = await stream(
        client, greedy(LONG, max_tokens=3, stream_options=None), **named("silent")
    )
    text = {"model": "fake", "prompt": LONG, "max_tokens": 2}
    completed = await client.post(COMPLETIONS, json=text, **named("completed"))
    missing = await client.post(CHAT, json={**chat_body(), "model": "x"}, **named("missing"))
    broken = await client.post(CHAT, content=b"{", **named("broken"))
    stranger = await connect(router).post(CHAT, json=chat_body(), **named("stranger"))
    statuses = [answer.status_code for answer in (whole, again, completed)]
    assert statuses == [200] * 3
    assert (missing.status_code, broken.status_code, stranger.status_code) == (404, 400, 401)

    # What the worker said, which is what is true.
    assert silent.usages == []
    first = whole.json()["usage"]
    num_prompt, num_text = first["prompt_tokens"], completed.json()["usage"]["prompt_tokens"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    num_cached = again.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert num_cached == num_prompt // 16 * 16 > 90
    assert streamed.usages[0]["prompt_tokens_details"]["cached_tokens"] == num_cached
    text_cached = completed.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    until(lambda: (router.metrics() - before).sum("shoal_router_requests_total") == 8, "all 8")
    counted = router.metrics() - before
    requests = "shoal_router_requests_total"
    assert counted.by(requests, "code") == {"200": 5, "404": 1, "400": 1, "401": 1}
    assert counted.by(requests, "model") == {"fake": 5, "other": 3}
    assert counted.by("shoal_router_tokens_total", "kind") == {
        "prompt": 4 * num_prompt + num_text,
        "cached": 3 * num_cached + text_cached,
        "completion": 5 + 5 + 7 + 3 + 2,
    }
    assert counted.by("shoal_router_tokens_total", "tenant").keys() == {"wonderland"}
    cost = (
        (4 * num_prompt + num_text - 3 * num_cached - text_cached)
        + 0.1 * (3 * num_cached + text_cached)
        + 10.0 * 22
    )
    assert counted.sum("shoal_router_cost_total") == pytest.approx(cost)
    assert counted.sum("shoal_router_decisions_total", endpoint=worker.url) == 5
    assert counted.sum("shoal_router_request_duration_seconds_count") == 8
    assert counted.sum("shoal_router_time_to_first_token_seconds_count") == 5
    assert counted.sum("shoal_router_retries_total") == 0
    # The hint of the router and the truth of the worker: the prompt was there from the second on.
    hits = counted.sum("shoal_router_prefix_hit_estimate_tokens_total")
    assert 0 < hits <= counted.sum("shoal_router_prefix_query_tokens_total")

    logged = {name: router.logged(name) for name in ("whole", "streamed", "silent", "missing")}
    for name, num_completion in (("whole", 5), ("streamed", 7), ("silent", 3)):
        line = logged[name]
        assert line["status"] == 200
        assert (line["method"], line["path"]) == ("POST", CHAT)
        assert (line["tenant"], line["key_id"], line["model"]) == ("wonderland", "alice", "fake")
        assert (line["endpoint"], line["attempts"]) == (worker.url, 1)
        assert (line["prompt_tokens"], line["completion_tokens"]) == (num_prompt, num_completion)
        assert line.get("cached_tokens", 0) == (0 if name == "whole" else num_cached)
        assert 0 < line["ttft_ms"] <= line["duration_ms"]
        assert not {"error", "queue_ms", "failovers"} & line.keys()
    assert logged["whole"]["bytes_in"] == len(whole.request.content)
    assert 0 <= logged["whole"]["bytes_out"] - len(whole.content) < 20  # its chunks' framing
    assert (logged["missing"]["status"], logged["missing"]["error"]) == (404, "model_not_found")
    assert router.logged("broken")["status"] == 400
    assert router.logged("stranger")["error"] == "invalid_api_key"
    # No prompts, no keys.
    assert "word word" not in router.access_log.read_text(encoding="utf-8")
    assert alice not in router.access_log.read_text(encoding="utf-8")

    bill = router.logged("again", router.usage_log)
    assert bill == {
        "ts": bill["ts"], "key_id": "alice", "tenant": "wonderland", "model": "fake",
        "prompt": num_prompt, "cached": num_cached, "completion": 5,
        "cost": pytest.approx(num_prompt - num_cached + 0.1 * num_cached + 50.0),
        "request_id": "again",
    }  # fmt: skip
    assert router.logged("silent", router.usage_log)["completion"] == 3
    billed = [json.loads(line) for line in router.usage_log.read_text().splitlines()]
    assert not {"missing", "broken", "stranger"} & {line["request_id"] for line in billed}

    decisions = {decision["request_id"]: decision for decision in router.decisions(5)}
    assert decisions.keys() == {"whole", "again", "streamed", "silent", "completed"}
    decision = decisions["again"]
    assert (decision["model"], decision["endpoint"]) == ("fake", worker.url)
    assert (decision["policy"], decision["reason"]) == (
        "cost", "least estimated time to first token"
    )  # fmt: skip
    assert decisions["whole"]["num_cached_tokens"] == 0 < decision["num_cached_tokens"]
    [candidate] = decision["candidates"]
    assert candidate["endpoint"] == worker.url
    assert candidate["reasons"]["uncached_tokens"] < num_prompt
