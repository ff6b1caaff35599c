from __future__ import annotations

from collections import Counter
from math import inf
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from shoal.router.core.flow_queue import GUARD_SHARE, Band, FlowQueue, Queued, Shed

FAST = Band("fast", 0, max_queued=4, deadline_s=10.0)
SLOW = Band("slow", 100, max_queued=1000, deadline_s=100.0)


def make_queue(*bands: Band, **bounds: Any) -> FlowQueue[str]:
    return FlowQueue(bands or (FAST, SLOW), **bounds)


def offer(queue: FlowQueue[str], ticket: str, **request: Any) -> Queued | Shed:
    return queue.offer(
        ticket,
        **{"tenant": "t", "tokens": 100, "band": "slow", "model": "m", "now": 0.0, **request},
    )


def anything(ticket: str) -> bool:
    return True


def take_all(queue: FlowQueue[str], now: float = 0.0) -> list[str]:
    taken = []
    while (ticket := queue.take(now, anything)) is not None:
        taken.append(ticket)
    return taken


def test_queued_says_where_and_how_long() -> None:
    queue = make_queue()
    assert offer(queue, "x", now=5.0) == Queued("slow", 0, 105.0)
    assert offer(queue, "y", now=5.0, deadline=6.0) == Queued("slow", 1, 6.0)
    assert offer(queue, "z", now=5.0, deadline=1e9) == Queued("slow", 2, 105.0)
    assert len(queue) == 3
    assert "x" in queue
    assert queue.waits_for("m")
    assert not queue.waits_for("n")


def test_a_full_band_sheds_with_the_time_it_takes_to_drain() -> None:
    queue = make_queue()
    for i in range(4):
        offer(queue, f"x{i}", band="fast")
    assert offer(queue, "y", band="fast") == Shed(429, "band_full", 5.0)  # nothing known yet
    for i in range(40):  # one leaves every two seconds
        assert queue.take(2.0 * i, anything) is not None
        offer(queue, f"w{i}", band="fast", now=2.0 * i)
    assert isinstance(offer(queue, "z", band="slow"), Queued)
    shed = offer(queue, "y", band="fast", now=80.0)
    assert isinstance(shed, Shed)
    assert shed.retry_after_s == pytest.approx(8.0, rel=0.15)
    assert queue.retry_after_s("fast", 80.0) == pytest.approx(10.0, rel=0.15)


def test_a_band_of_no_length_never_queues() -> None:
    queue = make_queue(Band("now-or-never", 0, max_queued=0))
    assert offer(queue, "x", band="now-or-never") == Shed(429, "band_full", 5.0)


def test_the_higher_band_goes_first() -> None:
    queue = make_queue()
    offer(queue, "s", band="slow")
    offer(queue, "f", band="fast", now=1.0)
    assert take_all(queue) == ["f", "s"]
    assert queue.take(0.0, anything) is None


def test_the_lower_band_goes_while_the_higher_cannot() -> None:
    queue = make_queue()
    offer(queue, "f", band="fast", model="full")
    offer(queue, "s", band="slow", model="free")
    offer(queue, "s2", band="slow", model="full")
    can_run = {"s"}.__contains__
    assert queue.take(0.0, can_run) == "s"
    assert queue.take(0.0, can_run) is None
    assert take_all(queue) == ["f", "s2"]


def share_of_slow(queue: FlowQueue[str], num_taken: int) -> float:
    """With both bands never empty."""
    taken: Counter[str] = Counter()
    for i in range(num_taken):
        offer(queue, f"fast{i}", band="fast", tokens=100 + i % 7)
        offer(queue, f"slow{i}", band="slow", tokens=100 + i % 5)
        ticket = queue.take(0.0, anything)
        assert ticket is not None
        taken[ticket[:4]] += 1
    return taken["slow"] / num_taken


def test_a_lower_band_never_starves() -> None:
    queue = make_queue()
    offer(queue, "f", band="fast")
    assert share_of_slow(queue, 900) == pytest.approx(GUARD_SHARE, abs=0.01)


def test_what_a_band_got_while_nobody_above_waited_is_not_held_against_it() -> None:
    queue = make_queue()
    for i in range(500):
        offer(queue, f"x{i}", band="slow")
    assert len(take_all(queue)) == 500
    assert share_of_slow(queue, 400) == pytest.approx(GUARD_SHARE, abs=0.015)


