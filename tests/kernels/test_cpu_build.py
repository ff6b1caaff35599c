"""Choosing an instruction set, compiling once, and doing without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shoal.kernels.cpu.build import NoCompiler, compiled
from shoal.kernels.cpu.isa import GENERIC, supported, supported_here

ZEN3 = frozenset({"avx2", "fma", "f16c", "sse4_2"})
ICE_LAKE = ZEN3 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}
ZEN4 = ICE_LAKE | {"avx512_bf16"}


@pytest.mark.parametrize(
    ("features", "machine", "best"),
    [
        (ZEN4, "x86_64", "avx512_bf16"),
        (ICE_LAKE, "x86_64", "avx512_vnni"),
        (ZEN3, "x86_64", "avx2"),
        (frozenset({"sse2"}), "x86_64", "generic"),
        (ZEN3 - {"f16c"}, "x86_64", "generic"),
        (frozenset({"asimd"}), "aarch64", "generic"),
        (ZEN4, "aarch64", "generic"),
    ],
)
def test_the_best_set_that_the_cpu_has(features: frozenset[str], machine: str, best: str) -> None:
    found = supported(features, machine)
    assert found[0].name == best
    assert found[-1] is GENERIC


def test_cpuinfo_that_is_not_there(tmp_path: Path) -> None:
    assert supported_here(tmp_path / "cpuinfo") == [GENERIC]


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that writes its arguments where the library should go."""
    script = tmp_path / "c++"
    script.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" > "$last"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    return script


def test_it_is_compiled_once(compiler: Path, tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    first = compiled(GENERIC, cache)
    assert "shoal_cpu.cpp" in first.read_text()
    first.write_text("kept")
    assert compiled(GENERIC, cache).read_text() == "kept"
    assert list(cache.iterdir()) == [first]  # nothing half done is left beside it


def test_flags_and_compiler_are_part_of_its_name(compiler: Path, tmp_path: Path) -> None:
    first = compiled(GENERIC, tmp_path)
    assert compiled(GENERIC, tmp_path) == first
    compiler.write_text(compiler.read_text() + "# another version\n")
    assert compiled(GENERIC, tmp_path) != first


@pytest.mark.usefixtures("compiler")
def test_every_process_finds_what_another_has_compiled(tmp_path: Path) -> None:
    """The order of a set of names is another one in each process."""
    program = (
        "import sys; from pathlib import Path; from shoal.kernels.cpu.build import compiled;"
        "from shoal.kernels.cpu.isa import INSTRUCTION_SETS;"
        "print(compiled(INSTRUCTION_SETS[0], Path(sys.argv[1])))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "cache")],
            env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, check=True,
        ).stdout
        for seed in range(4)
    }  # fmt: skip
    assert len(found) == 1


@pytest.mark.usefixtures("compiler")
def test_what_a_killed_compilation_left_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / "build-old", tmp_path / "build-new"
    for folder in (old, new):
        folder.mkdir()
    long_ago = time.time() - 3_600
    os.utime(old, (long_ago, long_ago))
    compiled(GENERIC, tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.usefixtures("compiler")
def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoCompiler, match="no place for the compiled kernels"):
        compiled(GENERIC, tmp_path / "file" / "cache")


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCompiler, match=r"looked for g\+\+ and clang\+\+"):
        compiled(GENERIC, tmp_path)
    monkeypatch.setenv("CXX", "icpx")
    with pytest.raises(NoCompiler, match="looked for icpx"):
        compiled(GENERIC, tmp_path)


def test_a_compiler_that_fails_is_quoted(compiler: Path, tmp_path: Path) -> None:
    compiler.write_text("#!/bin/sh\necho 'unknown flag -std=c++20' >&2\nexit 1\n")
    with pytest.raises(NoCompiler, match=r"unknown flag -std=c\+\+20"):
        compiled(GENERIC, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
