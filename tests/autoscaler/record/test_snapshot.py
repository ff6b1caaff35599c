from __future__ import annotations

from collections import deque
from copy import deepcopy
from typing import Any

import msgspec
import pytest

from shoal.autoscaler.core.decision import Decision
from shoal.autoscaler.core.observation import Observation
from shoal.autoscaler.core.scaler import decide
from shoal.autoscaler.core.spec import Role, ScalingSpec, VariantSpec
from shoal.autoscaler.core.state import ScalerState
from shoal.autoscaler.record.decision_record import DecisionRecord
from shoal.autoscaler.record.snapshot import SnapshotUnfit, from_plain, to_plain
from tests.autoscaler.record.life import SPEC, Life


class Observations:
    """A recorder that keeps what was seen."""

    def __init__(self) -> None:
        self.seen: list[tuple[Observation, float]] = []

    def before(self, state: ScalerState, now: float) -> None:
        self.state = state

    def record(self, record: DecisionRecord) -> None:
        self.seen.append((record.observation, record.now))


def through_json(state: ScalerState, spec: ScalingSpec) -> ScalerState:
    return from_plain(msgspec.json.decode(msgspec.json.encode(to_plain(state))), spec)


async def test_a_state_that_went_through_a_file_decides_the_same_for_ever() -> None:
    recorder = Observations()
    await Life(recorder).run(200)
    state = ScalerState.of(SPEC)
    for seen, now in recorder.seen[:100]:
        decide(SPEC, seen, state, now)
    again = through_json(state, SPEC)

    def rest(state: ScalerState) -> list[Decision]:
        return [decide(SPEC, seen, state, now) for seen, now in recorder.seen[100:]]

    expected = rest(state)
    assert rest(again) == expected
    assert len({tuple(d.desired.items()) for d in expected}) > 2, "a load that moves"


async def test_writing_it_down_changes_nothing() -> None:
    recorder = Observations()
    life = Life(recorder)
    await life.run(30)
    before = to_plain(deepcopy(recorder.state))
    assert to_plain(recorder.state) == before


@pytest.mark.parametrize(
    "roles", [(Role.BOTH,), (Role.BOTH, Role.BOTH), (Role.PREFILL, Role.DECODE)]
)
def test_every_shape_of_a_fresh_state(roles: tuple[Role, ...]) -> None:
    spec = ScalingSpec(
        variants=tuple(VariantSpec(name=f"v{i}", role=role) for i, role in enumerate(roles))
    )
    state = ScalerState.of(spec)
    assert to_plain(through_json(state, spec)) == to_plain(state)


def test_what_json_has_no_form_for() -> None:
    state = ScalerState.of(SPEC)
    state.last_arrival = float("-inf")
    values: Any = state.size
    values.input_tokens = deque([(1, 2.5), {Role.BOTH: None}], maxlen=7)
    again = through_json(state, SPEC)
    assert again.last_arrival == float("-inf")
    found: Any = again.size
    assert found.input_tokens == deque([(1, 2.5), {Role.BOTH: None}])
    assert found.input_tokens.maxlen == 7


def test_nothing_but_the_core_is_made_from_a_file() -> None:
    wanted = {"~": "object", "class": "os.system", "attributes": {}}
    with pytest.raises(SnapshotUnfit, match=r"os\.system"):
        from_plain(wanted, SPEC)
    with pytest.raises(SnapshotUnfit, match="but dict"):
        from_plain({"~": "dict", "items": []}, SPEC)
    with pytest.raises(SnapshotUnfit, match="no kind"):
        from_plain({"~": "code", "value": "1"}, SPEC)


def test_a_state_of_other_code_is_refused() -> None:
    plain: Any = to_plain(ScalerState.of(SPEC))
    del plain["attributes"]["last_arrival"]
    with pytest.raises(SnapshotUnfit, match="ScalerState has other fields today"):
        from_plain(plain, SPEC)
    plain = to_plain(ScalerState.of(SPEC))
    plain["attributes"]["demand"]["attributes"]["_more"] = 1
    with pytest.raises(SnapshotUnfit, match="Demand has other fields today"):
        from_plain(plain, SPEC)


def test_an_object_of_others_is_not_written() -> None:
    state: Any = ScalerState.of(SPEC)
    state.last_arrival = Life
    with pytest.raises(TypeError, match="no class of the core"):
        to_plain(state)
