from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal.errors import ConfigError
from shoal.router.telemetry import line_log
from shoal.router.telemetry.line_log import BATCH_ENTRIES, LineLog


def lines(batch: list[str]) -> bytes:
    return b"".join(entry.encode() + b"\n" for entry in batch)


def make_log(target: Path | str, **options: int) -> LineLog[str]:
    return LineLog(str(target), format_batch=lines, **options)


def wait_until(is_true: Callable[[], object]) -> None:
    """A thread of the log has to do something first."""
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.log"


def test_what_was_appended_is_in_the_file_in_order(file: Path) -> None:
    log = make_log(file)
    expected = [f"line {number}" for number in range(3 * BATCH_ENTRIES + 5)]
    for line in expected:
        log.append(line)
    log.close()
    assert file.read_text().splitlines() == expected
    assert log.dropped == 0


def test_lines_are_written_without_a_close(file: Path) -> None:
    log = make_log(file)
    log.append("one")
    wait_until(lambda: file.read_text() == "one\n")
    log.close()


def test_a_full_batch_is_not_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_log, "FLUSH_S", 3600.0)
    log = make_log(file)
    for number in range(BATCH_ENTRIES):
        log.append(str(number))
    wait_until(lambda: file.read_text().count("\n") == BATCH_ENTRIES)
    log.close()


def test_a_file_is_continued(file: Path) -> None:
    file.write_text("before\n")
    log = make_log(file)
    log.append("after")
    log.close()
    assert file.read_text() == "before\nafter\n"


def test_reopen_follows_a_rename(file: Path, tmp_path: Path) -> None:
    log = make_log(file)
    log.append("one")
    wait_until(lambda: file.read_text() == "one\n")
    rotated = file.rename(tmp_path / "a.log.1")
    log.append("two")
    wait_until(lambda: rotated.read_text() == "one\ntwo\n")
    log.reopen()
    wait_until(file.exists)
    log.append("three")
    log.close()
    assert rotated.read_text() == "one\ntwo\n"
    assert file.read_text() == "three\n"


def test_a_reopen_that_fails_keeps_the_old_file(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = make_log(folder / "a.log")
    moved = folder.rename(tmp_path / "moved")
    log.reopen()
    log.append("one")
    log.close()
    assert (moved / "a.log").read_text() == "one\n"


@pytest.mark.parametrize("target", ["", "none/a.log"])
def test_what_cannot_be_opened_is_an_error_at_once(tmp_path: Path, target: str) -> None:
    with pytest.raises(ConfigError, match="cannot open the log"):
        make_log(tmp_path / target)


def test_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    log = make_log("-")
    log.append("one")
    log.close()
    assert capfd.readouterr().err == "one\n"
    os.fstat(2)  # still open


def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    """Nobody reads the pipe: the thread blocks, the caller does not."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = make_log(pipe, max_pending=100)
    sent = 0
    while log.dropped == 0:
        log.append("x" * 1000)
        sent += 1
        if sent % 50 == 0:
            wait_until(lambda: not log._pending or pipe_is_full(pipe))
    before = log.dropped
    log.append("one more")
    assert log.dropped == before + 1
    log.close(timeout_s=0.01)  # does not wait for the reader
    os.set_blocking(reader, True)
    received = b""
    while chunk := os.read(reader, 65536):
        received += chunk
    os.close(reader)
    assert received.count(b"\n") == sent - before
    assert set(received.splitlines()) == {b"x" * 1000}


def pipe_is_full(pipe: Path) -> bool:
    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [writer], [], 0)[1]
    finally:
        os.close(writer)


def test_lines_of_two_processes_do_not_mix_in_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    logs = [make_log(pipe), make_log(pipe)]
    received = bytearray()

    def read() -> None:
        while chunk := os.read(reader, 4096):
            received.extend(chunk)

    reading = threading.Thread(target=read)
    reading.start()
    for _ in range(2000):
        for name, log in zip("ab", logs, strict=True):
            log.append(name * 777)
    for log in logs:
        log.close()
    reading.join()
    os.close(reader)
    written = bytes(received).splitlines()
    assert sorted(set(written)) == [b"a" * 777, b"b" * 777]
    assert len(written) == 4000
    assert [log.dropped for log in logs] == [0, 0]


def test_a_line_longer_than_a_pipe_takes_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = make_log(pipe)
    for line in ("a", "b" * 10_000, "c"):
        log.append(line)
    log.close()
    assert os.read(reader, 65536) == b"a\n" + b"b" * 10_000 + b"\nc\n"
    os.close(reader)


def test_a_disk_that_was_full(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line got out; the next one that fits begins a line of its own."""
    real, space = os.write, [7, 0]

    def write(fd: int, data: memoryview) -> int:
        if not space or fd != log._fd:
            return real(fd, data)
        if (room := space.pop(0)) == 0:
            raise OSError(28, "No space left on device")
        return real(fd, data[:room])

    log = make_log(file)
    monkeypatch.setattr(os, "write", write)
    log.append("a line that is cut")
    wait_until(lambda: log.dropped == 1)
    log.append("whole")
    log.close()
    assert file.read_text() == "a line \nwhole\n"


def test_an_odd_entry_does_not_end_the_log(file: Path) -> None:
    def fragile(batch: list[str]) -> bytes:
        if "odd" in batch:
            raise TypeError
        return lines(batch)

    log = LineLog(str(file), format_batch=fragile)
    log.append("odd")
    wait_until(lambda: log.dropped == 1)
    log.append("even")
    log.close()
    assert file.read_text() == "even\n"
