"""ServeGen: clients become arrivals at the published rates, with the published lengths."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from shoal.benchmarks.workload.lengths import Fixed
from shoal.benchmarks.workload.traces.row import TraceRow
from shoal.benchmarks.workload.traces.servegen import GeneratedRows, read_servegen
from shoal.errors import ConfigError

RATES = "workload,client_id,window_start_s,rate_rps,cv,arrival_dist,shape,scale"
LENGTHS = "workload,client_id,window_start_s," + ",".join(
    f"{what}_{figure}"
    for what in ("input", "output")
    for figure in ("mean", "p5", "p25", "p50", "p75", "p95", "p99")
)


def write(folder: Path, *rates: str, lengths: tuple[str, ...] | None = None) -> Path:
    path = folder / "clients_rates.csv"
    path.write_text("\n".join((RATES, *rates)) + "\n")
    if lengths is not None:
        (folder / "clients_lengths.csv").write_text("\n".join((LENGTHS, *lengths)) + "\n")
    return path


def read(path: Path, *, service: str | None = None, seed: int = 0) -> GeneratedRows:
    return read_servegen(path, service=service, fallback=(Fixed(7), Fixed(3)), seed=seed)


def until(rows: GeneratedRows, end_s: float) -> list[TraceRow]:
    return list(itertools.takewhile(lambda row: row.start_s < end_s, rows))


def num_between(rows: list[TraceRow], begin_s: float, end_s: float) -> int:
    return sum(begin_s <= row.start_s < end_s for row in rows)


def test_each_window_has_its_rate(tmp_path: Path) -> None:
    path = write(tmp_path, "s,1,0,5,1,Gamma,1,0.2", "s,1,600,20,1,Gamma,1,0.05")
    rows = until(read(path), 1200)
    assert num_between(rows, 0, 600) == pytest.approx(3000, abs=5 * 3000**0.5)
    assert num_between(rows, 600, 1200) == pytest.approx(12_000, abs=5 * 12_000**0.5)


def test_idle_windows_stay_idle(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "s,1,0,2,1,Gamma,1,0.5",
        "s,1,600,0,1,Gamma,1,0.5",
        "s,1,1800,2,1,Gamma,1,0.5",
    )
    rows = until(read(path), 2400)
    assert num_between(rows, 600, 1800) == 0
    assert num_between(rows, 0, 600) > 900
    assert num_between(rows, 1800, 2400) > 900


def test_time_begins_with_the_first_window_and_goes_round_after_the_last(tmp_path: Path) -> None:
    path = write(tmp_path, "s,1,72000,1,1,Gamma,1,1", "s,1,72600,9,1,Gamma,1,1")
    rows = until(read(path), 2400)
    counts = [num_between(rows, begin_s, begin_s + 600) for begin_s in range(0, 2400, 600)]
    for count, rate in zip(counts, (1, 9, 1, 9), strict=True):
        assert count == pytest.approx(600 * rate, abs=5 * (600 * rate) ** 0.5)
    assert counts[0] != counts[2], "the second round is drawn anew"


@pytest.mark.parametrize(
    ("distribution", "shape", "cv"),
    # A Weibull distribution of shape k has cv^2 = gamma(1 + 2/k) / gamma(1 + 1/k)^2 - 1.
    [("Gamma", 0.25, 2.0), ("Gamma", 4, 0.5), ("Weibull", 1, 1.0), ("Weibull", 0.5, 5**0.5)],
)
def test_gaps_are_spread_as_fitted_and_the_scale_changes_nothing(
    tmp_path: Path, distribution: str, shape: float, cv: float
) -> None:
    windows = [f"s,1,{600 * i},50,9,{distribution},{shape},777" for i in range(2)]
    rows = until(read(write(tmp_path, *windows)), 1200)
    gaps = [b.start_s - a.start_s for a, b in itertools.pairwise(rows)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(cv, rel=0.1)


@pytest.mark.parametrize(("distribution", "shape"), [("Gamma", 0.1), ("Weibull", 0.4)])
def test_a_replay_does_not_begin_with_the_bursts_of_all_clients(
    tmp_path: Path, distribution: str, shape: float
) -> None:
    """With cv^2 = 10, clients that all begin with a whole gap send 4.5 requests too many each."""
    path = write(tmp_path, f"s,1,0,10,3.2,{distribution},{shape},1")
    counts = [len(until(read(path, seed=seed), 2.0)) for seed in range(600)]
    # A count has a standard deviation of some 14, the mean of 600 counts one of 0.6.
    assert statistics.mean(counts) == pytest.approx(20, abs=2.2)


@pytest.mark.parametrize("distribution", ["Gamma", "Weibull"])
def test_the_burstiest_client_comes_in_the_first_round(tmp_path: Path, distribution: str) -> None:
    path = write(tmp_path, f"s,1,0,0.1,10,{distribution},0.01,1")
    assert all(0 <= read(path, seed=seed).row(0).start_s < 600 for seed in range(50))


def test_clients_are_merged_in_time(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "s,1,0,3,1,Gamma,0.5,1",
        "s,2,0,5,1,Weibull,0.7,1",
        "s,2,1200,5,1,Weibull,0.7,1",
        "s,3,600,8,1,Gamma,2,1",
    )
    times = [row.start_s for row in until(read(path), 3600)]
    assert times == sorted(times)
    assert len(times) == pytest.approx(2 * 600 * (3 + 5 + 5 + 8), rel=0.1)


def test_rows_do_not_depend_on_the_order_they_are_asked_in(tmp_path: Path) -> None:
    path = write(tmp_path, "s,1,0,3,1,Gamma,0.5,1", "s,2,0,5,1,Weibull,0.7,1")
    in_order, at_random = read(path), read(path)
    indices = [500, 3, 0, 499, 3]
    assert [at_random.row(i) for i in indices] == [
        list(itertools.islice(in_order, 501))[i] for i in indices
    ]
    assert read(path, seed=1).row(0) != in_order.row(0)


def test_one_service_of_several_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, "big,1,0,50,1,Gamma,1,1", "small,1,0,1,1,Gamma,1,1")
    assert len(until(read(path, service="small"), 600)) < 800
    with pytest.raises(ConfigError, match=r"several services \(big, small\).*servegen:big"):
        read(path)
    with pytest.raises(ConfigError, match="no service 'medium'; it has: big, small"):
        read(path, service="medium")


def test_lengths_follow_the_quantiles_of_client_and_time(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        *(f"s,1,{600 * i},1,1,Gamma,1,1" for i in range(72)),
        "s,2,0,1,1,Gamma,1,1",
        lengths=(
            "s,1,0,0,100,200,300,400,500,600,0,10,10,10,10,10,10",
            "s,1,21600,0,1000,1000,1000,1000,1000,1000,0,20,20,20,20,20,20",
            "other,2,0,0,9,9,9,9,9,9,0,9,9,9,9,9,9",
        ),
    )
    rows = until(read(path), 43_200)
    early = [r for r in rows if r.num_output_tokens == 10]
    late = [r for r in rows if r.num_output_tokens == 20]
    without = [r for r in rows if r.num_output_tokens == 3]
    assert len(early) + len(late) + len(without) == len(rows)
    assert max(r.start_s for r in early) < 21_600 <= min(r.start_s for r in late)
    assert {r.num_input_tokens for r in late} == {1000}
    assert {r.num_input_tokens for r in without} == {7}, "a client without lengths"
    inputs = [r.num_input_tokens for r in early]
    assert (min(inputs), max(inputs)) == (100, 600)
    for share, value in ((0.05, 100), (0.25, 200), (0.5, 300), (0.75, 400), (0.95, 500)):
        below = sum(length <= value for length in inputs) / len(inputs)
        assert below == pytest.approx(share, abs=0.01)


def test_before_its_first_lengths_a_client_has_those(tmp_path: Path) -> None:
    path = write(
        tmp_path, "s,1,0,1,1,Gamma,1,1", lengths=("s,1,21600,0," + "5," * 6 + "0" + ",6" * 6,)
    )
    assert {r.num_input_tokens for r in until(read(path), 600)} == {5}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("s,1,0,fast,1,Gamma,1,1", "line 3, column rate_rps: 'fast' is not a number"),
        ("s,1,0,-1,1,Gamma,1,1", "line 3, column rate_rps: '-1' is not a number of at least 0"),
        ("s,1,,1,1,Gamma,1,1", "line 3, column window_start_s: '' is not a number"),
        ("s,1,600,1,1,Pareto,1,1", "column arrival_dist: 'Pareto' is neither Gamma nor Weibull"),
        ("s,1,600,1,1,Gamma,0,1", "column shape: '0' is below 0.01"),
        ("s,1,300,1,1,Gamma,1,1", "line 3, column window_start_s: '300' is not 600 s or more"),
        (",1,600,1,1,Gamma,1,1", "line 3, column workload: '' is not text"),
        ("s,1,600", "line 3, column rate_rps: None stands where a value should be"),
    ],
)
def test_bad_rates_are_refused(tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(write(tmp_path, "s,1,0,1,1,Gamma,1,1", row))


def test_rates_without_any_load_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no window with a rate above 0"):
        read(write(tmp_path, "s,1,0,0,1,Gamma,1,1"))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("s,1,21600,0,3,2,3,4,5,6,0,1,2,3,4,5,6", "line 3, column input_p25: '2' is below the"),
        ("s,1,21600,0,1,2,3,4,5,6,0,1,2,x,4,5,6", "line 3, column output_p50: 'x' is not a"),
        ("s,1,0,0,1,2,3,4,5,6,0,1,2,3,4,5,6", "window_start_s: '0' is not after"),
    ],
)
def test_bad_lengths_are_refused(tmp_path: Path, row: str, problem: str) -> None:
    good = "s,1,0,0,1,2,3,4,5,6,0,1,2,3,4,5,6"
    path = write(tmp_path, "s,1,0,1,1,Gamma,1,1", lengths=(good, row))
    with pytest.raises(ConfigError, match=problem):
        read(path)
