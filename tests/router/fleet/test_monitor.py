"""One endpoint watched, against a worker whose answers are ours to set."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from shoal.router.settings.discovery import StaticEndpoint
from shoal.router.settings.listen import UpstreamConfig
from shoal.router.settings.protection import HealthConfig

from .builders import Worker, config, models, page, running, until, worker


@pytest.fixture
async def there() -> AsyncIterator[Worker]:
    async with worker() as made:
        yield made


async def test_a_worker_is_ready_with_what_it_serves_and_its_numbers(there: Worker) -> None:
    there.answers["/v1/models"] = (200, models("llama", adapters=("sql",)))
    there.answers["/metrics"] = (200, page(running=2))
    async with running(config(there.url)) as (_, told):
        await until(lambda: told.status(there.url) == "ready")
        record = told.records[there.url]
        assert record.models == ["llama", "sql"]
        assert record.adapters == ["sql"]
        assert record.engine == "vllm"
        assert (record.num_requests_running, record.num_requests_waiting) == (2, 3)
        assert (record.kv_cache_usage, record.num_cache_tokens) == (0.25, 1600)
        assert record.scraped_age_s is not None
        assert record.kv_block_size == 0
        there.answers["/metrics"] = (200, page(running=4))
        await until(lambda: told.records[there.url].num_requests_running == 4)
    assert all(len(statuses) == 1 for statuses in told.history)


async def test_nobody_is_ready_before_it_tells_its_models(there: Worker) -> None:
    there.answers["/v1/models"] = (503, b"loading")
    async with running(config(there.url)) as (fleet, told):
        await until(lambda: there.asked("/v1/models") > 2)
        assert told.status(there.url) == "starting"
        there.answers["/v1/models"] = (200, b'{"data": []}')
        await until(lambda: fleet.details()[0].last_error == "/v1/models lists no model")
        there.answers["/v1/models"] = (200, models("m"))
        await until(lambda: told.status(there.url) == "ready")
    assert [h[there.url] for h in told.history].count("ready") >= 1
    assert all(record.models == ["m"] for record in told.records.values())


async def test_models_that_are_configured_need_no_list(there: Worker) -> None:
    there.answers["/v1/models"] = (404, b"")
    endpoint = StaticEndpoint(url=there.url, models=("mine",), engine="openai")
    async with running(config(endpoint)) as (_, told):
        await until(lambda: told.status(there.url) == "ready")
        assert told.records[there.url].models == ["mine"]
        assert told.records[there.url].scraped_age_s is None


async def test_a_starting_worker_stays_starting(there: Worker) -> None:
    there.answers["/health"] = (503, b"")
    async with running(config(there.url)) as (fleet, told):
        await until(lambda: there.asked("/health") > 4)
        assert told.status(there.url) == "starting"
        assert fleet.details()[0].last_error == "/health answered 503"
        there.answers["/health"] = (200, b"")
        await until(lambda: told.status(there.url) == "ready")


@pytest.mark.parametrize("trouble", ["503", "silence", "killed"])
async def test_a_worker_in_trouble_and_back(there: Worker, trouble: str) -> None:
    settings = config(there.url, health=HealthConfig(interval_s=0.05, timeout_s=0.05))
    async with running(settings) as (_, told):
        await until(lambda: told.status(there.url) == "ready")
        if trouble == "503":
            there.answers["/health"] = (503, b"")
        elif trouble == "silence":
            there.is_silent = True
        else:
            await there.stop()
        await until(lambda: told.status(there.url) == "unhealthy")
        there.answers["/health"] = (200, b"")
        there.is_silent = False
        if trouble == "killed":
            await there.start()
        await until(lambda: told.status(there.url) == "ready")


async def test_a_broken_connection_is_looked_into_at_once(there: Worker) -> None:
    """Long before the next probe is due."""
    settings = config(there.url, health=HealthConfig(interval_s=3600))
    async with running(settings) as (_, told):
        await until(lambda: told.status(there.url) == "ready")
        await there.stop()
        await until(lambda: told.status(there.url) == "unhealthy")


async def test_a_restarted_worker_is_another_instance_with_other_models(there: Worker) -> None:
    there.answers["/metrics"] = (200, page(started=1000.0))
    async with running(config(there.url)) as (_, told):
        await until(lambda: told.status(there.url) == "ready")
        before = told.records[there.url].instance
        await there.stop()
        await until(lambda: told.status(there.url) == "unhealthy")
        there.answers["/metrics"] = (200, page(started=2000.0))
        there.answers["/v1/models"] = (200, models("other"))
        await there.start()
        await until(lambda: told.status(there.url) == "ready")
        assert told.records[there.url].instance != before
        assert told.records[there.url].models == ["other"]


async def test_a_restart_between_two_probes_is_noticed(there: Worker) -> None:
    there.answers["/metrics"] = (200, page(started=None, generated=10.0))
    async with running(config(there.url)) as (_, told):
        await until(lambda: told.status(there.url) == "ready")
        before = told.records[there.url].instance
        there.answers["/metrics"] = (200, page(started=None, generated=20.0))
        asked = there.asked("/metrics")
        await until(lambda: there.asked("/metrics") > asked + 2)
        assert told.records[there.url].instance == before
        there.answers["/metrics"] = (200, page(started=None, generated=1.0))
        await until(lambda: told.records[there.url].instance != before)


async def test_a_worker_without_metrics_that_was_gone_is_another_instance(there: Worker) -> None:
    async with running(config(there.url)) as (_, told):
        await until(lambda: told.status(there.url) == "ready")
        before = told.records[there.url].instance
        await there.stop()
        await until(lambda: told.status(there.url) == "unhealthy")
        await there.start()
        await until(lambda: told.status(there.url) == "ready")
        assert told.records[there.url].instance != before


@pytest.mark.parametrize(
    ("answers", "engine"),
    [
        ({"/server_info": (200, b"{}")}, "sglang"),
        ({"/metrics": (200, b"# x\nsglang:token_usage 0.5\n")}, "sglang"),
        ({"/metrics": (200, page())}, "vllm"),
        ({"/version": (200, b"{}")}, "vllm"),
        ({}, "openai"),
    ],
)
async def test_the_engine_of_a_worker_whose_owner_is_unknown(
    there: Worker, answers: dict[str, tuple[int, bytes]], engine: str
) -> None:
    there.answers.update({"/v1/models": (200, models("m", owned_by="acme")), **answers})
    async with running(config(there.url)) as (_, told):
        await until(lambda: told.status(there.url) == "ready")
        assert told.records[there.url].engine == engine


async def test_our_key_is_shown(there: Worker) -> None:
    settings = config(there.url, upstream=UpstreamConfig(api_key="$KEY"))
    async with running(settings, KEY="secret") as (_, told):
        await until(lambda: told.status(there.url) == "ready")
    keys = {path: headers.get("authorization") for path, headers in there.requests}
    assert keys["/health"] == keys["/v1/models"] == keys["/metrics"] == "Bearer secret"


async def test_a_worker_that_wants_a_key_says_which_setting_is_missing(there: Worker) -> None:
    there.answers["/v1/models"] = (401, b"")
    with capture_logs() as logs:
        async with running(config(there.url)) as (fleet, _):
            await until(lambda: there.asked("/v1/models") > 2)
            assert "upstream.api_key" in (fleet.details()[0].last_error or "")
    assert [log["event"] for log in logs].count("endpoint.starting") == 1


async def test_a_wrong_health_path_is_named(there: Worker) -> None:
    settings = config(there.url, health=HealthConfig(path="/healthz", interval_s=0.05))
    async with running(settings) as (fleet, _):
        await until(lambda: there.asked("/healthz"))
        await until(lambda: fleet.details()[0].last_error)
        assert fleet.details()[0].last_error == (
            "/healthz answered 404; health.path may name another"
        )
