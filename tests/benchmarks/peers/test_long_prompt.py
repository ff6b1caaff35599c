"""Gaps between tokens while a long prompt is worked on."""

from __future__ import annotations

import pytest

from shoal.benchmarks.peers.long_prompt import Stream, figures_of, measure_long_prompt
from shoal.benchmarks.peers.running import PeerFailed, running
from shoal.benchmarks.peers.standard_set import LongPromptCase
from tests.benchmarks.peers.contestants import fake_server


def test_gaps_are_told_apart_by_when_they_overlap_the_long_prompt() -> None:
    # Sent at 10, its first token at 14.
    long = Stream(sent_s=10.0, arrivals_s=[14.0, 14.1])
    decodes = [
        Stream(sent_s=0.0, arrivals_s=[9.0, 9.5, 9.75, 13.0, 14.5, 15.0]),
        Stream(sent_s=0.0, arrivals_s=[8.0, 8.5, 14.5]),
    ]
    figures = figures_of(decodes, long)
    assert figures["long_ttft_s"] == 4.0
    assert figures["calm_itl_p50_s"] == 0.5  # of 0.5, 0.25 and 0.5
    assert figures["calm_itl_p99_s"] == 0.5
    # 9.75 to 13, 13 to 14.5 and 8.5 to 14.5 overlap it; 14.5 to 15 begins after its first token.
    assert figures["gaps_during"] == 3
    assert figures["during_itl_p50_s"] == 3.25
    assert figures["during_itl_max_s"] == 6.0
    assert 3.25 < figures["during_itl_p99_s"] <= 6.0


def test_figures_without_samples_are_left_out() -> None:
    figures = figures_of(
        [Stream(sent_s=0.0, arrivals_s=[5.0])], Stream(sent_s=1.0, arrivals_s=[2.0])
    )
    assert figures == {"long_ttft_s": 1.0, "gaps_during": 0.0}


SMALL = LongPromptCase(
    name="longprompt", title="small", num_decodes=2, input_tokens=4, output_tokens=400,
    long_input_tokens=20, long_output_tokens=4, chunks_before=3,
)  # fmt: skip


async def test_the_long_prompt_is_sent_while_the_decodes_write() -> None:
    with running(fake_server("fake")) as server:
        figures = await measure_long_prompt(server.url, "smollm2", SMALL, seed=1)
    assert figures["long_ttft_s"] > 0
    # The decodes take 0.8 s at least, and the long prompt comes half a second after their third
    # token: there are calm gaps before it and others during it.
    assert figures["calm_itl_p50_s"] > 0
    assert figures["gaps_during"] >= 1


async def test_a_failed_request_is_a_failure_of_the_peer() -> None:
    with pytest.raises(PeerFailed, match="a request failed"):
        await measure_long_prompt("http://127.0.0.1:9", "smollm2", SMALL, seed=1)