def test_a_band_that_cannot_run_does_not_gather_a_claim_without_bound() -> None:
    queue = make_queue(Band("fast", 0, 10_000), SLOW)
    offer(queue, "blocked", band="slow", model="full", deadline=1e9)
    for i in range(2000):
        offer(queue, f"x{i}", band="fast", tokens=10_000)
    while queue.take(0.0, lambda ticket: ticket != "blocked"):
        pass
    for i in range(100):
        offer(queue, f"f{i}", band="fast", tokens=1000)
        offer(queue, f"s{i}", band="slow", tokens=1000)
    first = [queue.take(0.0, lambda ticket: ticket != "blocked") for _ in range(100)]
    # 65,536 tokens and its twentieth of the rest: 67. A million would have been all hundred.
    assert sum(str(ticket).startswith("s") for ticket in first) == 67


def test_a_request_larger_than_any_claim_has_its_turn_too() -> None:
    queue = make_queue(Band("fast", 0, 10_000), SLOW)
    offer(queue, "large", band="slow", tokens=200_000)
    for i in range(2000):
        offer(queue, f"x{i}", band="fast", tokens=1000)
    taken = [queue.take(0.0, anything) for _ in range(2001)]
    assert taken.index("large") == 1311  # a twentieth of 1,311,000 tokens


def test_what_waits_is_counted_by_model_and_what_is_held_apart_from_it() -> None:
    queue = make_queue()
    offer(queue, "a", model="x")
    offer(queue, "b", model="x")
    offer(queue, "c", model="y", hold=True)
    assert (queue.queued(), queue.held()) == ({"x": 2}, {"y": 1})
    queue.release("y")
    queue.cancel("a")
    assert (queue.queued(), queue.held()) == ({"x": 1, "y": 1}, {})


def test_three_bands_keep_their_order() -> None:
    queue = make_queue(Band("c", 30), Band("a", 10), Band("b", 20))
    for band in "cba":
        offer(queue, band, band=band)
    assert take_all(queue) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("priority", "band"), [(-5, "fast"), (0, "fast"), (1, "slow"), (100, "slow"), (101, "slow")]
)
def test_the_band_of_a_priority(priority: int, band: str) -> None:
    assert make_queue().band_of(priority) == band


def test_what_waited_too_long_is_taken_out_once() -> None:
    queue = make_queue()
    offer(queue, "a", deadline=3.0)
    offer(queue, "b", deadline=2.0)
    offer(queue, "c", deadline=9.0)
    assert queue.expire(1.9) == []
    assert queue.expire(3.0) == [
        ("b", Shed(503, "deadline", 5.0)),
        ("a", Shed(503, "deadline", 5.0)),
    ]
    assert queue.expire(3.0) == []
    assert take_all(queue) == ["c"]


def test_expiring_everything_before_a_new_queue_takes_over() -> None:
    queue = make_queue()
    offer(queue, "a")
    offer(queue, "b", hold=True)
    assert sorted(ticket for ticket, _ in queue.expire(inf)) == ["a", "b"]


def test_drain_keeps_the_order_of_arrival() -> None:
    queue = make_queue()
    offer(queue, "a")
    offer(queue, "b", band="fast")
    offer(queue, "c", hold=True)
    assert queue.drain() == ["a", "b", "c"]
    assert len(queue) == 0


def test_cancel() -> None:
    queue = make_queue()
    offer(queue, "a")
    assert queue.cancel("a")
    assert not queue.cancel("a")
    assert queue.take(0.0, anything) is None
    assert isinstance(offer(queue, "a"), Queued)  # the same name again is another ticket


def test_deadlines_of_those_long_gone_are_not_kept() -> None:
    queue = make_queue()
    for i in range(5000):
        offer(queue, f"x{i}")
        queue.take(0.0, anything)
    assert len(queue._deadlines) < 100


def test_held_requests_are_the_demand_of_a_model_without_endpoint() -> None:
    queue = make_queue(max_held=2, hold_s=60.0)
    assert offer(queue, "a", hold=True, band="fast") == Queued("fast", 0, 60.0)
    offer(queue, "b", hold=True, model="n")
    offer(queue, "c", hold=True)
    assert queue.held() == {"m": 2, "n": 1}
    assert queue.depth(0.0)["fast"].num_queued == 0
    assert offer(queue, "d", hold=True) == Shed(429, "model_full", 5.0)
    assert isinstance(offer(queue, "e", hold=True, model="n"), Queued)
    assert queue.expire(60.0)[0] == ("a", Shed(503, "no_endpoint", 5.0))
    assert queue.held() == {}


def test_released_they_wait_like_all_others_in_the_order_of_their_bands() -> None:
    queue = make_queue()
    offer(queue, "late", hold=True, band="slow")
    offer(queue, "first", hold=True, band="fast")
    offer(queue, "other", hold=True, model="n")
    queue.release("m")
    queue.release("unknown")
    assert queue.held() == {"n": 1}
    assert queue.depth(0.0)["fast"].num_queued == 1
    assert [queue.take(0.0, lambda ticket: ticket != "other") for _ in range(3)] == [
        "first", "late", None,
    ]  # fmt: skip


