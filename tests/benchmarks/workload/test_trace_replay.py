"""A replay: every request at its time, as long as the trace says, sharing what the trace shared."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from shoal.benchmarks.workload.plan import Workload
from shoal.benchmarks.workload.spec import WorkloadSpec, build_workload
from shoal.errors import ConfigError
from tests.benchmarks.workload.toy import make_pool, num_shared, tokens_of

BLOCK = 512
RATES = "workload,client_id,window_start_s,rate_rps,cv,arrival_dist,shape,scale\n"


def replay(path: Path, *, overhead: int = 0, **spec: Any) -> Workload:
    return build_workload(
        WorkloadSpec(kind="trace", path=str(path), **spec), make_pool(overhead=overhead)
    )


def table(folder: Path, *rows: tuple[float, int, int]) -> Path:
    path = folder / "trace.csv"
    path.write_text(
        "start_s,input_len,output_len\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows)
    )
    return path


def mooncake(folder: Path, *prompts: tuple[int, list[int]]) -> Path:
    """Requests of (length, block ids), 100 ms apart."""
    path = folder / "trace.jsonl"
    rows = [
        {"timestamp": 100 * i, "input_length": length, "output_length": 2, "hash_ids": ids}
        for i, (length, ids) in enumerate(prompts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompt_tokens(workload: Workload, index: int, *, overhead: int = 0) -> list[int]:
    """What the toy server counts, checked against what the plan says."""
    (turn,) = workload.session(index).turns
    added = 0 if isinstance(turn.prompt, list) else overhead
    tokens = tokens_of(turn.prompt, overhead=added)
    assert len(tokens) == turn.num_prompt_tokens
    return tokens


def test_times_and_lengths_are_those_of_the_trace(tmp_path: Path) -> None:
    workload = replay(table(tmp_path, (100, 3, 4), (100.5, 50, 1), (102, 700, 9)))
    assert workload.num_sessions == 3
    assert list(workload.start_times() or ()) == [0.0, 0.5, 2.0]
    assert [len(prompt_tokens(workload, index)) for index in range(3)] == [3, 50, 700]
    assert [workload.session(index).turns[0].max_tokens for index in range(3)] == [4, 1, 9]


def test_a_time_scale_of_two_is_twice_as_fast(tmp_path: Path) -> None:
    path = table(tmp_path, (0, 1, 1), (5, 1, 1), (6, 1, 1))
    assert list(replay(path, time_scale=2.0).start_times() or ()) == [0.0, 2.5, 3.0]
    assert list(replay(path, time_scale=0.5).start_times() or ()) == [0.0, 10.0, 12.0]


@pytest.mark.parametrize("time_scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_scale_that_is_none_is_refused(tmp_path: Path, time_scale: float) -> None:
    with pytest.raises(ConfigError, match="time scale"):
        replay(table(tmp_path, (0, 1, 1)), time_scale=time_scale)


def test_empty_prompts_and_answers_become_one_token(tmp_path: Path) -> None:
    workload = replay(table(tmp_path, (0, 0, 0)), overhead=2)
    assert len(prompt_tokens(workload, 0, overhead=2)) == 3
    assert workload.session(0).turns[0].max_tokens == 1


def test_prompts_without_blocks_share_nothing(tmp_path: Path) -> None:
    workload = replay(table(tmp_path, *((i, 200, 1) for i in range(30))))
    prompts = [prompt_tokens(workload, index) for index in range(30)]
    assert max(num_shared(a, b) for a in prompts for b in prompts if a is not b) < 4


@pytest.mark.parametrize("as_token_ids", [False, True])
@pytest.mark.parametrize("overhead", [0, 1, 3])
def test_prompts_share_their_blocks_and_no_more(
    tmp_path: Path, overhead: int, as_token_ids: bool
) -> None:
    path = mooncake(
        tmp_path,
        (3 * BLOCK, [0, 1, 2]),
        (2 * BLOCK + 40, [0, 1, 3]),
        (2 * BLOCK + 90, [0, 4, 2]),
        (BLOCK, [9]),
        (2 * BLOCK + 7, [0, 1, 2]),
    )
    workload = replay(path, overhead=overhead, as_token_ids=as_token_ids)
    a, b, c, d, e = (prompt_tokens(workload, index, overhead=overhead) for index in range(5))
    assert [len(tokens) for tokens in (a, b, c, d, e)] == [1536, 1064, 1114, 512, 1031]
    # By chance, the first token behind the shared ones is the same once in 400 times.
    assert 0 <= num_shared(a, b) - 2 * BLOCK <= 2
    assert 0 <= num_shared(a, c) - BLOCK <= 2
    added = 0 if as_token_ids else overhead
    assert 0 <= num_shared(a, d) - added <= 2
    assert e == a[: 2 * BLOCK + 7], "a partial block is the beginning of the full one"
    assert 0 <= num_shared(b, c) - BLOCK <= 2


def test_a_block_says_the_same_wherever_it_stands(tmp_path: Path) -> None:
    workload = replay(mooncake(tmp_path, (2 * BLOCK, [5, 6]), (2 * BLOCK, [7, 6])))
    one, other = prompt_tokens(workload, 0), prompt_tokens(workload, 1)
    assert one[BLOCK:] == other[BLOCK:]
    assert one[:BLOCK] != other[:BLOCK]
    assert one[:BLOCK] != one[BLOCK:]


def test_sessions_depend_on_seed_and_index_alone(tmp_path: Path) -> None:
    path = mooncake(tmp_path, (600, [0, 1]), (700, [0, 2]), (40, [3]))
    one, again, other = (replay(path, seed=seed) for seed in (4, 4, 5))
    forward = [one.session(index) for index in (0, 1, 2)]
    assert [again.session(index) for index in (2, 0, 1, 2)] == [forward[i] for i in (2, 0, 1, 2)]
    assert other.session(0).turns[0].prompt != forward[0].turns[0].prompt
    assert list(other.start_times() or ()) == list(one.start_times() or ())


def test_generated_traces_have_no_end_and_the_same_sessions_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(RATES + "m,1,0,5,1,Gamma,0.5,1\nm,2,0,2,1,Weibull,0.8,1\n")
    workload = replay(path, input_len="uniform:5-20", output_len="8")
    assert workload.num_sessions is None
    times = list(islice(workload.start_times() or (), 5000))
    assert times == sorted(times)
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(5000 / 7, rel=0.15)
    lengths = [len(prompt_tokens(workload, index)) for index in range(100)]
    assert (min(lengths) >= 5, max(lengths) <= 20, len(set(lengths)) > 10) == (True, True, True)
    again = replay(path, input_len="uniform:5-20", output_len="8")
    assert again.session(70) == workload.session(70)
    assert list(islice(again.start_times() or (), 5000)) == times


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"input_len": "9"}, "gives the length of every request: input-len and output-len"),
        ({"output_len": "9"}, "gives the length of every request"),
        ({"format": "vllm"}, "no trace format 'vllm'; there are: auto, azure"),
        ({"format": "azure"}, r"trace\.csv, line 2: there is no column TIMESTAMP; it has: start_s"),
        ({"num_turns": "3"}, "the workload trace has no use for num-turns"),
        ({"prefix_len": "3"}, "the workload trace has no use for prefix-len"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        replay(table(tmp_path, (0, 1, 1)), **spec)


def test_a_trace_needs_a_file() -> None:
    with pytest.raises(ConfigError, match="needs a file: --trace FILE"):
        build_workload(WorkloadSpec(kind="trace"), make_pool())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.csv"):
        replay(tmp_path / "none.csv")
