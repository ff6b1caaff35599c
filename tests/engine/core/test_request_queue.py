from __future__ import annotations

from shoal.engine.core.request import RequestStatus
from shoal.engine.core.request_queue import RequestQueue
from tests.builders import make_request


def ids(requests: list) -> list[str]:
    return [r.request_id for r in requests]


def test_requests_leave_by_priority_then_arrival() -> None:
    queue = RequestQueue(timeout_s=None)
    for name, arrival, priority in [("late", 3, 0), ("urgent", 9, -5), ("early", 1, 0)]:
        queue.add(make_request(request_id=name, arrival_time=arrival, priority=priority))
    assert ids([queue.pop() for _ in range(3)]) == ["urgent", "early", "late"]
    assert queue.peek() is None


def test_remove_takes_out_just_that_request() -> None:
    queue = RequestQueue(timeout_s=None)
    requests = [make_request(arrival_time=1.0) for _ in range(5)]
    for request in requests:
        queue.add(request)
    queue.remove(requests[2])
    assert len(queue) == 4
    assert requests[2] not in [queue.pop() for _ in range(4)]


def test_requests_expire_at_their_deadline_and_not_before() -> None:
    queue = RequestQueue(timeout_s=10.0)
    for name, arrival in [("a", 0.0), ("b", 5.0)]:
        queue.add(make_request(request_id=name, arrival_time=arrival))
    assert queue.pop_expired(9.99) == []
    assert ids(queue.pop_expired(10.0)) == ["a"]
    assert queue.pop_expired(14.99) == []
    assert ids(queue.pop_expired(15.0)) == ["b"]
    assert len(queue) == 0


def test_a_preempted_request_does_not_expire() -> None:
    queue = RequestQueue(timeout_s=10.0)
    preempted = make_request(arrival_time=0.0)
    preempted.status = RequestStatus.PREEMPTED
    queue.add(preempted)
    queue.add(make_request(request_id="fresh", arrival_time=0.0))
    assert ids(queue.pop_expired(100.0)) == ["fresh"]
    assert queue.peek() is preempted
