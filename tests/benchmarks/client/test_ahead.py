from __future__ import annotations

from collections.abc import Iterator

from shoal.benchmarks.client.ahead import MAX_AHEAD, Ahead
from shoal.benchmarks.workload.plan import Session, Turn


class Written:
    """A workload that knows which of its sessions were asked for."""

    num_sessions = None

    def __init__(self) -> None:
        self.indices: list[int] = []

    def session(self, index: int) -> Session:
        self.indices.append(index)
        turn = Turn(prompt=str(index), num_prompt_tokens=1, max_tokens=1)
        return Session(turns=(turn,))

    def start_times(self) -> Iterator[float] | None:
        return None


def test_all_sessions_come_once_and_in_order() -> None:
    written = Written()
    ahead = Ahead(written, iter([(3, 0.1), (5, 0.2), (9, 0.3)]))
    assert ahead.write()
    taken = [ahead.take() for _ in range(4)]
    assert [(planned[0], planned[1]) for planned in taken if planned] == [
        (3, 0.1),
        (5, 0.2),
        (9, 0.3),
    ]
    assert taken[3] is None
    assert not ahead.write()
    assert written.indices == [3, 5, 9]


def test_no_more_are_written_than_are_soon_needed() -> None:
    written = Written()
    ahead = Ahead(written, ((index, float(index)) for index in range(1000)))
    while ahead.write():
        pass
    assert len(written.indices) == MAX_AHEAD
    ahead.take()
    assert ahead.write()
    assert not ahead.write()
