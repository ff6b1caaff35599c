from __future__ import annotations

import pytest

from shoal.router.proxy.routes import Route, route, split_target


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        (b"/v1/chat/completions", Route.WORKER),
        (b"/v1/completions", Route.WORKER),
        (b"/v1/embeddings", Route.WORKER),
        (b"/v1/responses", Route.WORKER),
        (b"/v1/responses/resp_1/cancel", Route.WORKER),
        (b"/v1/messages", Route.WORKER),
        (b"/v1/audio/transcriptions", Route.WORKER),
        (b"/v1/rerank", Route.WORKER),
        (b"/v2/rerank", Route.WORKER),
        (b"/rerank", Route.WORKER),
        (b"/tokenize", Route.WORKER),
        (b"/generate", Route.WORKER),
        (b"/v1/models", Route.MODELS),
        (b"/v1/models/org/name", Route.MODELS),
        (b"/v1/models/org%2Fname", Route.MODELS),
        (b"/health", Route.PROBE),
        (b"/ready", Route.PROBE),
        (b"/ping", Route.PROBE),
        (b"/version", Route.PROBE),
        # Operators' routes of workers, and what could be read as one.
        (b"/", Route.NONE),
        (b"/sleep", Route.NONE),
        (b"/metrics", Route.NONE),
        (b"/flush_cache", Route.NONE),
        (b"/update_weights_from_disk", Route.NONE),
        (b"/v1/load_lora_adapter", Route.NONE),
        (b"/v1/unload_lora_adapter", Route.NONE),
        (b"/v2/models/m/infer", Route.NONE),
        (b"/v1", Route.NONE),
        (b"/V1/chat/completions", Route.NONE),
        (b"/v1/../sleep", Route.NONE),
        (b"/v1/./completions", Route.NONE),
        (b"/v1//completions", Route.NONE),
        (b"//v1/completions", Route.NONE),
        (b"/v1/%63ompletions", Route.NONE),
        (b"/v1/completions%00", Route.NONE),
        (b"/v1\\..\\sleep", Route.NONE),
        (b"/v1/load_lora_adapter#", Route.NONE),
        (b"", Route.NONE),
    ],
)
def test_whose_a_path_is(path: bytes, whose: Route) -> None:
    assert route(path) is whose


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/v1/x", b"/v1/x", b""),
        (b"/v1/x?a=b?c", b"/v1/x", b"?a=b?c"),
        (b"http://host/v1/x?a", b"/v1/x", b"?a"),
        (b"https://u:p@host:1/v1/x", b"/v1/x", b""),
        (b"http://host", b"/", b""),
        (b"http://host?a", b"/", b""),
        (b"*", b"/", b""),
    ],
)
def test_targets(target: bytes, path: bytes, query: bytes) -> None:
    assert split_target(target) == (path, query)


@pytest.mark.parametrize("target", [b"/v1/x#y", b"/v1/x?a#y", b"http://host/v1/x#", b"#"])
def test_a_target_with_a_fragment_leads_nowhere(target: bytes) -> None:
    path, query = split_target(target)
    assert route(path) is Route.NONE
    assert query == b""
