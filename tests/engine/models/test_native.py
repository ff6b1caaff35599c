"""The native CPU kernels: every family against `transformers`, GGUF files, and bad checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType
from safetensors.torch import load_file, save_file

from shoal.engine.models.config import load_config
from shoal.engine.models.native_llama import NativeLlama, unsupported_by_kernels
from shoal.engine.models.native_loader import load_native_model
from shoal.engine.models.native_weights import Precision, weight_precision
from shoal.engine.sources.model_files import ModelFiles
from shoal.errors import UnsupportedModel
from shoal.kernels.cpu.kv_cache import KV_BITS, KVFormat
from tests.engine.models.drive import native_logits_in_chunks
from tests.engine.models.test_gguf import write_gguf
from tests.engine.models.test_parity import FAMILIES, TINY, save_reference
from tests.kernels.cpu_library import INSTRUCTION_SETS, kernels

SIZES = {**TINY, "hidden_size": 64, "head_dim": 16}
"""Heads of 16 dimensions; intermediate size and vocabulary are no multiples of anything."""

TOKENS = torch.randint(101, (83,), generator=torch.Generator().manual_seed(1)).tolist()
EXACT_SETS = [name for name in INSTRUCTION_SETS if not name.startswith("avx512_bf16")]
"""Those that multiply bf16 weights by fp32 activations."""


def load(
    path: Path, *, isa: str = INSTRUCTION_SETS[0], precision: Precision = "checkpoint"
) -> NativeLlama:
    kind: Any = "gguf" if path.suffix == ".gguf" else "hf"
    files = ModelFiles(name="tiny", path=path, format=kind, source=str(path))
    return load_native_model(
        files, load_config(files), kernels(isa), precision=precision, num_threads=2
    )


def save_bf16(name: str, folder: Path) -> Any:
    """A reference whose matrices lose nothing as bf16."""
    reference = save_reference(name, folder, sizes=SIZES)
    for parameter in reference.parameters():
        parameter.data = parameter.data.bfloat16().float()
    reference.save_pretrained(folder)
    return reference


def expected_logits(reference: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = reference(torch.tensor([TOKENS])).logits[0]
    assert logits.abs().max() > 0.5  # a comparison of zeros would prove nothing
    return logits


@pytest.mark.parametrize("isa", EXACT_SETS)
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_transformers(name: str, isa: str, tmp_path: Path) -> None:
    expected = expected_logits(save_bf16(name, tmp_path))
    model = load(tmp_path, isa=isa)
    for chunks in ([83], [5, 1, 56, 21], [9] + [1] * 74):
        logits = native_logits_in_chunks(model, TOKENS, chunks)
        torch.testing.assert_close(logits, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("kv_format", KV_BITS)
@pytest.mark.parametrize("precision", ["checkpoint", "int8"])
def test_however_a_prompt_is_cut_the_logits_are_the_same(
    isa: str, kv_format: KVFormat, precision: Precision, tmp_path: Path
) -> None:
    save_bf16("qwen2 with mixed layers", tmp_path)
    model = load(tmp_path, isa=isa, precision=precision)
    options: Any = {"block_size": 32, "kv_format": kv_format}
    whole = native_logits_in_chunks(model, TOKENS, [83], **options)
    for chunks in ([1] * 83, [32, 32, 19], [7, 70, 6]):
        assert torch.equal(native_logits_in_chunks(model, TOKENS, chunks, **options), whole)


@pytest.mark.parametrize("isa", EXACT_SETS)
@pytest.mark.parametrize("name", ["smollm2", "qwen2 with mixed layers"])
def test_long_contexts_are_split_and_put_together(name: str, isa: str, tmp_path: Path) -> None:
    """1,300 tokens are three splits: a decode's may be worked on by several threads."""
    reference = save_bf16(name, tmp_path)
    tokens = torch.randint(101, (1_300,), generator=torch.Generator().manual_seed(2)).tolist()
    model = load(tmp_path, isa=isa)
    whole = native_logits_in_chunks(model, tokens, [1_300])
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(whole, expected, atol=2e-3, rtol=0)
    for chunks in ([1_299, 1], [511, 1, 1, 510, 1, 276], [1_000] + [1] * 300):
        assert torch.equal(native_logits_in_chunks(model, tokens, chunks), whole)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_a_quantized_kv_cache_errs_by_its_step(isa: str, tmp_path: Path) -> None:
    """A code of 4 bits is 17 times as coarse as one of 8; large random weights amplify both."""
    save_bf16("llama 3", tmp_path)
    model = load(tmp_path, isa=isa)
    exact = native_logits_in_chunks(model, TOKENS, [40, 1, 42])

    def error(kv_format: KVFormat) -> float:
        logits = native_logits_in_chunks(model, TOKENS, [40, 1, 42], kv_format=kv_format)
        return float((logits - exact).norm() / exact.norm())

    assert 0.001 < error("int8") < 0.03
    assert 8 < error("int4") / error("int8") < 34


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_quantizing_stays_close(isa: str, tmp_path: Path) -> None:
    expected = expected_logits(save_bf16("llama 3", tmp_path))
    model = load(tmp_path, isa=isa, precision="int8")
    logits = native_logits_in_chunks(model, TOKENS, [83], kv_format="bfloat16")
    assert (logits - expected).norm() < 0.12 * expected.norm()  # large random weights amplify


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_gguf_files(kind: str, tmp_path: Path) -> None:
    sizes = {**SIZES, "intermediate_size": 96}  # rows of whole 32-value blocks
    reference = save_reference("smollm2", tmp_path, sizes=sizes)
    write_gguf(tmp_path / "m.gguf", reference, "llama", GGMLQuantizationType[kind])
    expected = expected_logits(reference)  # of the values as the file has them
    logits = native_logits_in_chunks(load(tmp_path / "m.gguf"), TOKENS, [40, 1, 42])
    assert (logits - expected).norm() < 0.12 * expected.norm()
    in_bf16 = load(tmp_path / "m.gguf", precision="bfloat16")
    logits = native_logits_in_chunks(in_bf16, TOKENS, [83])
    assert (logits - expected).norm() < 0.02 * expected.norm()


