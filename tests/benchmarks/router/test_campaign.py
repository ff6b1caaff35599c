"""The whole run, with cases that measure nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from shoal.benchmarks.router import __main__ as program
from shoal.benchmarks.router.campaign import INTERRUPTED, Campaign
from shoal.benchmarks.router.contestants import Contestant
from shoal.benchmarks.router.programs import Programs
from shoal.benchmarks.router.router_result import decode
from shoal.benchmarks.router.stage import Case, Figures, Stage

NO_PROGRAMS = Programs(Path("mock_worker"), Path("load_client"))


def contestant(name: str) -> Contestant:
    return Contestant(name=name, version="1", settings="defaults", command=None)


def case(
    name: str,
    measure: Callable[[Stage, Contestant], Figures],
    *contestants: str,
    repeated: tuple[str, ...] | None = None,
) -> Case:
    return Case(name=name, title=name, contestants=contestants, measure=measure, repeated=repeated)


def campaign_of(*cases: Case, out: Path | None = None, repeats: int = 2) -> Campaign:
    contestants = [contestant("shoal"), contestant("nginx")]
    return Campaign(
        contestants, cases, programs=NO_PROGRAMS, repeats=repeats, quick=True, soak_minutes=0.0,
        left_out={"vllm-router": "not installed"}, out=out, console=Console(file=io.StringIO()),
    )  # fmt: skip


def good(stage: Stage, contestant: Contestant) -> Figures:
    assert stage.folder.is_dir()
    return {"cpu_us_per_request": 123.4567891}


def bad(stage: Stage, contestant: Contestant) -> Figures:
    raise ExceptionGroup("several", [ValueError("one"), ValueError("two")])


def test_a_case_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    campaign = campaign_of(
        case("streams", bad, "shoal"), case("paced", good, "shoal", "nginx"), out=tmp_path
    )
    assert campaign.run() == 1
    saved = decode((tmp_path / "results" / "router.json").read_bytes(), source="test")
    assert saved == campaign.result
    assert [(line.server, line.case, line.repeat, line.error) for line in saved.lines] == [
        ("shoal", "streams", 0, "ValueError: one"), ("shoal", "streams", 1, "ValueError: one"),
        ("shoal", "paced", 0, None), ("nginx", "paced", 0, None),
        ("nginx", "paced", 1, None), ("shoal", "paced", 1, None),
    ]  # fmt: skip
    assert saved.lines[2].figures == {"cpu_us_per_request": 123.457}
    assert "- Left out: vllm-router: not installed" in (tmp_path / "RESULTS.md").read_text()


def test_some_are_measured_in_the_first_repeat_only() -> None:
    campaign = campaign_of(case("hung", good, "shoal", "nginx", repeated=("shoal",)), repeats=3)
    assert campaign.run() == 0
    assert [(line.server, line.repeat) for line in campaign.result.lines] == [
        ("shoal", 0), ("nginx", 0), ("shoal", 1), ("shoal", 2),
    ]  # fmt: skip


def test_a_soak_of_no_minutes_is_left_out() -> None:
    campaign = campaign_of(case("soak", bad, "shoal"))
    assert campaign.run() == 0
    assert campaign.result.lines == []


def test_scratch_folders_are_removed() -> None:
    folders: list[Path] = []

    def remember(stage: Stage, contestant: Contestant) -> Figures:
        folders.append(stage.folder)
        return {}

    campaign_of(case("paced", remember, "shoal")).run()
    assert len(folders) == 2
    assert not any(folder.exists() for folder in folders)


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    def interrupt(stage: Stage, contestant: Contestant) -> Figures:
        raise KeyboardInterrupt

    campaign = campaign_of(
        case("paced", good, "shoal"), case("streams", interrupt, "shoal"), out=tmp_path
    )
    assert campaign.run() == INTERRUPTED
    saved = decode((tmp_path / "results" / "router.json").read_bytes(), source="test")
    assert saved.interrupted
    assert len(saved.lines) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "paced,nothing"], "no case nothing; there are paced, saturation"),
        (["--routers", "traefik"], "no router traefik"),
        (["--repeats", "0"], "--repeats 0"),
    ],
)
def test_wrong_options_are_said_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert program.main(options) == 2
    assert message in capsys.readouterr().err