def test_figures_for_metrics() -> None:
    queue = make_queue()
    offer(queue, "a", tenant="x", now=1.0)
    offer(queue, "b", tenant="y", tokens=50, now=2.0)
    offer(queue, "c", tenant="y", tokens=0, now=2.0)  # counts as one
    depth = queue.depth(3.0)["slow"]
    assert depth == (3, 151, {"x": 1, "y": 2}, 0.0)


@pytest.mark.parametrize(
    ("bands", "word"),
    [
        ((), "at least one band"),
        ((Band("a", 0), Band("a", 1)), "one name"),
        ((Band("a", 0), Band("b", 0)), "one priority"),
        ((Band("a", 0, max_queued=-1),), "max_queued"),
        ((Band("a", 0, deadline_s=0.0),), "deadline_s"),
    ],
)
def test_settings_are_checked(bands: tuple[Band, ...], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        FlowQueue(bands)


class EveryTicketEndsOnce(RuleBasedStateMachine):
    """Whatever happens: no ticket is lost, none comes twice, and the counts are true."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.queue = make_queue(Band("fast", 0, 5, 3.0), Band("slow", 9, 8, 9.0), max_held=4)
        self.now = 0.0
        self.waiting: dict[str, tuple[str, str, str, bool]] = {}
        self.number = 0

    @rule(
        target=tickets,
        tenant=st.sampled_from("xyz"),
        tokens=st.integers(0, 1000),
        band=st.sampled_from(["fast", "slow"]),
        model=st.sampled_from("mno"),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
        hold=st.booleans(),
        patience_s=st.none() | st.floats(0, 5),
    )
    def offer(
        self, tenant: str, tokens: int, band: str, model: str, weight: float,
        hold: bool, patience_s: float | None,
    ) -> str:  # fmt: skip
        self.number += 1
        ticket = str(self.number)
        in_band = sum(b == band and not h for _, b, _, h in self.waiting.values())
        for_model = sum(m == model and h for m, _, _, h in self.waiting.values())
        verdict = self.queue.offer(
            ticket, tenant=tenant, tokens=tokens, band=band, model=model, now=self.now,
            weight=weight, hold=hold,
            deadline=None if patience_s is None else self.now + patience_s,
        )  # fmt: skip
        is_full = for_model >= 4 if hold else in_band >= {"fast": 5, "slow": 8}[band]
        assert isinstance(verdict, Shed) == is_full
        if not is_full:
            self.waiting[ticket] = (model, band, tenant, hold)
        return ticket

    @rule(runnable=st.sets(st.sampled_from("mno")))
    def take(self, runnable: set[str]) -> None:
        ticket = self.queue.take(self.now, lambda t: self.waiting[t][0] in runnable)
        can_run = [t for t, (model, *_) in self.waiting.items() if model in runnable]
        if ticket is None:
            assert not can_run
        else:
            assert ticket in can_run
            model, band, tenant, _ = self.waiting.pop(ticket)
            # First come, first served within a tenant, model and band.
            before = [
                t for t, (m, b, n, _) in self.waiting.items()
                if (m, b, n) == (model, band, tenant) and int(t) < int(ticket)
            ]  # fmt: skip
            assert not before

    @rule(ticket=consumes(tickets))
    def cancel(self, ticket: str) -> None:
        assert self.queue.cancel(ticket) == (self.waiting.pop(ticket, None) is not None)

    @rule(seconds=st.floats(0, 4))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        for ticket, shed in self.queue.expire(self.now):
            _, _, _, is_held = self.waiting.pop(ticket)
            assert shed.status == 503
            assert (shed.reason == "no_endpoint") == is_held
        assert self.queue.expire(self.now) == []

    @rule(model=st.sampled_from("mno"))
    def release(self, model: str) -> None:
        self.queue.release(model)
        self.waiting = {
            ticket: (m, band, tenant, is_held and m != model)
            for ticket, (m, band, tenant, is_held) in self.waiting.items()
        }

    @invariant()
    def counts_are_true(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue.held() == Counter(m for m, _, _, h in self.waiting.values() if h)
        for name, depth in self.queue.depth(self.now).items():
            here = [(t, h) for _, b, t, h in self.waiting.values() if b == name]
            assert depth.num_queued == sum(not h for _, h in here)
            assert depth.by_tenant == Counter(t for t, _ in here)

    def teardown(self) -> None:
        while (ticket := self.queue.take(self.now, anything)) is not None:
            del self.waiting[ticket]
        assert not self.waiting
        assert all(depth.tokens == 0 for depth in self.queue.depth(self.now).values())


EveryTicketEndsOnce.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestEveryTicketEndsOnce = EveryTicketEndsOnce.TestCase
