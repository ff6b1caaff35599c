"""The whole fleet: sources, reloads, the admin's verbs, and workers of our own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from shoal.clock import MonotonicClock
from shoal.engine.kv_events import BlockStored, KVEventPublisher
from shoal.errors import ConfigError, InvalidRequest, NotFound
from shoal.router.fleet import fleet as fleet_module
from shoal.router.fleet import roster as roster_module
from shoal.router.fleet.fleet import Fleet
from shoal.router.messages import EndpointRecord, KVBlocks
from shoal.router.prefix_hash import exact_root, token_hashes
from shoal.router.settings.config import RouterConfig
from shoal.router.settings.discovery import DiscoveryConfig, DNSSource, StaticEndpoint
from shoal.router.settings.listen import UpstreamConfig
from shoal.router.settings.protection import HealthConfig
from shoal.router.settings.routing import RoutingConfig
from tests.benchmarks.conftest import fake_worker
from tests.engine.test_kv_events import free_endpoint

from .builders import Told, Worker, config, page, running, until, worker


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_module, "GRACE_S", 0.05)
    monkeypatch.setattr(fleet_module, "LEAVING_TICK_S", 0.01)


@pytest.fixture
async def there() -> AsyncIterator[Worker]:
    async with worker() as made:
        yield made


@pytest.fixture
async def other() -> AsyncIterator[Worker]:
    async with worker() as made:
        yield made


def ready(told: Told, *workers: Worker) -> bool:
    return told.records.keys() == {w.url for w in workers} and all(
        record.status == "ready" for record in told.records.values()
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (config("http://a:port"), "endpoint 1"),
        (config("http://a", "http://me@b"), "endpoint 2"),
        (config(upstream=UpstreamConfig(api_key="$NOT_THERE")), "NOT_THERE"),
        (config(upstream=UpstreamConfig(ca="/not/there.pem")), "/not/there.pem"),
    ],
)
def test_what_is_wrong_is_refused_at_the_start(settings: RouterConfig, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Fleet(settings, print, print, MonotonicClock(), environ={})


async def test_a_reload_changes_only_what_differs(there: Worker, other: Worker) -> None:
    async with running(config(there.url)) as (fleet, told):
        await until(lambda: ready(told, there))
        heavy = StaticEndpoint(url=there.url, weight=3.0, labels={"zone": "a"})
        fleet.update(config(heavy, other.url))
        await until(lambda: ready(told, there, other))
        assert (told.records[there.url].weight, told.records[there.url].labels) == (
            3.0,
            {"zone": "a"},
        )
        fleet.note_in_flight({there.url: 1})
        fleet.update(config(other.url))
        await until(lambda: told.status(there.url) == "draining")
        fleet.note_in_flight({})
        await until(lambda: ready(told, other))
    assert all(history.get(other.url) != "draining" for history in told.history)
    assert there.num_connections == 1


async def test_a_wrong_reload_changes_nothing(there: Worker) -> None:
    async with running(config(there.url)) as (fleet, told):
        await until(lambda: ready(told, there))
        with pytest.raises(ConfigError):
            fleet.update(config("http://a:port"))
        assert [record.endpoint_id for record in fleet.endpoints()] == [there.url]
        assert fleet.endpoints()[0].status == "ready"


async def test_other_health_settings_are_taken_up(there: Worker) -> None:
    async with running(config(there.url)) as (fleet, told):
        await until(lambda: ready(told, there))
        there.answers["/alive"] = (200, b"")
        fleet.update(config(there.url, health=HealthConfig(path="/alive", interval_s=0.05)))
        await until(lambda: there.asked("/alive") > 1)
        assert told.status(there.url) == "ready"


async def test_requests_in_flight_have_a_time_to_end(there: Worker, other: Worker) -> None:
    async with running(config(there.url, other.url, drain_timeout_s=0.1)) as (fleet, told):
        await until(lambda: ready(told, there, other))
        fleet.note_in_flight({there.url: 1})
        fleet.update(config(other.url, drain_timeout_s=0.1))
        await until(lambda: ready(told, other))


async def test_sources_come_and_go_with_a_reload(
    there: Worker, other: Worker, tmp_path: Path
) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text(f"- url: {there.url}\n")
    dns = DNSSource(name="127.0.0.1", port=other.port, labels={"from": "dns"})
    with_file = config(discovery=DiscoveryConfig(file=str(path)))
    with_both = config(discovery=DiscoveryConfig(file=str(path), dns=(dns,)))
    with_dns = config(discovery=DiscoveryConfig(dns=(dns,)))
    async with running(with_file) as (fleet, told):
        await until(lambda: ready(told, there))
        fleet.update(with_both)
        await until(lambda: ready(told, there, other))
        assert told.records[other.url].labels == {"from": "dns"}
        fleet.update(with_dns)
        await until(lambda: ready(told, other))


async def test_one_url_in_two_sources_is_told_once(there: Worker, tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text(f"- url: {there.url}\n  weight: 9\n")
    static = (StaticEndpoint(url=there.url, weight=2.0),)
    settings = config(discovery=DiscoveryConfig(static=static, file=str(path)))
    with capture_logs() as logs:
        async with running(settings) as (fleet, told):
            await until(lambda: ready(told, there))
            await until(lambda: any(log["event"] == "discovery.duplicate" for log in logs))
            assert told.records[there.url].weight == 2.0
            fleet.update(settings)
    assert [log["event"] for log in logs].count("discovery.duplicate") == 1


async def test_the_admins_verbs(there: Worker) -> None:
    async with running(config()) as (fleet, told):
        endpoint_id = fleet.add(StaticEndpoint(url=there.url + "/", name="one"))
        assert endpoint_id == "one"
        await until(lambda: told.status("one") == "ready")
        fleet.drain("one")
        await until(lambda: told.status("one") == "draining")
        fleet.undrain("one")
        await until(lambda: told.status("one") == "ready")
        assert fleet.details()[0].source == "admin"
        fleet.update(config())  # a reload does not take away what the admin added
        fleet.add(StaticEndpoint(url=there.url, name="one", weight=4.0))
        await until(lambda: told.records["one"].weight == 4.0)
        fleet.remove("one")
        await until(lambda: not told.records)


async def test_a_removed_endpoint_stays_away_while_it_is_listed(there: Worker) -> None:
    async with running(config(there.url)) as (fleet, told):
        await until(lambda: ready(told, there))
        fleet.remove(there.url)
        await until(lambda: not told.records)
        fleet.update(config(there.url))
        assert fleet.endpoints() == []
        fleet.add(StaticEndpoint(url=there.url))
        await until(lambda: ready(told, there))


async def test_what_the_admin_gets_wrong() -> None:
    async with running(config()) as (fleet, _):
        with pytest.raises(InvalidRequest):
            fleet.add(StaticEndpoint(url="http://a:port"))
        for verb in (fleet.drain, fleet.undrain, fleet.remove):
            with pytest.raises(NotFound):
                verb("nobody")


async def test_changes_are_told_together(there: Worker) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in range(1, 40)]
    settings = config(*urls, there.url, health=HealthConfig(interval_s=3600))
    async with running(settings) as (_, told):
        await until(lambda: told.status(there.url) == "ready")
        assert len(told.history) <= 3
        assert len(told.records) == 40


async def test_a_fault_of_a_source_ends_nothing_else(
    there: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Any, publish: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(fleet_module.DNSNames, "run", broken)
    static = (StaticEndpoint(url=there.url),)
    settings = config(discovery=DiscoveryConfig(static=static, dns=(DNSSource(name="x"),)))
    with capture_logs() as logs:
        async with running(settings) as (_, told):
            await until(lambda: ready(told, there))
    assert "fleet.task_failed" in [log["event"] for log in logs]


# Workers as processes.


async def test_a_fake_worker_with_kv_events() -> None:
    endpoint, replay = free_endpoint(), free_endpoint()
    options = ("--kv-events-endpoint", endpoint.replace("127.0.0.1", "*"),
               "--kv-events-replay-endpoint", replay, "--ttft", "0", "--itl", "0",
               "--block-size", "4", "--served-model-name", "fish")  # fmt: skip
    prompt = list(range(12))
    expected = set(token_hashes(prompt, 4, exact_root("fish", None)))
    with fake_worker(*options) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            # One prompt before anybody listens: it comes by replay.
            body = {"prompt": prompt, "max_tokens": 1}
            (await client.post("/v1/completions", json=body)).raise_for_status()
            async with running(config(url)) as (fleet, told):
                await until(lambda: told.status(url) == "ready")
                record = told.records[url]
                assert (record.models, record.engine) == (["fish"], "shoal")
                assert record.num_cache_tokens > 0
                assert record.kv_block_size == 4
                await until(lambda: expected <= told.cached(url))
                second = [*prompt, *range(50, 54)]
                body = {"prompt": second, "max_tokens": 1}
                (await client.post("/v1/completions", json=body)).raise_for_status()
                whole = set(token_hashes(second, 4, exact_root("fish", None)))
                await until(lambda: whole <= told.cached(url))
                (snapshot,) = fleet.kv_blocks()
                assert snapshot.cleared
                assert set(snapshot.stored) == told.cached(url)
                detail = fleet.details()[0].kv_events
                assert detail is not None
                assert detail.address == endpoint
                assert (detail.num_gaps, detail.num_missing_parents) == (0, 0)
                off = config(url, routing=RoutingConfig(kv_events="off"))
                fleet.update(off)
                assert told.cached(url) == set()
                await until(lambda: told.records[url].kv_block_size == 0)


async def test_blocks_follow_the_record_they_belong_to(there: Worker) -> None:
    """Listeners take in blocks only of endpoints whose block size they know, and forget them when
    the process is another one."""
    address = free_endpoint()
    publisher = KVEventPublisher(address)
    known: dict[str, tuple[str, int]] = {}
    told: list[tuple[tuple[str, int] | None, KVBlocks]] = []

    def on_change(records: list[EndpointRecord]) -> None:
        known.update({r.endpoint_id: (r.instance, r.kv_block_size) for r in records})

    def on_kv(blocks: KVBlocks) -> None:
        told.append((known.get(blocks.endpoint_id), blocks))

    def publish() -> None:
        number = publisher._next
        event = BlockStored(
            block_hashes=[number], parent_block_hash=None, token_ids=[number, 1], block_size=2,
            lora_id=None, medium="GPU", lora_name=None,
        )  # fmt: skip
        publisher.publish([event], now=float(number))

    def heard(instance: str) -> bool:
        publish()
        return any(identity == (instance, 2) and blocks.stored for identity, blocks in told)

    there.answers["/health"] = (503, b"")
    settings = config(StaticEndpoint(url=there.url, kv_events=address))
    fleet = Fleet(settings, on_change, on_kv, MonotonicClock(), environ={})
    task = asyncio.create_task(fleet.run())
    try:
        await until(lambda: heard("#0"))  # long before it is ready
        there.answers["/metrics"] = (200, page(started=1000.0))
        there.answers["/health"] = (200, b"")
        await until(lambda: heard("1000.00"))
        first = next(blocks for identity, blocks in told if identity == ("1000.00", 2))
        assert first.cleared  # the whole cache, for those who have just forgotten it
        assert len(first.stored) > 0
        assert all(identity is not None and identity[1] == 2 for identity, b in told if b.stored)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        publisher.close()


async def test_a_static_address_of_kv_events(there: Worker) -> None:
    address = free_endpoint()
    port = address.rpartition(":")[2]
    there.answers["/metrics"] = (200, page())
    endpoint = StaticEndpoint(url=there.url, kv_events=f"tcp://*:{port}")
    async with running(config(endpoint)) as (fleet, told):
        await until(lambda: told.status(there.url) == "ready")
        detail = fleet.details()[0].kv_events
        assert detail is not None
        assert (detail.address, detail.replay_address) == (address, None)
        assert told.records[there.url].kv_block_size == 16  # by its metrics
        fleet.update(config(StaticEndpoint(url=there.url, kv_events="nonsense")))
        assert fleet.details()[0].kv_events is None
        assert told.status(there.url) == "ready"


async def test_a_restarted_worker_is_another_instance() -> None:
    health = HealthConfig(interval_s=0.2, scrape_interval_s=0.2)
    with contextlib.ExitStack() as first:
        url = first.enter_context(fake_worker("--served-model-name", "fish"))
        async with running(config(url, health=health)) as (_, told):
            await until(lambda: told.status(url) == "ready")
            before = told.records[url].instance
            first.close()
            await until(lambda: told.status(url) == "unhealthy")
            with fake_worker(
                "--served-model-name", "bird", "--port", url.rpartition(":")[2]
            ) as again:
                assert again == url
                await until(lambda: told.status(url) == "ready")
                assert told.records[url].instance != before
                assert told.records[url].models == ["bird"]
