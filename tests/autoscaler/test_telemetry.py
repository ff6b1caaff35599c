from __future__ import annotations

from shoal import metrics as names
from shoal.autoscaler.core.decision import Decision, Reason, ReasonKind
from shoal.autoscaler.core.spec import ScalingSpec, VariantSpec
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.record.memory import Memory
from shoal.autoscaler.telemetry import Telemetry
from shoal.metrics import parse_prometheus_text
from tests.autoscaler.records import WALL, make_observation, make_record

POLICY = ScalingPolicy(
    model="m", spec=ScalingSpec(variants=(VariantSpec(cost_per_hour=36.0),))
)  # fmt: skip


def scrape(telemetry: Telemetry) -> dict[str, float]:
    """Values by name and labels other than policy and model."""
    found = {}
    for sample in parse_prometheus_text(telemetry.text().decode()):
        labels = {**sample.labels}
        if "policy" in labels:
            assert (labels.pop("policy"), labels.pop("model")) == ("llm/a", "m")
        found[" ".join((sample.name, *labels.values()))] = sample.value
    return found


def test_what_was_decided_is_what_is_scraped() -> None:
    memory = Memory()
    telemetry = Telemetry(memory)
    model = memory.add(POLICY, name="llm/a")
    recorder = telemetry.recorder(model)
    for now in (100.0, 105.0):
        record = make_record(now=now, duration_s=0.02, failures={"default": "409"})
        model.record(record)
        recorder.record(record)
    telemetry.collector_failed(model)
    found = scrape(telemetry)
    assert found[f"{names.AUTOSCALER_DESIRED_REPLICAS} default"] == 4
    assert found[f"{names.AUTOSCALER_READY_REPLICAS} default"] == 2
    assert found[f"{names.AUTOSCALER_PENDING_REPLICAS} default"] == 1
    assert found[f"{names.AUTOSCALER_UNSCHEDULABLE_REPLICAS} default"] == 0
    assert found[names.AUTOSCALER_NEEDED_LOAD] == 2.5
    assert found[names.AUTOSCALER_HELD_REQUESTS] == 0
    assert found[names.AUTOSCALER_SLO_ATTAINMENT] == 0.8
    assert found[names.AUTOSCALER_COST] == 108
    assert found[names.AUTOSCALER_TOKENS_PER_COST] == 100 / 0.03
    assert found[names.AUTOSCALER_LAST_DECISION] == WALL + 105
    assert found[names.AUTOSCALER_IS_LEADER] == 1
    assert found[f"{names.AUTOSCALER_DECISIONS} true"] == 2
    assert found[f"{names.AUTOSCALER_DECISION_REASONS} demand"] == 2
    assert found[f"{names.AUTOSCALER_SCALE_FAILURES} default"] == 2
    assert found[names.AUTOSCALER_COLLECTOR_ERRORS] == 1
    assert found[f"{names.AUTOSCALER_DECISION_DURATION}_count"] == 2


def test_what_is_not_known_has_no_sample() -> None:
    memory = Memory()
    telemetry = Telemetry(memory, is_leader=lambda: False)
    model = memory.add(POLICY, name="llm/a")
    assert scrape(telemetry) == {names.AUTOSCALER_IS_LEADER: 0.0}
    reason = Reason(ReasonKind.NO_METRICS, "default", "")
    decision = Decision(desired={"default": 3}, valid=False, reasons=(reason,), explain={})
    seen = make_observation(arrivals=None, held=None, output_tokens=None, variants=())
    model.record(make_record(observation=seen, decision=decision))
    telemetry.recorder(model).record(make_record(decision=decision))
    found = scrape(telemetry)
    assert found[f"{names.AUTOSCALER_DESIRED_REPLICAS} default"] == 3
    assert found[f"{names.AUTOSCALER_DECISIONS} false"] == 1
    unknown = (
        names.AUTOSCALER_NEEDED_LOAD, names.AUTOSCALER_HELD_REQUESTS,
        names.AUTOSCALER_SLO_ATTAINMENT, names.AUTOSCALER_TOKENS_PER_COST,
    )  # fmt: skip
    assert not found.keys() & set(unknown)


def test_a_model_that_is_scaled_no_more_has_no_gauges() -> None:
    memory = Memory()
    telemetry = Telemetry(memory)
    memory.add(POLICY, name="llm/a").record(make_record())
    memory.remove("llm/a")
    assert scrape(telemetry) == {names.AUTOSCALER_IS_LEADER: 1.0}
