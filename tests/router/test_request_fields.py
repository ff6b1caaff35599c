"""The router looks at a body; it does not judge it."""

from __future__ import annotations

import pytest

from shoal.errors import InvalidRequest
from shoal.router.request_fields import ABSENT, decode_fields, is_given


def test_the_prompt_stays_the_bytes_it_is() -> None:
    fields = decode_fields(b'{"model": "m", "messages": [ {"role": "user"} ], "stream": true}')
    assert fields.model == "m"
    assert fields.stream is True
    assert bytes(fields.messages) == b'[ {"role": "user"} ]'
    assert fields.prompt is ABSENT


def test_types_a_worker_might_accept_are_passed_on() -> None:
    fields = decode_fields(b'{"temperature": "0.5", "n": null, "max_tokens": [], "unknown": 1}')
    assert fields.temperature == "0.5"
    assert fields.n is None


def test_the_last_of_two_equal_keys_counts() -> None:
    assert decode_fields(b'{"model": "a", "model": "b"}').model == "b"


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"{}", False), (b'{"tools": null}', False), (b'{"tools": []}', True)],
)
def test_given_means_there_and_not_null(body: bytes, expected: bool) -> None:
    assert is_given(decode_fields(body).tools) is expected


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": 1}', b'{"model": ""}', b"\xff"])
def test_what_cannot_be_routed_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_fields(body)
