"""One format for all loggers of the process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from shoal.log import configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def test_json_has_fields_context_and_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("shoal.test").info("request.preempted", num_tokens=3)
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "request.preempted",
        "level": "info",
        "logger": "shoal.test",
        "num_tokens": 3,
        "request_id": "r1",
    }


@pytest.mark.parametrize("name", ["uvicorn.error", "some.library"])
def test_the_standard_library_goes_the_same_way(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    configure_logging("json", level="WARNING")
    logging.getLogger(name).info("quiet")
    logging.getLogger(name).warning("loud %s", 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "loud 1"


@pytest.mark.parametrize(("level", "lines"), [("info", 0), ("debug", 1)])
def test_requests_that_httpx_makes_are_told_when_debugging_alone(
    capsys: pytest.CaptureFixture[str], level: str, lines: int
) -> None:
    configure_logging("json", level=level)
    logging.getLogger("httpx").info("HTTP Request: GET http://worker/metrics")
    assert len(capsys.readouterr().err.splitlines()) == lines


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_exceptions_have_tracebacks_without_values(
    capsys: pytest.CaptureFixture[str], log_format: Literal["console", "json"]
) -> None:
    configure_logging(log_format)
    prompt = "".join(["my ", "secret"])
    try:
        raise KeyError("lost")
    except KeyError:
        structlog.get_logger("shoal.test").exception("fault", num_chars=len(prompt))
    text = capsys.readouterr().err
    assert "KeyError: 'lost'" in text
    assert "my secret" not in text


def test_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console", level="debug")
    structlog.get_logger("shoal.test").debug("request.preempted", num_tokens=3)
    assert "request.preempted" in capsys.readouterr().err


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="loudest"):
        configure_logging("json", level="loudest")
