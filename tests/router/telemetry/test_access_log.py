from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shoal.router.telemetry.access_log import (
    AccessEntry,
    clean_text,
    format_entries,
    open_access_log,
)


def make_entry(**fields: Any) -> AccessEntry:
    defaults: dict[str, Any] = {
        "ts": 1_800_000_000.123456789,
        "request_id": b"r-1",
        "method": b"POST",
        "path": b"/v1/chat/completions",
        "status": 200,
        "duration_ms": 12.3456789,
    }
    return AccessEntry(**(defaults | fields))


def line(**fields: Any) -> dict[str, Any]:
    (text,) = format_entries([make_entry(**fields)]).splitlines()
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_a_short_entry() -> None:
    assert line() == {
        "ts": 1800000000.123457,
        "request_id": "r-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "duration_ms": 12.346,
    }


def test_a_whole_entry() -> None:
    fields: dict[str, Any] = {
        "tenant": "sales", "key_id": "team-a", "model": "llama", "endpoint": "http://w1",
        "ttft_ms": 0.0, "bytes_in": 1, "bytes_out": 2, "prompt_tokens": 3, "cached_tokens": 1,
        "completion_tokens": 4, "queue_ms": 5.5, "attempts": 2, "failovers": 1,
        "trace_id": "ab" * 16, "error": "queue_full",
    }  # fmt: skip
    written = line(**fields)
    assert {name: written[name] for name in fields} == fields
    assert list(written) == list(AccessEntry.__struct_fields__)


@pytest.mark.parametrize("path", [b"/v1/models?api_key=sk-secret", "/v1/models?api_key=sk-secret"])
def test_a_query_is_not_written(path: str | bytes) -> None:
    assert line(path=path)["path"] == "/v1/models"


@pytest.mark.parametrize("field", ["request_id", "method", "path", "model"])
@pytest.mark.parametrize(
    "evil", ['a\n{"ts":0}', 'a"b', "a\x1b[2Jb", "a\u2028b", "a\x9bb", "x" * 100_000, "\ud800"]
)
def test_clients_write_no_lines_and_no_escapes(field: str, evil: str) -> None:
    for value in (evil, evil.encode("utf-8", "surrogatepass")):
        text = format_entries([make_entry(**{field: value}), make_entry()])
        assert len(text.decode().splitlines()) == 2
        assert len(text) < 2500
        assert text.decode().replace("\n", "").isprintable()


def test_text_of_any_language_stays() -> None:
    assert clean_text("größer 模型") == "größer 模型"


def test_a_log(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    log = open_access_log(str(file))
    for number in range(3):
        log.append(make_entry(request_id=f"r-{number}"))
    log.close()
    ids = [json.loads(text)["request_id"] for text in file.read_text().splitlines()]
    assert ids == ["r-0", "r-1", "r-2"]