def test_codes_stay_codes_and_floats_become_what_is_asked_for(tmp_path: Path) -> None:
    sizes = {**SIZES, "intermediate_size": 96}
    reference = save_reference("smollm2", tmp_path, sizes=sizes)
    write_gguf(tmp_path / "m.gguf", reference, "llama", GGMLQuantizationType.Q4_1)

    def formats(path: Path, precision: Precision) -> set[int]:
        layers = load(path, precision=precision).weights.layers
        return {m.struct.format for y in layers for m in (y.qkv, y.output, y.gate_up, y.down)}

    assert formats(tmp_path / "m.gguf", "checkpoint") == {4}
    assert formats(tmp_path / "m.gguf", "int8") == {4}
    assert formats(tmp_path / "m.gguf", "bfloat16") == {16}
    assert formats(tmp_path, "checkpoint") == {16}
    assert formats(tmp_path, "int8") == {8}


def test_settings_and_weights() -> None:
    assert weight_precision("auto", None) == "checkpoint"
    assert weight_precision("bfloat16", None) == "bfloat16"
    assert weight_precision("auto", "int8") == "int8"


def test_shapes_that_the_kernels_have_not(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path, sizes={**SIZES, "head_dim": 24})
    files = ModelFiles(name="tiny", path=tmp_path, format="hf", source="")
    config = load_config(files)
    assert "head_dim is 24" in (unsupported_by_kernels(config, block_size=16) or "")
    save_reference("llama 2", tmp_path, sizes=SIZES)
    config = load_config(files)
    assert "block_size is 24" in (unsupported_by_kernels(config, block_size=24) or "")
    assert unsupported_by_kernels(config, block_size=32) is None


def test_bad_checkpoints_are_named(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path, sizes=SIZES)
    path = tmp_path / "model.safetensors"
    good = load_file(path)
    broken: dict[str, tuple[str, torch.Tensor | None]] = {
        "lacks model.layers.1.mlp.up_proj.weight": ("model.layers.1.mlp.up_proj.weight", None),
        "has a tensor 'model.extra'": ("model.extra", torch.zeros(1)),
        r"'model.norm.weight' has shape \[3\], expected \[64\]": (
            "model.norm.weight", torch.zeros(3),
        ),
        "'model.norm.weight' holds int8": (
            "model.norm.weight", torch.zeros(64, dtype=torch.int8),
        ),
    }  # fmt: skip
    for message, (name, tensor) in broken.items():
        changed = {key: value for key, value in good.items() if key != name}
        save_file(changed if tensor is None else {**changed, name: tensor}, path)
        with pytest.raises(UnsupportedModel, match=message):
            load(tmp_path)
