"""Command lines of the contestants."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.benchmarks.peers import commands
from shoal.benchmarks.peers.folder import PeersFolder

FOLDER = PeersFolder(Path("/peers"))
NEW_CPU = frozenset({"avx2", "avx512f", "avx512_bf16"})
AMX_CPU = frozenset({"amx_bf16"})
OLD_CPU = frozenset({"avx2"})


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


@pytest.mark.parametrize(
    ("features", "vllm_dtype", "llama_format"),
    [(NEW_CPU, "bfloat16", "bf16"), (AMX_CPU, "bfloat16", "bf16"), (OLD_CPU, "float32", "f16")],
)
def test_the_number_format_is_one_that_the_processor_multiplies(
    features: frozenset[str], vllm_dtype: str, llama_format: str
) -> None:
    vllm = commands.vllm(FOLDER, features=features, num_cores=2)
    assert option(vllm.argv, "--dtype") == vllm_dtype
    llama = commands.llama_cpp(FOLDER, features=features, num_cores=2)
    assert option(llama.argv, "--model") == f"/peers/models/smollm2-{llama_format}.gguf"
    assert vllm_dtype in vllm.settings
    assert llama_format in llama.settings


def test_every_core_works() -> None:
    vllm = commands.vllm(FOLDER, features=OLD_CPU, num_cores=16)
    assert vllm.env["VLLM_CPU_OMP_THREADS_BIND"] == "0-15"
    llama = commands.llama_cpp(FOLDER, features=OLD_CPU, num_cores=16)
    assert option(llama.argv, "--threads") == option(llama.argv, "--threads-batch") == "16"


def test_llama_cpp_has_slots_with_room_for_the_long_prompt() -> None:
    argv = commands.llama_cpp(FOLDER, features=OLD_CPU).argv
    assert int(option(argv, "--ctx-size")) // int(option(argv, "--parallel")) >= 4016
    assert "--no-kv-unified" in argv


def test_only_libraries_that_are_there_are_preloaded(tmp_path: Path) -> None:
    folder = PeersFolder(tmp_path)
    assert "libiomp5" not in commands.vllm(folder, features=OLD_CPU).env["LD_PRELOAD"]
    library = folder.vllm / "lib" / "libiomp5.so"
    library.parent.mkdir(parents=True)
    library.touch()
    assert str(library) in commands.vllm(folder, features=OLD_CPU).env["LD_PRELOAD"]


def test_servers_listen_on_a_port_that_is_chosen_later() -> None:
    for command in (
        commands.shoal(),
        commands.vllm(FOLDER, features=OLD_CPU),
        commands.llama_cpp(FOLDER, features=OLD_CPU),
    ):
        assert option(command.argv, "--port") == "{port}"
        assert command.model in command.argv


def test_openvino_reads_the_gguf_file_itself() -> None:
    command = commands.openvino(FOLDER, Path("/models/some.gguf"))
    assert command.argv[0] == "/peers/openvino/bin/python"
    assert command.argv[-1] == "/models/some.gguf"
    assert Path(command.argv[1]).is_file()


def test_versions_are_those_that_the_installers_pin() -> None:
    assert commands.vllm(FOLDER, features=OLD_CPU).version.startswith("vllm-cpu==")
    assert commands.llama_cpp(FOLDER, features=OLD_CPU).version == "b11434"
    assert commands.openvino(FOLDER, Path("m.gguf")).version.startswith("openvino-genai==")
