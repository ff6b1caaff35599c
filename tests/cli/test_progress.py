from __future__ import annotations

import pytest

from shoal.cli.progress import BarProgress, LineProgress, format_amount, shown_progress


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (14, 272, "14 of 272"),
        (14, None, "14"),
        (0, 98_362_432, "0.0 of 98.4 MB"),
        (98_362_432, 98_362_432, "98.4 of 98.4 MB"),
        (12_345_678, None, "12.3 MB"),
    ],
)
def test_amounts(done: int, total: int | None, text: str) -> None:
    assert format_amount(done, total) == text


def test_a_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    for done in range(3):
        progress.update("loading weights", done, 272)
    progress.update("asking the hub", 0, None)
    progress.close()
    progress.update("after a restart of the core", 0, None)
    assert capsys.readouterr().err == "loading weights (272)\nasking the hub\n"


def test_the_bar_is_wiped_and_stays_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    progress = BarProgress()
    progress.update("loading weights", 136, 272)
    progress.close()
    shown = capsys.readouterr().err
    assert "loading weights" in shown
    assert "136 of 272" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the last thing is that the line is erased
    progress.update("after a restart of the core", 0, None)
    assert capsys.readouterr().err == ""


def test_where_there_is_no_terminal_there_are_lines() -> None:
    assert isinstance(shown_progress(), LineProgress)
