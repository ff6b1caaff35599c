"""Prompts from a file: sent as they are, or refused with the line that does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shoal.benchmarks.workload.lengths import Fixed, parse_lengths
from shoal.benchmarks.workload.plan import Session, Workload
from shoal.benchmarks.workload.prompt_file import holds_messages, read_prompts
from shoal.benchmarks.workload.spec import WorkloadSpec, build_workload
from shoal.errors import ConfigError
from tests.benchmarks.workload.toy import make_pool


def write(folder: Path, *lines: str | dict[str, Any]) -> Path:
    path = folder / "prompts.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def make(path: Path, **spec: Any) -> Workload:
    return build_workload(WorkloadSpec(kind="jsonl", path=str(path), **spec), make_pool())


def one(folder: Path, line: dict[str, Any]) -> Session:
    (session,) = read_prompts(write(folder, line), Fixed(9))
    return session


def test_text_goes_out_unchanged(tmp_path: Path) -> None:
    session = one(tmp_path, {"prompt": "Grüße, 世界 \n", "max_tokens": 5, "id": 3})
    (turn,) = session.turns
    assert turn.prompt == "Grüße, 世界 \n"
    assert turn.max_tokens == 5
    assert turn.num_prompt_tokens is None, "nobody has counted them"
    assert session.opening == ()
    assert session.num_opening_tokens is None


def test_token_ids_are_counted(tmp_path: Path) -> None:
    (turn,) = one(tmp_path, {"prompt": [5, 6, 7]}).turns
    assert turn.prompt == [5, 6, 7]
    assert turn.num_prompt_tokens == 3
    assert turn.max_tokens == 9


def test_the_last_message_is_the_turn_and_the_others_come_before_it(tmp_path: Path) -> None:
    before = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
              {"role": "assistant", "content": ""}]  # fmt: skip
    session = one(tmp_path, {"messages": [*before, {"role": "user", "content": "And?"}]})
    assert list(session.opening) == before
    (turn,) = session.turns
    assert (turn.role, turn.prompt, turn.num_prompt_tokens) == ("user", "And?", None)


def test_each_line_once_in_order_blank_lines_aside(tmp_path: Path) -> None:
    workload = make(write(tmp_path, {"prompt": "a"}, "", {"prompt": "b"}, "  ", {"prompt": "c"}))
    assert workload.num_sessions == 3
    assert [workload.session(index).turns[0].prompt for index in range(3)] == ["a", "b", "c"]
    assert workload.start_times() is None


def test_lengths_that_the_file_does_not_give_are_drawn_for_each_line(tmp_path: Path) -> None:
    path = write(tmp_path, *({"prompt": "a"} for _ in range(50)))
    sessions = list(read_prompts(path, parse_lengths("uniform:1-1000"), seed=1))
    again = list(read_prompts(path, parse_lengths("uniform:1-1000"), seed=1))
    other = list(read_prompts(path, parse_lengths("uniform:1-1000"), seed=2))
    assert sessions == again
    assert sessions != other
    assert len({session.turns[0].max_tokens for session in sessions}) > 40


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "is not JSON"),
        ('{"prompt": "a"', "is not JSON"),
        ("[]", "the file needs an object a line"),
        ("5", "the file needs an object a line"),
        ({}, "the file needs an object a line"),
        ({"prompt": "a", "messages": []}, "the file needs an object a line"),
        ({"prompt": ""}, "neither text nor a list of token ids"),
        ({"prompt": []}, "neither text nor a list of token ids"),
        ({"prompt": None}, "neither text nor a list of token ids"),
        ({"prompt": 7}, "neither text nor a list of token ids"),
        ({"prompt": ["a"]}, "neither text nor a list of token ids"),
        ({"prompt": [1, True]}, "neither text nor a list of token ids"),
        ({"prompt": [1, -1]}, "neither text nor a list of token ids"),
        ({"messages": []}, "messages must be objects"),
        ({"messages": "a"}, "messages must be objects"),
        ({"messages": ["a"]}, "messages must be objects"),
        ({"messages": [{"role": "user"}]}, "messages must be objects"),
        ({"messages": [{"role": "user", "content": [1]}]}, "messages must be objects"),
        ({"messages": [{"content": "a"}]}, "messages must be objects"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "the last message",
        ),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens is 0, not a whole number above 0"),
        ({"prompt": "a", "max_tokens": True}, "max_tokens is True"),
        ({"prompt": "a", "max_tokens": "5"}, "max_tokens is '5'"),
        ({"prompt": "a", "max_tokens": 1.5}, "max_tokens is 1.5"),
        ({"prompt": "a", "max_tokens": None}, "max_tokens is None"),
    ],
)
def test_a_line_that_does_not_fit_is_named(
    tmp_path: Path, line: str | dict[str, Any], message: str
) -> None:
    path = write(tmp_path, {"prompt": "good"}, "", line)
    with pytest.raises(ConfigError, match=message) as refusal:
        make(path)
    assert f"{path}, line 3" in str(refusal.value)


def test_files_without_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no prompts; it needs an object a line"):
        make(write(tmp_path, "", ""))
    with pytest.raises(ConfigError, match=r"cannot read .*absent.jsonl"):
        make(tmp_path / "absent.jsonl")
    with pytest.raises(ConfigError, match="cannot read"):
        make(tmp_path)
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(ConfigError, match="cannot read"):
        make(binary)
    with pytest.raises(ConfigError, match="needs a file: --prompts FILE"):
        build_workload(WorkloadSpec(kind="jsonl"), make_pool())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([{"messages": [{"role": "user", "content": "hi"}]}], True),
        (["", {"messages": []}, {"prompt": "a"}], True),
        ([{"prompt": "a"}, {"messages": []}], False),
        (["no JSON"], False),
        ([""], False),
    ],
)
def test_a_file_of_messages_is_known_by_its_first_line(
    tmp_path: Path, lines: list[str | dict[str, Any]], expected: bool
) -> None:
    assert holds_messages(write(tmp_path, *lines)) is expected


def test_a_file_that_is_not_there_holds_no_messages(tmp_path: Path) -> None:
    assert not holds_messages(tmp_path / "none.jsonl")
