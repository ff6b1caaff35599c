"""`/v1/completions` in process, against the fake engine."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.engine.server.events import events_of
from tests.engine.server.fake_engine import REPLY, FakeEngine


async def complete(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/v1/completions", json={"model": "fake", "prompt": "hi", **body})


async def test_answer_has_the_shape_of_openai(client: httpx.AsyncClient) -> None:
    answer = (await complete(client, max_tokens=5)).json()
    assert answer.pop("id").startswith("cmpl-")
    assert answer.pop("created") > 1_700_000_000
    assert answer == {
        "object": "text_completion",
        "model": "fake",
        "choices": [
            {
                "index": 0,
                "text": "Hello",
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
        "usage": {
            "prompt_tokens": 2,
            "completion_tokens": 5,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("hi", [[104, 105]]),
        (["hi", "é"], [[104, 105], [195, 169]]),
        ([1, 2, 3], [[1, 2, 3]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
async def test_prompt_takes_four_forms(
    client: httpx.AsyncClient, engine: FakeEngine, prompt: Any, expected: list[list[int]]
) -> None:
    response = await complete(client, prompt=prompt, max_tokens=2)
    assert response.status_code == 200
    assert engine.prompts == expected
    assert [choice["index"] for choice in response.json()["choices"]] == list(range(len(expected)))


@pytest.mark.parametrize("prompt", [[], ["a", 1], [["a"]], [1, [2]], {"a": 1}, None, 7, [-1]])
async def test_other_prompts_are_refused(client: httpx.AsyncClient, prompt: Any) -> None:
    response = await complete(client, prompt=prompt)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("prompt")


async def test_sampling_fields_reach_the_engine(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "repetition_penalty": 1.1,
        "seed": 42,
        "min_tokens": 1,
        "ignore_eos": True,
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "max_tokens": 3,
    }
    response = await complete(
        client, **fields, logit_bias={"65": -100}, stop=["a", "b"], stop_token_ids=[9]
    )
    assert response.status_code == 200
    (params,) = engine.params
    assert {name: getattr(params, name) for name in fields} == fields
    assert params.logit_bias == {65: -100.0}
    assert params.stop == ("a", "b")
    assert params.stop_token_ids == (9,)


async def test_null_means_the_default_and_unknown_fields_are_tolerated(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    response = await complete(
        client, temperature=None, n=None, stop=None, logit_bias=None, top_k=-1, no_such_field=[1]
    )
    assert response.status_code == 200
    (params,) = engine.params
    assert (params.temperature, params.top_k, params.max_tokens) == (1.0, 0, 16)


async def test_n_choices_have_seeds_of_their_own(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    answer = (await complete(client, prompt=["a", "b"], n=3, seed=5, max_tokens=2)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3, 4, 5]
    assert sorted(params.seed or 0 for params in engine.params) == [5, 5, 6, 6, 7, 7]
    assert answer["usage"]["prompt_tokens"] == 2
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 4


@pytest.mark.parametrize(("n", "prompts"), [(0, 1), (-1, 1), (129, 1), (2, 65)])
async def test_n_is_bounded(client: httpx.AsyncClient, n: int, prompts: int) -> None:
    response = await complete(client, prompt=["a"] * prompts, n=n)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "n")


async def test_stream_adds_up_to_the_whole_answer(client: httpx.AsyncClient) -> None:
    whole = (await complete(client, max_tokens=20)).json()["choices"][0]
    *chunks, done = events_of(await complete(client, max_tokens=20, stream=True))
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["text"]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


async def test_half_characters_are_not_sent_as_empty_chunks(client: httpx.AsyncClient) -> None:
    *chunks, _ = events_of(await complete(client, max_tokens=9, stream=True))
    assert [chunk["choices"][0]["text"] for chunk in chunks] == [*"Hello, w", "\ufffd"]
    assert all(chunk["choices"][0]["text"] for chunk in chunks)


async def test_stream_of_several_choices(client: httpx.AsyncClient) -> None:
    *chunks, _ = events_of(
        await complete(client, prompt=["a", "b"], n=2, max_tokens=5, stream=True)
    )
    texts = ["", "", "", ""]
    for chunk in chunks:
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["text"]
    assert texts == ["Hello"] * 4


@pytest.mark.parametrize("continuous", [False, True])
async def test_stream_usage(client: httpx.AsyncClient, continuous: bool) -> None:
    options = {"include_usage": True, "continuous_usage_stats": continuous}
    *chunks, usage, done = events_of(
        await complete(client, max_tokens=3, stream=True, stream_options=options)
    )
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 3
    assert [chunk.get("usage", {}).get("completion_tokens") for chunk in chunks] == (
        [1, 2, 3] if continuous else [None] * 3
    )


async def test_logprobs_are_columns(client: httpx.AsyncClient) -> None:
    answer = (await complete(client, max_tokens=2, logprobs=1)).json()
    assert answer["choices"][0]["logprobs"] == {
        "text_offset": [0, 1],
        "token_logprobs": [-0.5, -0.5],
        "tokens": ["H", "e"],
        "top_logprobs": [{"H": -0.5}, {"e": -0.5}],
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_echo_repeats_the_prompt_with_its_logprobs(
    client: httpx.AsyncClient, stream: bool
) -> None:
    response = await complete(client, max_tokens=2, logprobs=0, echo=True, stream=stream)
    answers = events_of(response)[:-1] if stream else [response.json()]
    choices = [answer["choices"][0] for answer in answers]
    assert "".join(choice["text"] for choice in choices) == "hiHe"
    columns: dict[str, list[Any]] = {}
    for choice in choices:
        for name, column in choice["logprobs"].items():
            columns.setdefault(name, []).extend(column)
    assert columns["tokens"] == ["h", "i", "H", "e"]
    assert columns["text_offset"] == [0, 1, 2, 3]
    assert columns["token_logprobs"] == [None, -0.5, -0.5, -0.5]


async def test_echo_of_token_ids_is_their_text(client: httpx.AsyncClient) -> None:
    answer = (await complete(client, prompt=[104, 105], max_tokens=1, echo=True)).json()
    assert answer["choices"][0]["text"] == "hiH"


async def test_prompt_logprobs_in_the_shape_of_vllm(client: httpx.AsyncClient) -> None:
    answer = (await complete(client, max_tokens=1, prompt_logprobs=2)).json()
    assert answer["choices"][0]["prompt_logprobs"] == [
        None,
        {
            "105": {"logprob": -0.5, "rank": 1, "decoded_token": "i"},
            "106": {"logprob": -1.5, "rank": 2, "decoded_token": "j"},
        },
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"logprobs": 99}, "logprobs"),
        ({"stop": [1]}, "stop[0]"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 500}}, "logit_bias"),
        ({"seed": 2**70}, "seed"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guided_json": {}}, "guided_json"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, engine: FakeEngine, body: dict[str, Any], param: str
) -> None:
    response = await complete(client, **body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert engine.params == []


async def test_best_of_n_is_no_wish(client: httpx.AsyncClient) -> None:
    assert (await complete(client, best_of=2, n=2)).status_code == 200


async def test_too_long_a_prompt_is_refused_with_both_numbers(client: httpx.AsyncClient) -> None:
    response = await complete(client, prompt="x" * 1000)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["message"].count("1000") == 2


async def test_too_many_tokens_are_refused_with_the_numbers(client: httpx.AsyncClient) -> None:
    response = await complete(client, prompt="x" * 900, max_tokens=101)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert all(number in error["message"] for number in ("900", "101", "1001", "1000"))


async def test_default_max_tokens_shrinks_to_the_room_left(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    assert (await complete(client, prompt="x" * 990)).status_code == 200
    assert engine.params[0].max_tokens == 10


async def test_nothing_is_left_running(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    await complete(client, max_tokens=len(REPLY), n=4)
    await complete(client, max_tokens=len(REPLY), n=4, stream=True)
    assert engine.running == set()


async def test_token_ids_on_demand(client: httpx.AsyncClient) -> None:
    (choice,) = (await complete(client, max_tokens=3, return_token_ids=True)).json()["choices"]
    assert choice["prompt_token_ids"] == [104, 105]
    assert choice["token_ids"] == list(b"Hel")


async def test_streamed_token_ids_are_complete(client: httpx.AsyncClient) -> None:
    """Tokens that show no text yet (half of "ö") have a chunk too."""
    response = await complete(client, max_tokens=12, stream=True, return_token_ids=True)
    chunks = [event["choices"][0] for event in events_of(response)[:-1]]
    assert chunks[0]["prompt_token_ids"] == [104, 105]
    assert all("prompt_token_ids" not in chunk for chunk in chunks[1:])
    told = [token_id for chunk in chunks for token_id in chunk["token_ids"]]
    assert bytes(told) == REPLY.encode()[:12]
    assert [chunk["text"] for chunk in chunks if not chunk["text"]] == [""]


async def test_an_output_offset_reaches_the_engine(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await complete(client, prompt=[1, 2, 3], max_tokens=1, shoal_output_offset=2)
    assert engine.params[-1].output_offset == 2
    refused = await complete(client, prompt=[1, 2, 3], shoal_output_offset=-1)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "shoal_output_offset"
