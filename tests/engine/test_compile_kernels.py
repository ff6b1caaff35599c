from __future__ import annotations

from pathlib import Path

import pytest

from shoal.engine import compile_kernels


def test_it_says_where_the_library_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\nfor last; do :; done\necho done > "$last"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "cache"))
    assert compile_kernels.main() == 0
    assert Path(capsys.readouterr().out.strip()).read_text() == "done\n"


def test_without_a_compiler_it_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path))
    assert compile_kernels.main() == 1
    assert "looked for no-such-compiler" in capsys.readouterr().err
