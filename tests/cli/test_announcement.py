from __future__ import annotations

import json
import shlex

import pytest

from shoal.cli.announcement import announcement, base_url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8123"),
        ("0.0.0.0", "http://127.0.0.1:8123"),
        ("::", "http://[::1]:8123"),
        ("fe80::1", "http://[fe80::1]:8123"),
        ("models.example.com", "http://models.example.com:8123"),
    ],
)
def test_the_address_can_be_used_as_it_stands(host: str, url: str) -> None:
    assert base_url(host, 8123) == url


def curl_of(text: str) -> list[str]:
    """The arguments that a shell would give to curl."""
    command = text.split("\n\n")[1].replace("\\\n", "")
    return shlex.split(command)


def test_the_curl_line_is_a_chat_in_valid_json() -> None:
    text = announcement(
        "http://127.0.0.1:8000", model="it's small", has_chat_template=True, needs_key=False
    )
    curl, url, *options = curl_of(text)
    assert (curl, url) == ("curl", "http://127.0.0.1:8000/v1/chat/completions")
    assert options[:2] == ["-H", "Content-Type: application/json"]
    body = json.loads(options[options.index("-d") + 1])
    assert body["model"] == "it's small"
    assert body["messages"][0]["role"] == "user"
    assert "Authorization" not in text


def test_a_base_model_is_shown_a_completion_and_keys_a_header() -> None:
    text = announcement("http://h:1", model="base", has_chat_template=False, needs_key=True)
    arguments = curl_of(text)
    assert arguments[1] == "http://h:1/v1/completions"
    assert "Authorization: Bearer $SHOAL_API_KEY" in arguments
    assert "prompt" in json.loads(arguments[-1])
