"""Conversations: one system prompt for all, turns and pauses as asked."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from shoal.benchmarks.workload.conversations import Agent, Chat
from shoal.benchmarks.workload.plan import Workload
from shoal.benchmarks.workload.spec import WorkloadSpec, build_workload
from shoal.errors import ConfigError
from tests.benchmarks.workload.toy import make_pool, num_shared, tokens_of


def make(kind: str = "chat", **spec: Any) -> Workload:
    return build_workload(WorkloadSpec(kind=kind, **spec), make_pool(overhead=1))


@pytest.mark.parametrize("kind", ["chat", "agent"])
def test_all_sessions_share_one_system_prompt_and_nothing_else(kind: str) -> None:
    workload = make(kind, prefix_len="uniform:100-300")
    sessions = [workload.session(index) for index in range(30)]
    (opening,) = {repr(session.opening) for session in sessions}
    (message,) = sessions[0].opening
    assert message["role"] == "system", opening
    num_tokens = len(tokens_of(message["content"]))
    assert 100 <= num_tokens <= 300
    assert {session.num_opening_tokens for session in sessions} == {num_tokens}
    firsts = [tokens_of(session.turns[0].prompt) for session in sessions]
    assert max(num_shared(a, b) for i, a in enumerate(firsts) for b in firsts[:i]) <= 2


def test_turns_lengths_and_pauses_are_as_asked() -> None:
    workload = make(
        num_turns="uniform:2-5", input_len="uniform:5-15", output_len="uniform:20-30",
        pause_s="exponential:2",
    )  # fmt: skip
    counts, pauses = set(), []
    for index in range(300):
        turns = workload.session(index).turns
        counts.add(len(turns))
        assert turns[0].pause_s == 0, "the session's arrival is the first turn's time"
        pauses += [turn.pause_s for turn in turns[1:]]
        for turn in turns:
            assert turn.role == "user"
            assert turn.max_tokens is not None
            assert 20 <= turn.max_tokens <= 30
            # The chat template adds tokens of its own, which nobody takes off.
            assert turn.num_prompt_tokens == len(tokens_of(turn.prompt))
            assert 5 <= turn.num_prompt_tokens <= 15
    assert counts == {2, 3, 4, 5}
    assert min(pauses) > 0
    assert statistics.mean(pauses) == pytest.approx(2, rel=0.2)


def test_the_turns_of_a_session_differ() -> None:
    turns = make(num_turns="5", input_len="20").session(0).turns
    assert len({str(turn.prompt) for turn in turns}) == 5


def test_an_agent_reads_more_and_says_less_than_a_chat() -> None:
    chat, agent = make("chat"), make("agent")
    assert isinstance(chat, Chat)
    assert isinstance(agent, Agent)
    assert agent.input_len.mean > chat.input_len.mean
    assert agent.output_len.mean < chat.output_len.mean
    assert agent.num_turns.mean > chat.num_turns.mean


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_turns", "0"), ("num_turns", "some"), ("pause_s", "-1"), ("pause_s", "later"),
        ("input_len", "0"), ("output_len", "x"), ("prefix_len", "uniform:5"),
    ],
)  # fmt: skip
def test_bad_values_are_refused(field: str, value: str) -> None:
    with pytest.raises(ConfigError, match="is not a"):
        make(**{field: value})
