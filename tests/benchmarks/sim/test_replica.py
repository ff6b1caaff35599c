from __future__ import annotations

import pytest

from shoal.benchmarks.sim.event_loop import EventLoop
from shoal.benchmarks.sim.replica import Replica, ReplicaSpec
from shoal.benchmarks.sim.request import SimRequest
from shoal.benchmarks.sim.step_cost import StepCost

COST = StepCost(base_s=0.01, prompt_token_s=1e-4, decode_s=1e-4, kv_token_s=1e-7)


def run(requests: list[SimRequest], **spec: int) -> Replica:
    loop = EventLoop()
    replica = Replica(
        loop, ReplicaSpec(cost=COST, **spec), first_token=lambda _: None, finished=lambda _: None
    )  # type: ignore[arg-type]
    for request in requests:
        loop.at(request.arrival_s, lambda r=request: replica.add(r))  # type: ignore[misc]
    loop.run()
    return replica


def step_by_step(requests: list[SimRequest], spec: ReplicaSpec) -> list[tuple[float, float]]:
    """The same replica, one step after another: (first token, end) of each request."""
    now, waiting = 0.0, sorted(requests, key=lambda r: r.arrival_s)
    prefilling: list[list[int]] = []
    decoding: dict[int, int] = {}
    times: dict[int, list[float]] = {}
    index = {id(r): i for i, r in enumerate(requests)}
    reserved = 0
    while waiting or prefilling or decoding:
        if not prefilling and not decoding:
            now = max(now, waiting[0].arrival_s)
        budget, tokens, complete = spec.max_num_batched_tokens - len(decoding), 0, []
        while budget > 0:
            if not prefilling:
                if not waiting or waiting[0].arrival_s > now:
                    break
                head = waiting[0]
                length = head.num_input_tokens + head.num_output_tokens
                busy = len(decoding) + len(complete)
                if busy >= spec.max_num_seqs or (busy and reserved + length > spec.kv_tokens):
                    break
                waiting.pop(0)
                reserved += length
                prefilling.append([index[id(head)], head.num_input_tokens])
            chunk = min(budget, prefilling[0][1])
            tokens, budget = tokens + chunk, budget - chunk
            prefilling[0][1] -= chunk
            if prefilling[0][1]:
                break
            complete.append(prefilling.pop(0)[0])
        kv = sum(requests[i].num_input_tokens + done - 1 for i, done in decoding.items())
        now += COST.step_s(prompt_tokens=tokens, decodes=len(decoding), kv_tokens=kv)
        for i in decoding:
            decoding[i] += 1
        for i in complete:
            decoding[i], times[i] = 1, [now]
        for i in [i for i, done in decoding.items() if done >= requests[i].num_output_tokens]:
            times[i].append(now)
            reserved -= requests[i].num_input_tokens + requests[i].num_output_tokens
            del decoding[i]
    return [(first, end) for first, end in (times[i] for i in range(len(requests)))]


@pytest.mark.parametrize("max_num_seqs", [1, 3, 64])
@pytest.mark.parametrize("kv_tokens", [700, 100_000])
def test_skipping_through_decodes_changes_no_time(max_num_seqs: int, kv_tokens: int) -> None:
    shapes = [(0.0, 100, 50), (0.013, 300, 1), (0.2, 20, 30), (0.21, 512, 7), (0.9, 5, 200),
              (0.9001, 40, 3), (5.0, 10, 10)]  # fmt: skip
    requests = [SimRequest(*shape) for shape in shapes]
    limits = {"max_num_seqs": max_num_seqs, "kv_tokens": kv_tokens, "max_num_batched_tokens": 256}
    replica = run(requests, **limits)
    expected = step_by_step(
        [SimRequest(*shape) for shape in shapes],
        ReplicaSpec(cost=COST, **limits),  # type: ignore[arg-type]
    )
    for request, (first_s, end_s) in zip(requests, expected, strict=True):
        assert request.first_token_s == pytest.approx(first_s)
        assert request.finished_s == pytest.approx(end_s)
    assert replica.output_tokens == sum(output for _, _, output in shapes)
    assert replica.input_tokens == sum(prompt for _, prompt, _ in shapes)
    assert replica.num_requests == 0
    assert replica.kv_usage == 0.0


def test_what_is_cached_is_not_computed() -> None:
    request = SimRequest(0.0, 1000, 1, num_cached_tokens=900)
    run([request])
    assert request.first_token_s == pytest.approx(0.01 + 100 * 1e-4)


def test_a_stretch_of_steps_takes_as_long_as_its_steps() -> None:
    total = 0.0
    for step in range(7):
        total += COST.step_s(prompt_tokens=0, decodes=3, kv_tokens=500 + 3 * step)
        assert COST.stretch_s(step + 1, decodes=3, kv_tokens=500) == pytest.approx(total)
        assert COST.steps_begun(total - 1e-4, decodes=3, kv_tokens=500) == step + 1
        assert COST.steps_begun(total + 1e-4, decodes=3, kv_tokens=500) == step + 2


def test_time_does_not_go_backwards() -> None:
    loop = EventLoop()
    loop.at(1.0, lambda: None)
    loop.run()
    with pytest.raises(ValueError, match="an event at"):
        loop.at(0.5, lambda: None)
