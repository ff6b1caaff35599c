from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shoal.clock import VirtualClock
from shoal.engine.engine_core import EngineCore
from shoal.engine.runner.step_ranges import no_ranges
from tests.builders import FakeRunner, make_request, make_scheduler


def test_with_nobody_looking_nothing_is_made() -> None:
    assert no_ranges("a") is no_ranges("b")
    with no_ranges("a"), no_ranges("a"):  # the same object, inside itself
        pass


def test_the_parts_of_a_step_have_ranges() -> None:
    open_now: list[str] = []
    seen: list[str] = []

    @contextmanager
    def ranges(name: str) -> Iterator[None]:
        open_now.append(name)
        seen.append(name)
        yield
        open_now.pop()

    core = EngineCore(make_scheduler(), FakeRunner(), VirtualClock(), ranges=ranges)
    core.add_request(make_request(max_tokens=1))
    core.step()
    assert seen == ["schedule", "wait", "book"]
    assert not open_now
