"""The whole benchmark on fake contestants."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from shoal.benchmarks.peers import campaign as campaign_module
from shoal.benchmarks.peers.campaign import Campaign
from shoal.benchmarks.peers.commands import Command
from shoal.benchmarks.peers.peers_result import Line, PeersResult, decode
from shoal.benchmarks.peers.standard_set import Case, LoadCase, LongPromptCase
from tests.benchmarks.peers.contestants import broken_server, fake_server, offline_program

SMALL_C1 = LoadCase(
    name="c1", title="small", concurrency=1, num_requests=2, input_tokens=8, output_tokens=4
)
SMALL_OFFLINE = LoadCase(
    name="offline", title="at once", concurrency=4, num_requests=4, input_tokens=8, output_tokens=4
)
SMALL_LONG = LongPromptCase(
    name="longprompt", title="long", num_decodes=2, input_tokens=4, output_tokens=400,
    long_input_tokens=20, long_output_tokens=4, chunks_before=3,
)  # fmt: skip


def campaign_of(
    contestants: Sequence[Command], cases: Sequence[Case], out: Path, *, repeats: int = 1
) -> Campaign:
    console = Console(file=io.StringIO())
    return Campaign(
        contestants, cases, repeats=repeats, quick=False, model="a model", out=out, console=console
    )


def saved(out: Path) -> PeersResult:
    path = out / "results" / "peers.json"
    return decode(path.read_bytes(), source=str(path))


def steps(result: PeersResult, server: str) -> list[tuple[str, bool]]:
    return [(line.case, line.error is None) for line in result.lines if line.server == server]


def test_every_contestant_is_measured_on_every_case_that_it_can_do(tmp_path: Path) -> None:
    contestants = [fake_server("shoal"), offline_program("openvino")]
    campaign = campaign_of(contestants, [SMALL_OFFLINE, SMALL_LONG], tmp_path)
    assert campaign.run() == 0

    result = saved(tmp_path)
    assert result == campaign.result
    assert steps(result, "shoal") == [
        ("start", True), ("offline", True), ("longprompt", True), ("memory", True),
    ]  # fmt: skip
    assert steps(result, "openvino") == [("start", True), ("offline", True), ("memory", True)]
    assert result.medians["openvino"]["offline"]["output_tokens_per_s"] == 32.0
    assert result.medians["shoal"]["longprompt"]["long_ttft_s"] > 0
    assert result.medians["shoal"]["memory"]["peak_bytes"] > 1_000_000
    assert result.best_peer == {"offline": "openvino"}
    assert set(result.ratio_to_best_peer) == {"offline"}
    measured = [line for line in result.lines if line.case != "memory"]
    assert all(line.foreign_cpu is not None for line in measured)
    summary = campaign.summary()
    assert summary["benchmark"] == "peers"
    assert summary["ratio_to_best_peer"] == result.ratio_to_best_peer
    assert "# Shoal beside other servers" in (tmp_path / "RESULTS.md").read_text()


def test_a_peer_that_does_not_start_stops_nobody(tmp_path: Path) -> None:
    contestants = [broken_server("vllm"), fake_server("shoal")]
    assert campaign_of(contestants, [SMALL_C1], tmp_path).run() == 0
    result = saved(tmp_path)
    assert steps(result, "vllm") == [("start", False)]
    assert "no room for the weights" in (result.lines[0].error or "")
    assert ("c1", True) in steps(result, "shoal")


def test_a_failure_of_shoal_itself_is_an_exit_code(tmp_path: Path) -> None:
    assert campaign_of([broken_server("shoal")], [SMALL_C1], tmp_path).run() == 1


def test_answers_of_another_length_are_no_measurement(tmp_path: Path) -> None:
    campaign_of([fake_server("vllm", extra_tokens=1)], [SMALL_C1], tmp_path).run()
    (line,) = [line for line in saved(tmp_path).lines if line.error]
    assert "output tokens instead of" in (line.error or "")


def test_a_program_that_fails_midway_keeps_what_it_said(tmp_path: Path) -> None:
    program = "import sys; print('{\"load_s\": 1}', flush=True); sys.exit('out of memory')"
    campaign_of([offline_program("openvino", program)], [SMALL_OFFLINE], tmp_path).run()
    result = saved(tmp_path)
    assert steps(result, "openvino") == [("start", True), ("offline", False)]
    assert "out of memory" in (result.lines[-1].error or "")


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sit(command: Command, cases: object, *, repeat: int, note: object) -> None:
        if repeat == 1:
            raise KeyboardInterrupt
        assert callable(note)
        note(Line(server=command.name, repeat=repeat, case="start", figures={"start_s": 1.0}))

    monkeypatch.setattr(campaign_module, "sit", sit)
    contestants = [fake_server("shoal"), fake_server("vllm")]
    campaign = campaign_of(contestants, [SMALL_C1], tmp_path, repeats=3)
    assert campaign.run() == 130
    result = saved(tmp_path)
    assert result.interrupted
    assert [(line.server, line.repeat) for line in result.lines] == [("shoal", 0), ("vllm", 0)]
    assert campaign.summary()["interrupted"] is True
