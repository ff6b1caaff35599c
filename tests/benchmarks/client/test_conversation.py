from __future__ import annotations

import json
from typing import Any

import pytest

from shoal.benchmarks.client.conversation import Conversation, RequestForm
from shoal.benchmarks.workload.plan import Session, Turn
from shoal.errors import ConfigError


def turn(prompt: str | list[int] = "hi", **fields: Any) -> Turn:
    return Turn(prompt=prompt, num_prompt_tokens=1, max_tokens=4, **fields)


def body(conversation: Conversation, of: Turn) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(conversation.body(of))
    return decoded


def test_a_completion_asks_for_exact_lengths_and_counts() -> None:
    conversation = Conversation(RequestForm(model="m"), Session(turns=(turn(),)))
    assert body(conversation, turn()) == {
        "model": "m",
        "prompt": "hi",
        "max_tokens": 4,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_strict_servers_are_not_asked_what_they_do_not_know() -> None:
    form = RequestForm(model="m", ignore_eos=False)
    assert "ignore_eos" not in body(Conversation(form, Session(turns=(turn(),))), turn())


def test_extra_fields_have_the_last_word() -> None:
    form = RequestForm(model="m", extra_body={"temperature": 0.7, "top_p": 0.9})
    sent = body(Conversation(form, Session(turns=(turn(),))), turn())
    assert (sent["temperature"], sent["top_p"]) == (0.7, 0.9)


def test_token_ids_go_out_as_they_are() -> None:
    conversation = Conversation(RequestForm(model="m"), Session(turns=(turn([1, 2]),)))
    assert body(conversation, turn([1, 2]))["prompt"] == [1, 2]


def test_a_chat_carries_everything_said_before() -> None:
    turns = (turn("one"), turn("two", role="tool"))
    session = Session(turns=turns, opening=({"role": "system", "content": "be brief"},))
    conversation = Conversation(RequestForm(model="m", endpoint="chat"), session)
    assert [m["content"] for m in body(conversation, turns[0])["messages"]] == ["be brief", "one"]
    conversation.add_answer("1")
    messages = body(conversation, turns[1])["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool"]
    assert messages[2]["content"] == "1"


def test_a_conversation_as_completions_is_its_texts_in_a_row() -> None:
    turns = (turn(" one"), turn(" two"))
    session = Session(turns=turns, opening=({"role": "system", "content": "S"},))
    conversation = Conversation(RequestForm(model="m"), session)
    assert body(conversation, turns[0])["prompt"] == "S one"
    conversation.add_answer(" 1")
    assert body(conversation, turns[1])["prompt"] == "S one 1 two"


def test_token_ids_are_no_chat() -> None:
    form = RequestForm(model="m", endpoint="chat")
    with pytest.raises(ConfigError, match="completions"):
        Conversation(form, Session(turns=(turn([1]),))).body(turn([1]))


def test_token_ids_have_no_second_turn() -> None:
    session = Session(turns=(turn([1]), turn([2])))
    with pytest.raises(ConfigError, match="text"):
        Conversation(RequestForm(model="m"), session).body(turn([1]))
