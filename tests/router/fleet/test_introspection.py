"""Answers of workers, decoded."""

from __future__ import annotations

import pytest

from shoal.router.core.types import EngineKind
from shoal.router.fleet.introspection import (
    KVEventSource,
    decode_kv_event_source,
    decode_models,
    engine_of_page,
)

from .builders import models


def test_models_and_adapters() -> None:
    told = decode_models(models("llama", "llama-3", adapters=("sql",)))
    assert told is not None
    assert told.names == ("llama", "llama-3", "sql")
    assert told.adapters == ("sql",)


@pytest.mark.parametrize(
    ("owner", "engine"),
    [
        ("shoal", EngineKind.SHOAL),
        ("vllm", EngineKind.VLLM),
        ("sglang", EngineKind.SGLANG),
        ("acme", None),
    ],
)
def test_an_owner_tells_the_engine(owner: str, engine: EngineKind | None) -> None:
    told = decode_models(models("m", owned_by=owner))
    assert told is not None
    assert told.engine is engine


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"data": []}',
        b'{"data": [{"id": ""}]}',
        b'{"data": [{"id": 3}]}',
        b"\xff",
    ],
)
def test_no_models_is_not_an_empty_list_of_them(body: bytes) -> None:
    assert decode_models(body) is None


@pytest.mark.parametrize(
    ("body", "source"),
    [
        (
            b'{"enable_kv_cache_events": true, "endpoint": "tcp://*:1", "replay_endpoint": "tcp://*:2",'
            b' "publisher": "zmq", "block_size": 16}',
            KVEventSource("tcp://*:1", "tcp://*:2", 16),
        ),
        (
            b'{"enable_kv_cache_events": true, "endpoint": "tcp://*:1", "replay_endpoint": null}',
            KVEventSource("tcp://*:1", None, 0),
        ),
        (b'{"enable_kv_cache_events": false, "endpoint": "tcp://*:1"}', None),
        (b'{"enable_kv_cache_events": true, "endpoint": null}', None),
        (b"not found", None),
        (
            b'{"0": {"enable_kv_cache_events": true, "endpoint": "tcp://*:1", "buffer_steps": 9}}',
            KVEventSource("tcp://*:1", None, 0),
        ),
        (b'{"0": {"enable_kv_cache_events": false, "endpoint": "tcp://*:1"}}', None),
        (
            b'{"0": {"enable_kv_cache_events": true, "endpoint": "tcp://*:1"},'
            b' "1": {"enable_kv_cache_events": true, "endpoint": "tcp://*:2"}}',
            None,
        ),
        (b"{}", None),
    ],
)
def test_where_kv_events_are(body: bytes, source: KVEventSource | None) -> None:
    assert decode_kv_event_source(body) == source


@pytest.mark.parametrize(
    ("page", "engine"),
    [
        (b"# x\nvllm:a 1\nshoal:b 2\n", EngineKind.SHOAL),
        (b"# x\nvllm:a 1\n", EngineKind.VLLM),
        (b"# x\nsglang:a 1\n", EngineKind.SGLANG),
        (b"# vllm:a\nother 1\n", None),
    ],
)
def test_names_on_a_page_tell_the_engine(page: bytes, engine: EngineKind | None) -> None:
    assert engine_of_page(page) is engine
