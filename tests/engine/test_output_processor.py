"""Tokens of one request to deltas; the tokenizer is one token a byte."""

from __future__ import annotations

from typing import Any, cast

from shoal.engine.core.output import Started, TokenLogprobs
from shoal.engine.core.request import FinishReason
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.output import RequestOutput
from shoal.engine.output_processor import OutputProcessor
from shoal.engine.tokenizer.detokenizer import IncrementalDetokenizer
from shoal.engine.tokenizer.tokenizer import Tokenizer
from tests.engine.fake_core import EOS, ByteTokenizer


def make_processor(**params: Any) -> OutputProcessor:
    detokenizer = IncrementalDetokenizer(
        cast(Tokenizer, ByteTokenizer()),
        list(b"prompt"),
        skip_special_tokens=params.get("skip_special_tokens", True),
    )
    return OutputProcessor(detokenizer, SamplingParams(max_tokens=100, **params))


def feed(
    processor: OutputProcessor, data: bytes, *, last: FinishReason | None = None
) -> list[RequestOutput]:
    """One step a byte, up to the output that ends the request."""
    outputs = []
    for i, token_id in enumerate(data):
        finish_reason = last if i == len(data) - 1 else None
        outputs.append(processor.process([token_id], finish_reason=finish_reason))
        if outputs[-1].finish_reason is not None:
            break
    return outputs


def test_an_incomplete_character_waits_for_its_last_byte() -> None:
    outputs = feed(make_processor(), "aé".encode())
    assert [output.text for output in outputs] == ["a", "", "é"]
    assert [output.token_ids for output in outputs] == [[97], [0xC3], [0xA9]]


def test_what_is_held_back_comes_with_the_end() -> None:
    outputs = feed(make_processor(), b"a\xc3", last=FinishReason.LENGTH)
    assert outputs[-1].text == "�"
    assert outputs[-1].finish_reason == "length"

    outputs = feed(make_processor(stop=("bcd",)), b"abc", last=FinishReason.LENGTH)
    assert [output.text for output in outputs] == ["a", "", "bc"]


def test_end_of_sequence_is_hidden_even_when_special_tokens_are_shown() -> None:
    (output,) = feed(
        make_processor(skip_special_tokens=False), bytes([EOS]), last=FinishReason.STOP
    )
    assert (output.text, output.token_ids, output.stop_reason) == ("", [EOS], None)


def test_a_stop_string_names_itself_and_cuts_the_text() -> None:
    outputs = feed(make_processor(stop=("zz", "cd")), b"abcdef")
    assert "".join(output.text for output in outputs) == "ab"
    assert (outputs[-1].finish_reason, outputs[-1].stop_reason) == ("stop", "cd")
    assert outputs[-1].token_ids == list(b"d")


def test_a_stop_string_can_be_shown() -> None:
    outputs = feed(make_processor(stop=("cd",), include_stop_str_in_output=True), b"abcdef")
    assert "".join(output.text for output in outputs) == "abcd"


def test_stop_strings_are_not_looked_for_before_min_tokens() -> None:
    outputs = feed(make_processor(stop=("ab",), min_tokens=4), b"ababab")
    assert "".join(output.text for output in outputs) == "abab"
    assert len(outputs) == 6


def test_queue_time_and_prompt_logprobs_go_out_once_with_the_first_output() -> None:
    processor = make_processor()
    processor.start(Started(queue_s=0.25, num_cached_tokens=16))
    chunks = [[TokenLogprobs([1], [-0.1], 1)], [TokenLogprobs([2], [-0.2], 1)]]
    for chunk in chunks:
        processor.add_prompt_logprobs(chunk)
    first, second = feed(processor, b"ab")
    assert (first.queue_s, first.num_cached_tokens) == (0.25, 16)
    assert first.prompt_logprobs == [*chunks[0], *chunks[1]]
    assert (second.queue_s, second.num_cached_tokens, second.prompt_logprobs) == (None, 16, [])


def test_an_abort_shows_what_was_held_back() -> None:
    processor = make_processor(stop=("bcd",))
    feed(processor, b"ab")
    output = processor.process([], finish_reason=FinishReason.ABORT)
    assert (output.text, output.token_ids, output.finish_reason) == ("b", [], "abort")
