from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shoal.cli import app
from shoal.errors import ConfigError
from shoal.router.access.keys import KEY_PREFIX, key_digest, parse_keys


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def keys(command: str, file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", command, "--file", str(file), *arguments])


def test_add_prints_the_key_and_stores_its_hash_alone(file: Path) -> None:
    done = keys(
        "add", file, "--name", "team-a", "--tenant", "sales", "--model", "llama", "--model", "qwen",
        "--requests-per-minute", "60", "--tokens-per-minute", "9000", "--max-parallel", "4",
        "--priority", "5", "--weight", "2",
    )  # fmt: skip
    assert done.exit_code == 0
    key = done.stdout.strip()
    assert key.startswith(KEY_PREFIX)
    assert len(key) == len(KEY_PREFIX) + 43  # 256 bits in base64
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (entry,) = parse_keys(file.read_bytes())
    assert entry.sha256 == key_digest(key)
    assert entry.name == "team-a"
    assert entry.tenant == "sales"
    assert entry.models == ("llama", "qwen")
    assert entry.requests_per_minute == 60
    assert entry.tokens_per_minute == 9000
    assert entry.max_parallel_requests == 4
    assert entry.priority == 5
    assert entry.weight == 2


def test_each_key_is_another(file: Path) -> None:
    made = {keys("add", file, "--name", f"key-{number}").stdout for number in range(3)}
    assert len(made) == 3
    assert len(parse_keys(file.read_bytes())) == 3


def test_add_keeps_comments_and_the_mode(file: Path) -> None:
    keys("add", file, "--name", "one")
    file.write_text("# ours\n" + file.read_text().rstrip("\n"))
    file.chmod(0o640)
    assert keys("add", file, "--name", "two").exit_code == 0
    assert file.read_text().startswith("# ours\n")
    assert [entry.name for entry in parse_keys(file.read_bytes())] == ["one", "two"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_add_to_a_list_in_another_style(file: Path) -> None:
    file.write_text(f"[{{name: one, sha256: {'a' * 64}}}]\n")
    assert keys("add", file, "--name", "two").exit_code == 0
    assert [entry.name for entry in parse_keys(file.read_bytes())] == ["one", "two"]


def test_a_link_keeps_leading_to_the_file(file: Path, tmp_path: Path) -> None:
    keys("add", file, "--name", "one")
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    keys("add", link, "--name", "two")
    assert link.is_symlink()
    assert len(parse_keys(file.read_bytes())) == 2


def test_a_name_is_given_once(file: Path) -> None:
    keys("add", file, "--name", "team-a")
    before = file.read_bytes()
    again = keys("add", file, "--name", "team-a")
    assert isinstance(again.exception, ConfigError)
    assert "team-a" in str(again.exception)
    assert again.stdout == ""
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "a\nb"], "name must be"),
        (["--name", "a", "--tenant", ""], "tenant must be"),
        (["--name", "a", "--weight", "0"], "weight must be"),
        (["--name", "a", "--weight", "nan"], "weight must be"),
    ],
)
def test_wrong_options(file: Path, arguments: list[str], said: str) -> None:
    done = keys("add", file, *arguments)
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
    assert not file.exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = keys("add", tmp_path / "none" / "keys.yaml", "--name", "a")
    assert isinstance(done.exception, ConfigError)
    assert "none" in str(done.exception)


def test_list(file: Path) -> None:
    keys("add", file, "--name", "a", "--model", "llama", "--tokens-per-minute", "0")
    keys("add", file, "--name", "long-name", "--tenant", "sales", "--priority", "-1")
    assert keys("list", file).stdout == (
        "a          models: llama; tokens/min: no limit\n"
        "long-name  tenant: sales; models: all; priority: -1\n"
    )  # fmt: skip


def test_list_of_a_file_that_is_not_there(file: Path) -> None:
    done = keys("list", file)
    assert isinstance(done.exception, ConfigError)
    assert str(file) in str(done.exception)


def test_remove(file: Path) -> None:
    keys("add", file, "--name", "a")
    keys("add", file, "--name", "b")
    assert keys("remove", file, "--name", "a").exit_code == 0
    assert [entry.name for entry in parse_keys(file.read_bytes())] == ["b"]
    missing = keys("remove", file, "--name", "a")
    assert isinstance(missing.exception, ConfigError)
    assert "'a'" in str(missing.exception)
    assert "b" in str(missing.exception)
    keys("remove", file, "--name", "b")
    assert parse_keys(file.read_bytes()) == []
    assert "No key yet" in keys("list", file).stderr
