"""`/tokenize` and `/detokenize`."""

from __future__ import annotations

import httpx
import pytest


async def test_a_text_there_and_back(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/tokenize", json={"prompt": "hé", "model": "fake"})).json()
    assert answer == {
        "count": 3,
        "max_model_len": 1000,
        "tokens": [104, 195, 169],
        "token_strs": None,
    }
    back = await client.post("/detokenize", json={"tokens": answer["tokens"]})
    assert back.json() == {"prompt": "hé"}


async def test_token_strs(client: httpx.AsyncClient) -> None:
    response = await client.post("/tokenize", json={"prompt": "hi", "return_token_strs": True})
    assert response.json()["token_strs"] == ["h", "i"]


async def test_a_conversation_is_what_chat_would_read(client: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": "hi"}]
    response = await client.post("/tokenize", json={"messages": messages})
    assert bytes(response.json()["tokens"]).decode() == "user: hi<|end|>\nassistant: "


async def test_long_texts_are_tokenized_on_a_thread(client: httpx.AsyncClient) -> None:
    response = await client.post("/tokenize", json={"prompt": "x" * 50_000})
    assert response.json()["count"] == 50_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"prompt": "a", "messages": []}),
        ("/tokenize", {"messages": []}),
        ("/detokenize", {}),
        ("/detokenize", {"tokens": [257]}),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": "abc"}),
    ],
)
async def test_wrong_bodies(client: httpx.AsyncClient, path: str, body: object) -> None:
    assert (await client.post(path, json=body)).status_code == 400
