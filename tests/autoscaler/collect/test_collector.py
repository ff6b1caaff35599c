"""Observations out of pages, over HTTP in memory."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from structlog.testing import capture_logs

from shoal.autoscaler.collect.collector import HttpCollector
from shoal.autoscaler.core.observation import Observation, VariantObservation
from shoal.autoscaler.core.spec import ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.target import Replicas
from tests.autoscaler.collect.fleet import ROUTER, FakeRouter, FakeWorker, Fleet

W1, W2 = "http://w1:8000", "http://w2:8000"
GPUS = {"h100": {"gpu": "h100"}, "spot": {"gpu": "spot"}}


class Eye:
    """A collector before a fleet, and the time."""

    def __init__(
        self, fleet: Fleet, *, variants: tuple[str, ...] = ("default",), ready: int = 1
    ) -> None:
        self.fleet = fleet
        self.now = 1000.0
        self.errors: list[float] = []
        self.replicas = {name: Replicas(desired=ready, ready=ready) for name in variants}
        spec = ScalingSpec(
            slo=SloSpec(ttft_s=1.0), variants=tuple(VariantSpec(name=name) for name in variants)
        )
        self.collector = HttpCollector(
            ScalingPolicy(model="m", spec=spec),
            fleet.client(),
            router_urls=tuple(fleet.routers),
            router_key="sk-admin",
            endpoint_labels=GPUS if len(variants) > 1 else None,
            timeout_s=1.0,
            on_error=lambda: self.errors.append(self.now),
        )

    async def look(self, after_s: float = 5.0) -> Observation:
        self.now += after_s
        return await self.collector.observe(self.replicas, self.now)


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.workers[W1] = FakeWorker()
    return fleet


def only(observation: Observation) -> VariantObservation:
    [variant] = observation.variants
    return variant


async def test_the_first_look_knows_the_moment_and_no_rate(fleet: Fleet) -> None:
    fleet.router.arrivals, fleet.router.held = 10_000, 2
    eye = Eye(fleet)
    observation = await eye.look()
    assert observation.arrivals is None
    assert (observation.queued, observation.held) == (0, 2)
    assert only(observation) == VariantObservation(name="default", desired=1, ready=1)


async def test_an_interval_with_a_worker(fleet: Fleet) -> None:
    eye = Eye(fleet)
    router, worker = fleet.router, fleet.workers[W1]
    router.arrivals, worker.prompt, worker.generated = 500, 90_000, 7_000
    worker.first_tokens = {"0.5": 100, "1.0": 100, "+Inf": 100}
    await eye.look()
    router.arrivals, router.queued = 520, 3
    router.first_tokens = {"0.5": 2, "1.0": 4, "+Inf": 4}
    worker.prompt, worker.cached, worker.generated = 100_000, 2_000, 9_000
    worker.finished, worker.gap_seconds = 10, 40.0
    worker.running, worker.waiting, worker.kv_usage = 9, 2, 0.5
    worker.first_tokens = {"0.5": 110, "1.0": 116, "+Inf": 116}
    observation = await eye.look(5.0)
    assert observation == Observation(
        interval_s=5.0, arrivals=20, input_tokens=round(20 * 8000 / 16), output_tokens=2000,
        queued=3, held=0,
        variants=(
            VariantObservation(
                name="default", desired=1, ready=1, num_running=8.0, num_waiting=2.0, kv_usage=0.5,
                input_tokens_per_s=1600.0, output_tokens_per_s=400.0, tpot_s=40 / (2000 - 16),
                num_first_tokens=16, num_in_time=16, num_finished=10,
            ),
        ),
    )  # fmt: skip


async def test_what_a_worker_does_not_see_of_the_wait_lowers_the_share_in_time(
    fleet: Fleet,
) -> None:
    eye = Eye(fleet)
    await eye.look()
    fleet.workers[W1].first_tokens = {"1.0": 40, "+Inf": 40}
    fleet.router.first_tokens = {"1.0": 15, "+Inf": 20}
    seen = only(await eye.look())
    assert (seen.num_first_tokens, seen.num_in_time) == (40, 30)


async def test_a_limit_between_two_edges_of_the_workers_is_judged_by_the_router(
    fleet: Fleet,
) -> None:
    eye = Eye(fleet)
    await eye.look()
    fleet.workers[W1].first_tokens = {"0.75": 0, "2.5": 40, "+Inf": 40}
    fleet.router.first_tokens = {"1.0": 18, "1.25": 20, "+Inf": 20}
    seen = only(await eye.look())
    assert (seen.num_first_tokens, seen.num_in_time) == (40, 36)
    fleet.workers[W1].first_tokens = {"0.75": 0, "2.5": 80, "+Inf": 80}
    seen = only(await eye.look())  # nobody streams: no worker is blamed for what it may have kept
    assert (seen.num_first_tokens, seen.num_in_time) == (40, 40)


async def test_a_worker_that_measures_no_first_tokens_has_the_routers(fleet: Fleet) -> None:
    eye = Eye(fleet)
    await eye.look()
    fleet.router.first_tokens = {"1.0": 15, "+Inf": 20}
    seen = only(await eye.look())
    assert (seen.num_first_tokens, seen.num_in_time) == (20, 15)


async def test_a_router_that_is_away_is_no_data_and_its_return_no_burst(fleet: Fleet) -> None:
    eye = Eye(fleet)
    await eye.look()
    fleet.router.arrivals = 50
    assert (await eye.look()).arrivals == 50
    fleet.router.fails = True
    away = await eye.look()
    assert (away.arrivals, away.queued, away.held, away.input_tokens) == (None, None, None, None)
    assert only(away).num_running is not None, "workers are known from before"
    fleet.router.fails, fleet.router.arrivals = False, 150
    assert (await eye.look(5.0)).arrivals == 50, "100 in 10 s"


@pytest.mark.parametrize(("before", "after", "grown"), [(1000, 5, 5), (1000, 1010, 10)])
async def test_a_router_that_was_restarted(
    fleet: Fleet, before: int, after: int, grown: int
) -> None:
    eye = Eye(fleet)
    fleet.router.arrivals = before
    await eye.look()
    fleet.router.arrivals = after
    assert (await eye.look()).arrivals == grown


async def test_a_worker_that_was_restarted_counts_from_its_start(fleet: Fleet) -> None:
    eye = Eye(fleet)
    worker = fleet.workers[W1]
    worker.generated, worker.prompt = 100, 100
    await eye.look()
    worker.started, worker.generated, worker.prompt = 2.0, 200, 150  # more than before: a new one
    seen = only(await eye.look())
    assert (seen.output_tokens_per_s, seen.input_tokens_per_s) == (40.0, 30.0)


async def test_a_worker_that_is_new_brings_no_lifetime_of_tokens(fleet: Fleet) -> None:
    eye = Eye(fleet, ready=2)
    await eye.look()
    fleet.workers[W1].generated = 500
    fleet.workers[W2] = FakeWorker(generated=10**9)
    seen = only(await eye.look())
    assert seen.output_tokens_per_s == 200.0, "the new one is taken to be like the other"
    fleet.workers[W1].generated += 500
    fleet.workers[W2].generated += 250
    assert only(await eye.look()).output_tokens_per_s == 150.0


async def test_a_worker_that_does_not_answer_is_taken_for_the_mean_of_the_others(
    fleet: Fleet,
) -> None:
    fleet.workers[W2] = FakeWorker()
    eye = Eye(fleet, ready=2)
    await eye.look()
    fleet.workers[W1].generated, fleet.workers[W2].fails = 500, True
    assert only(await eye.look()).output_tokens_per_s == 200.0
    fleet.workers[W1].fails = True
    assert only(await eye.look()).output_tokens_per_s is None


async def test_one_that_drains_finishes_but_is_no_ready_replica(fleet: Fleet) -> None:
    fleet.workers[W2] = FakeWorker(status="draining")
    eye = Eye(fleet)
    await eye.look()
    for worker in fleet.workers.values():
        worker.generated, worker.finished = 500, 5
        worker.first_tokens = {"1.0": 1, "+Inf": 1}
    observation = await eye.look()
    assert observation.output_tokens == 1000
    seen = only(observation)
    assert (seen.output_tokens_per_s, seen.num_finished, seen.num_first_tokens) == (100.0, 10, 2)


async def test_other_models_and_endpoints_that_are_down_are_left_alone(fleet: Fleet) -> None:
    fleet.workers[W2] = FakeWorker(models=("other",), generated=1)
    fleet.workers["http://down:1"] = FakeWorker(status="unhealthy")
    eye = Eye(fleet)
    await eye.look()
    for worker in fleet.workers.values():
        worker.generated = 500
    assert only(await eye.look()).output_tokens_per_s == 100.0
    assert set(fleet.keys) == {"router", "w1"}


async def test_the_key_goes_to_the_router_and_not_to_workers(fleet: Fleet) -> None:
    await Eye(fleet).look()
    assert fleet.keys == {"router": "Bearer sk-admin", "w1": None}


async def test_variants_are_told_by_labels(fleet: Fleet) -> None:
    fleet.workers = {
        W1: FakeWorker(labels={"gpu": "h100", "zone": "a"}),
        W2: FakeWorker(labels={"gpu": "spot"}),
    }
    eye = Eye(fleet, variants=("h100", "spot"))
    await eye.look()
    fleet.workers[W1].generated, fleet.workers[W2].generated = 500, 50
    for worker in fleet.workers.values():
        worker.first_tokens = {"1.0": 9, "+Inf": 10}
    fleet.router.first_tokens = {"1.0": 8, "+Inf": 10}
    h100, spot = (await eye.look()).variants
    assert (h100.output_tokens_per_s, spot.output_tokens_per_s) == (100.0, 10.0)
    assert [h100.num_in_time, spot.num_in_time] == [8, 8], "a wait at the router is everybody's"


async def test_routers_add_up(fleet: Fleet) -> None:
    other = fleet.routers["http://router-2:8081"] = FakeRouter()
    eye = Eye(fleet)
    await eye.look()
    fleet.router.arrivals, other.arrivals = 10, 5
    fleet.router.held, other.held, other.queued = 1, 2, 4
    observation = await eye.look()
    assert (observation.arrivals, observation.held, observation.queued) == (15, 3, 4)
    other.fails, fleet.router.arrivals = True, 20
    observation = await eye.look()
    assert observation.arrivals is None, "what comes in there is not known"
    assert observation.held == 1
    fleet.router.arrivals = 180
    assert (await eye.look(60.0)).arrivals == 160, "by now nobody asks there any more"
    other.fails, fleet.router.arrivals, other.arrivals = False, 190, 75
    assert (await eye.look(5.0)).arrivals == 10 + round(70 / 70 * 5)


async def test_an_old_page_out_of_a_cache_is_none(fleet: Fleet) -> None:
    eye = Eye(fleet)
    await eye.look()
    fleet.workers[W1].age = "30"
    assert only(await eye.look()).num_running is None


async def test_what_is_no_metrics_page_is_none(fleet: Fleet) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>hello</html>")

    eye = Eye(fleet)
    eye.collector._client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    observation = await eye.look()
    assert (observation.arrivals, observation.held) == (None, None)
    assert len(eye.errors) == 2


async def test_trouble_is_told_once_and_so_is_its_end(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    eye = Eye(fleet)
    fleet.workers[W1].fails = True
    for _ in range(3):
        await eye.look()
    fleet.workers[W1].fails = False
    await eye.look()
    said = capsys.readouterr().out
    assert said.count("sources.unavailable") == 1
    assert said.count("sources.back") == 1
    assert len(eye.errors) == 3


async def test_held_demand_is_told_at_once(fleet: Fleet) -> None:
    fleet.routers["http://router-2:8081"] = FakeRouter()
    eye = Eye(fleet)
    asking = asyncio.create_task(eye.collector.held(30.0))
    fleet.router.held = 2
    fleet.router.demand.set()
    async with asyncio.timeout(5):
        assert await asking == 2


async def test_no_demand_and_no_router_are_zero_held(fleet: Fleet) -> None:
    eye = Eye(fleet)
    assert await eye.collector.held(0.01) == 0
    fleet.router.fails = True
    assert await eye.collector.held(30.0) == 0


async def test_a_look_right_after_another_divides_by_no_zero(fleet: Fleet) -> None:
    eye = Eye(fleet)
    await eye.look()
    fleet.router.arrivals = 3
    observation = await eye.look(0.0)
    assert observation.arrivals is None
    assert observation.interval_s > 0
    assert (await eye.look(5.0)).arrivals == 3


async def test_a_slash_at_the_end_of_an_address_and_no_key(fleet: Fleet) -> None:
    fleet.routers = {ROUTER: FakeRouter()}
    collector = HttpCollector(
        ScalingPolicy(model="m"), fleet.client(), router_urls=(f"{ROUTER}/",), timeout_s=1.0
    )
    observation = await collector.observe({"default": Replicas(desired=0, ready=0)}, 1.0)
    assert observation.held == 0
    assert fleet.keys["router"] is None


async def test_trouble_of_many_is_one_line(fleet: Fleet) -> None:
    fleet.workers = {f"http://w{i}:8000": FakeWorker(fails=True) for i in range(50)}
    eye = Eye(fleet)
    with capture_logs() as logs:
        await eye.look()
        assert logs == [], "once may be a start, or chance"
        await eye.look()
    [line] = logs
    assert (line["event"], line["num"]) == ("sources.unavailable", 50)
    assert len(str(line)) < 400
