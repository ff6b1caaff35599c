"""The spec: every kind can be built from its defaults, and nothing is accepted that has no use."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shoal.benchmarks.workload.spec import (
    WORKLOADS,
    WorkloadSpec,
    build_workload,
    completed,
    kind_of,
)
from shoal.errors import ConfigError
from tests.benchmarks.workload.toy import make_pool

FILES = {
    "trace": "start_s,input_tokens,output_tokens\n0,10,5\n1.5,20,5\n",
    "jsonl": '{"prompt": "a"}\n{"prompt": "b"}\n',
}
VALUES: dict[str, Any] = {
    "input_len": "9", "output_len": "9", "prefix_len": "9", "num_prefixes": 2, "num_turns": "2",
    "pause_s": "1", "num_examples": 2, "path": "x", "format": "auto", "time_scale": 1.0,
}  # fmt: skip


def make_spec(kind: str, folder: Path) -> WorkloadSpec:
    if kind not in FILES:
        return WorkloadSpec(kind=kind)
    path = folder / f"{kind}.txt"
    path.write_text(FILES[kind])
    return WorkloadSpec(kind=kind, path=str(path))


@pytest.mark.parametrize("kind", list(WORKLOADS))
def test_every_kind_is_built_from_its_defaults(kind: str, tmp_path: Path) -> None:
    workload = build_workload(make_spec(kind, tmp_path), make_pool())
    session = workload.session(1)
    assert len(session.turns) >= 1
    assert session == workload.session(1)
    assert (workload.num_sessions == 2) is (kind in FILES)
    times = workload.start_times()
    assert (times is not None) is (kind == "trace")
    if times is not None:
        assert all(a <= b for a, b in pairwise(times))
    if len(session.turns) > 1 or session.opening:
        assert kind_of(kind).is_conversation


@pytest.mark.parametrize("kind", list(WORKLOADS))
def test_every_kind_says_what_it_is(kind: str) -> None:
    assert 20 < len(kind_of(kind).description) < 100


@pytest.mark.parametrize("kind", list(WORKLOADS))
@pytest.mark.parametrize("field", list(VALUES))
def test_a_field_is_used_or_refused(kind: str, field: str) -> None:
    spec = WorkloadSpec(kind=kind, **{field: VALUES[field]})
    if field in WORKLOADS[kind].defaults:
        assert getattr(completed(spec), field) == VALUES[field]
    else:
        with pytest.raises(ConfigError, match=f"the workload {kind} has no use for"):
            completed(spec)


def test_the_refusal_names_the_option_and_those_that_fit() -> None:
    with pytest.raises(ConfigError) as refusal:
        completed(WorkloadSpec(num_turns="3"))
    assert str(refusal.value) == (
        "the workload synthetic has no use for num-turns;"
        " it takes input-len, output-len, prefix-len, num-prefixes"
    )


def test_fields_cover_the_spec() -> None:
    """A field added to the spec needs a kind that uses it, and a value in the table above."""
    assert {*VALUES, "kind", "seed", "as_token_ids"} == set(WorkloadSpec.__struct_fields__)
    assert set(VALUES) == {name for kind in WORKLOADS.values() for name in kind.defaults}


def test_given_values_win_over_defaults() -> None:
    spec = completed(WorkloadSpec(kind="chat", num_turns="9", seed=5))
    assert (spec.num_turns, spec.seed) == ("9", 5)
    assert spec.pause_s == "exponential:2"
    assert completed(spec) == spec, "completing twice changes nothing"


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no workload 'chats'; there are: synthetic, system-pro"):
        build_workload(WorkloadSpec(kind="chats"), make_pool())


def test_a_spec_survives_the_pipe_to_the_measuring_process() -> None:
    spec = completed(WorkloadSpec(kind="agent", seed=3))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=WorkloadSpec) == spec
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"knid": "chat"}, WorkloadSpec)


def test_token_ids_reach_every_kind_of_plain_prompt(tmp_path: Path) -> None:
    for kind in ("synthetic", "few-shot", "trace"):
        spec = msgspec.structs.replace(make_spec(kind, tmp_path), as_token_ids=True)
        assert isinstance(build_workload(spec, make_pool()).session(0).turns[0].prompt, list)
        with pytest.raises(ConfigError, match="/tokenize"):
            build_workload(spec, make_pool(with_ids=False))


@pytest.mark.parametrize("kind", ["system-prompts", "chat", "agent", "jsonl"])
def test_token_ids_are_refused_where_there_is_only_text(kind: str, tmp_path: Path) -> None:
    spec = msgspec.structs.replace(make_spec(kind, tmp_path), as_token_ids=True)
    with pytest.raises(ConfigError, match=f"the workload {kind} .*token ids"):
        build_workload(spec, make_pool())
