"""What /metrics says after requests."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry

from shoal import metrics as names
from shoal.engine.output import RequestOutput
from shoal.engine.server.metrics import RequestMetrics, RequestObserver
from shoal.errors import QueueFull
from shoal.metrics import parse_prometheus_text
from tests.engine.server.fake_engine import FakeEngine


async def scrape(client: httpx.AsyncClient) -> dict[str, float]:
    """Samples by name, with the label that tells several of them apart."""
    samples = {}
    for sample in parse_prometheus_text((await client.get("/metrics")).text):
        if sample.name.startswith(("vllm:", "shoal:")):
            assert sample.labels.pop("model_name") == "fake"
            assert sample.labels.pop("engine") == "0"
            key = sample.labels.get("finished_reason") or sample.labels.get("reason")
            samples[f"{sample.name} {key}" if key else sample.name] = sample.value
    return samples


async def test_engine_numbers_are_read_at_the_scrape(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.running.add("x")
    samples = await scrape(client)
    assert samples[names.NUM_REQUESTS_RUNNING] == 1
    assert samples[names.PREFIX_CACHE_QUERIES] == 10
    assert samples[names.PREFIX_CACHE_HITS] == 4
    assert samples[names.EXTERNAL_PREFIX_CACHE_QUERIES] == 6
    assert samples[names.EXTERNAL_PREFIX_CACHE_HITS] == 2
    assert samples[names.HOST_CACHE_USAGE] == 0.25
    assert samples["shoal:scheduler_decisions_total no_blocks"] == 3
    assert samples[names.CACHE_CONFIG_INFO] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_counted(client: httpx.AsyncClient, stream: bool) -> None:
    body = {"prompt": "hi", "max_tokens": 5, "n": 2, "stream": stream}
    await client.post("/v1/completions", json=body)
    samples = await scrape(client)
    assert samples[names.PROMPT_TOKENS] == 4
    assert samples[names.GENERATION_TOKENS] == 10
    assert samples["vllm:request_success_total length"] == 2
    assert samples[f"{names.TIME_TO_FIRST_TOKEN}_count"] == 2
    assert samples[f"{names.INTER_TOKEN_LATENCY}_count"] == 8
    assert samples[f"{names.E2E_REQUEST_LATENCY}_count"] == 2
    assert samples[f"{names.REQUEST_QUEUE_TIME}_sum"] == 0.5
    assert samples[f"{names.REQUEST_PROMPT_TOKENS}_sum"] == 4
    assert samples[f"{names.REQUEST_GENERATION_TOKENS}_sum"] == 10
    assert samples[f"{names.REQUEST_PARAMS_MAX_TOKENS}_sum"] == 10
    assert samples[f"{names.REQUEST_PARAMS_N}_sum"] == 2


async def test_a_refusal_is_an_error_not_a_success(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.error = QueueFull("full")
    await client.post("/v1/completions", json={"prompt": "hi"})
    samples = await scrape(client)
    assert samples["vllm:request_success_total error"] == 1
    assert samples[f"{names.E2E_REQUEST_LATENCY}_count"] == 0


def test_times_are_taken_between_outputs() -> None:
    now = 10.0
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry, model_name="m", max_model_len=100)
    observer = RequestObserver(
        metrics, num_prompt_tokens=3, max_tokens=9, arrival_time=9.0, now=lambda: now
    )
    observer.output(RequestOutput(text="", token_ids=[1], queue_s=0.5))
    now = 12.0
    observer.output(RequestOutput(text="ab", token_ids=[2, 3]))
    now = 15.0
    observer.output(RequestOutput(text="c", token_ids=[4, 5], finish_reason="stop"))
    observer.end()

    def total(name: str) -> float | None:
        return registry.get_sample_value(f"{name}_sum", {"model_name": "m", "engine": "0"})

    assert total(names.TIME_TO_FIRST_TOKEN) == 1.0
    assert total(names.INTER_TOKEN_LATENCY) == 2.0 + 3.0
    assert total(names.TIME_PER_OUTPUT_TOKEN) == 5.0 / 4
    assert total(names.E2E_REQUEST_LATENCY) == 6.0
