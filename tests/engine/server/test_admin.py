"""Routes that machines ask."""

from __future__ import annotations

import httpx

import shoal
from shoal.engine.output import Health, KVEventEndpoints
from shoal.metrics import parse_prometheus_text
from tests.engine.server.fake_engine import FakeEngine


async def test_health_follows_the_engine(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    assert (await client.get("/health")).status_code == 200
    engine.health_state = Health(False, "no step for 31 s")
    response = await client.get("/health")
    assert response.status_code == 503
    assert "no step for 31 s" in response.json()["error"]["message"]


async def test_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/ready")).status_code == 200


async def test_version(client: httpx.AsyncClient) -> None:
    assert (await client.get("/version")).json() == {"version": shoal.__version__}


async def test_models(client: httpx.AsyncClient) -> None:
    card = {
        "id": "fake",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "shoal",
        "root": "fake",
        "max_model_len": 1000,
    }
    assert (await client.get("/v1/models")).json() == {"object": "list", "data": [card]}
    assert (await client.get("/v1/models/fake")).json() == card


async def test_openapi_names_the_fields_of_bodies(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    body = paths["/v1/chat/completions"]["post"]["requestBody"]
    properties = body["content"]["application/json"]["schema"]["properties"]
    assert {"messages", "temperature", "stream"} <= set(properties)


async def test_metrics_page_is_readable_before_and_after_loading(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.is_ready = False
    names = {sample.name for sample in parse_prometheus_text((await client.get("/metrics")).text)}
    assert "process_resident_memory_bytes" in names
    assert not any(name.startswith("vllm:") for name in names)
    engine.is_ready = True
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    names = {sample.name for sample in parse_prometheus_text(response.text)}
    assert {"vllm:num_requests_running", "vllm:time_to_first_token_seconds_bucket"} <= names


async def test_routers_learn_where_kv_events_are(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    assert (await client.get("/kv_event_sources")).json()["enable_kv_cache_events"] is False
    engine.kv_event_endpoints = KVEventEndpoints("tcp://*:5557", "tcp://*:5558")
    assert (await client.get("/kv_event_sources")).json() == {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": "tcp://*:5557",
        "replay_endpoint": "tcp://*:5558",
        "topic": "",
        "block_size": 16,
    }


async def test_a_profile_is_started_and_stopped(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    response = await client.post("/start_profile")
    assert response.status_code == 404
    assert "--torch-profiler-dir" in response.json()["error"]["message"]
    engine.trace_path = "/traces/1"
    assert (await client.post("/start_profile")).json() == {"status": "started"}
    assert (await client.post("/stop_profile")).json() == {
        "status": "stopped",
        "path": "/traces/1",
    }
    assert (await client.get("/start_profile")).status_code == 405
