"""The decision log on disk, and what `replay` makes of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.autoscaler.core.decision import Decision
from shoal.autoscaler.core.scaler import decide
from shoal.autoscaler.core.spec import Pace, ScalingSpec, VariantSpec
from shoal.autoscaler.core.state import ScalerState
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.record.log import DecisionLog, log_path
from shoal.autoscaler.record.replay import Difference, Replay, Replayed, read_lines
from shoal.errors import ConfigError
from tests.autoscaler.record.life import SPEC, Life
from tests.autoscaler.records import make_record

POLICY = ScalingPolicy(model="m", spec=SPEC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.jsonl"


def files(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}*"))


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def rewrite(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"\n".join(lines))


def replayed(*paths: Path, spec: ScalingSpec | None = None) -> list[Replayed]:
    return list(Replay(spec=spec).run(read_lines(paths)))


async def test_a_log_decided_again_is_the_same_to_the_last_bit(path: Path) -> None:
    log = DecisionLog(path, POLICY)
    await Life(log).run(150)
    found = replayed(path)
    assert len(found) == 150
    assert {each.difference for each in found} == {Difference.NONE}
    assert {each.decision.desired["default"] for each in found} >= {2, 3, 4, 5}


async def test_each_file_stands_for_itself(path: Path) -> None:
    log = DecisionLog(path, POLICY, max_bytes=40_000, kept_files=3)
    await Life(log).run(150)
    kept = files(path)
    assert [file.name for file in kept] == [
        "decisions.jsonl", "decisions.jsonl.1", "decisions.jsonl.2",
    ]  # fmt: skip
    assert all(file.stat().st_size < 100_000 for file in kept)
    for file in kept:
        found = replayed(file)
        assert found
        assert {each.difference for each in found} == {Difference.NONE}
    assert len(replayed(*kept)) == sum(len(replayed(file)) for file in kept)
    times = [each.record.time for each in replayed(*kept)]
    assert times == sorted(times), "the oldest file first, whatever the order of the arguments"


async def test_a_restart_goes_on_in_the_same_file_with_nothing_learnt(path: Path) -> None:
    for start in (1000.0, 50.0):  # the clock of another boot begins anew
        log = DecisionLog(path, POLICY)
        await Life(log, start=start).run(40)
        log.close()
    found = replayed(path)
    assert len(found) == 80
    assert {each.difference for each in found} == {Difference.NONE}


async def test_another_policy_decides_otherwise_and_goes_on_over_files(path: Path) -> None:
    log = DecisionLog(path, POLICY, max_bytes=30_000)
    await Life(log).run(120)
    spec = ScalingSpec(
        variants=(VariantSpec(max_replicas=2),), pace=Pace(start_up_s=20.0, scale_down_delay_s=30.0)
    )
    found = replayed(*files(path), spec=spec)
    assert max(each.decision.desired["default"] for each in found) == 2
    assert any(each.difference is Difference.REPLICAS for each in found)
    # One state for all files: as if there had been one.
    state, differs = ScalerState.of(spec), 0
    for each in found:
        record = each.record
        differs += decide(spec, record.observation, state, record.now) != each.decision
    assert differs == 0


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"desired": {"default": 19}}, Difference.REPLICAS),
        ({"valid": False}, Difference.REPLICAS),
        ({"reasons": ()}, Difference.REASONS),
        ({"explain": {"a": 1.0}}, Difference.EXPLANATION),
    ],
)
async def test_what_differs_is_told_by_its_weight(
    path: Path, change: dict[str, Any], difference: Difference
) -> None:
    log = DecisionLog(path, POLICY)
    await Life(log).run(3)
    lines = lines_of(path)
    entry = msgspec.json.decode(lines[2])
    entry["decision"] |= change
    lines[2] = msgspec.json.encode(entry)
    rewrite(path, lines)
    found = [each.difference for each in replayed(path)]
    assert found == [Difference.NONE, difference, Difference.NONE]


async def test_a_state_of_other_code_is_learnt_anew_and_said(path: Path) -> None:
    log = DecisionLog(path, POLICY)
    await Life(log).run(2)
    lines = lines_of(path)
    entry = msgspec.json.decode(lines[0])
    entry["version"] = "0.0.1"
    entry["state"]["attributes"]["gone"] = 1
    rewrite(path, [msgspec.json.encode(entry), *lines[1:]])
    replay = Replay()
    assert len(list(replay.run(read_lines([path])))) == 2
    assert "Shoal 0.0.1" in replay.note
    assert "learnt anew" in replay.note


def test_lines_that_are_none_are_counted(path: Path) -> None:
    path.write_bytes(b"not json\n" + msgspec.json.encode(make_record()) + b"\n{}\n")
    replay = Replay()
    assert list(replay.run(read_lines([path]))) == []
    assert replay.num_skipped == 3


def test_only_its_owner_may_read_it(path: Path) -> None:
    DecisionLog(path, POLICY).before(ScalerState.of(SPEC), 1.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_processes_do_not_write_one_log(path: Path) -> None:
    log = DecisionLog(path, POLICY)
    with pytest.raises(ConfigError, match="another process writes this decision log"):
        DecisionLog(path, POLICY)
    log.close()
    DecisionLog(path, POLICY).close()


def test_a_place_that_cannot_be_written_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        DecisionLog(tmp_path / "none" / "log", POLICY)


async def test_a_full_disk_stops_no_decision_and_the_log_begins_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = DecisionLog(path, POLICY)
    life = Life(log)
    await life.run(3)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, content: write(file, content[:10]))
        await life.run(4)
    await life.run(5)
    assert capsys.readouterr().out.count("decision_log.failed") == 1
    replay = Replay()
    found = list(replay.run(read_lines([path])))
    assert [each.difference for each in found] == [Difference.NONE] * 8
    assert replay.num_skipped > 0, "the line that was cut"


async def test_a_decision_that_never_came_makes_the_log_begin_anew(path: Path) -> None:
    log = DecisionLog(path, POLICY)
    life = Life(log)
    await life.run(2)
    state = life.loop._state
    log.before(state, 0.0)  # and then a fault in `decide`
    state.size.input_tokens = 1.0
    await life.run(2)
    assert sum(b'"kind":"start"' in line for line in lines_of(path)) == 2
    assert {each.difference for each in replayed(path)} == {Difference.NONE}


async def test_a_state_that_cannot_be_written_down_stops_no_decision(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life = Life(DecisionLog(path, POLICY))
    state: Any = life.loop._state
    state.last_arrival, before = object(), state.last_arrival
    life.load.num_looks = 49  # the next look tells nothing, so nothing is decided from it
    await life.run(1)
    assert "decision_log.failed" in capsys.readouterr().out
    state.last_arrival = before
    await life.run(2)
    assert len(replayed(path)) == 2


def test_a_number_without_end_is_left_out(path: Path) -> None:
    log = DecisionLog(path, POLICY)
    log.before(ScalerState.of(SPEC), 1.0)
    explain = {"a": float("inf"), "b": 2.0}
    decision = Decision(desired={"default": 1}, valid=True, reasons=(), explain=explain)
    log.record(make_record(decision=decision))
    entry = msgspec.json.decode(path.read_bytes().splitlines()[1])
    assert entry["decision"]["explain"] == {"b": 2.0}


def test_policies_have_logs_of_their_own(tmp_path: Path) -> None:
    assert log_path(tmp_path, "llm/chat") == tmp_path / "llm.chat.jsonl"
