"""GGUF files written here, quantized and not, against their Hugging Face twins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from torch import Tensor

from shoal.engine.models.config import load_config
from shoal.engine.models.gguf_weights import ROPE_FREQS, hf_name, read_floats
from shoal.engine.models.loader import load_model
from shoal.engine.sources.gguf_metadata import GGUFTensor
from shoal.engine.sources.model_files import ModelFiles
from shoal.errors import UnsupportedModel
from tests.engine.models.drive import CPU, logits_in_chunks
from tests.engine.models.test_parity import save_reference

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, module = stem.split(".", 3)
        return f"blk.{layer}.{GGUF_NAMES[module]}.{kind}"
    return f"{GGUF_NAMES[stem]}.{kind}"


def permute(rows: Tensor, num_heads: int) -> Tensor:
    """llama.cpp's order of Q and K rows: the two halves of each head interleaved."""
    halves = rows.reshape(num_heads, 2, -1, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape)


def write_gguf(
    path: Path, reference: Any, arch: str, kind: GGMLQuantizationType, *,
    extra: dict[str, np.ndarray] | None = None, leave_out: str | None = None,
) -> None:  # fmt: skip
    """Write a model; `reference` then holds the values as the file can represent them."""
    config = reference.config
    writer = GGUFWriter(str(path), arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tied = config.tie_word_embeddings
    for name, parameter in reference.named_parameters():
        if name == leave_out or (tied and name == "lm_head.weight"):
            continue
        stored = parameter.data.numpy()
        this = kind if stored.ndim == 2 else GGMLQuantizationType.F32
        data = quantize(stored, this)
        parameter.data.copy_(torch.from_numpy(dequantize(data, this).copy()))
        if arch == "llama" and ".q_proj.weight" in name:
            data = permute(torch.from_numpy(data), config.num_attention_heads).numpy()
        elif arch == "llama" and ".k_proj.weight" in name:
            data = permute(torch.from_numpy(data), config.num_key_value_heads).numpy()
        writer.add_tensor(gguf_name(name), data, raw_dtype=this)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load(path: Path) -> Any:
    files = ModelFiles(name="tiny", path=path, format="gguf", source=str(path))
    return load_model(files, load_config(files), dtype=torch.float32, device=CPU)


def assert_same_logits(path: Path, reference: Any) -> None:
    with torch.inference_mode():
        expected = reference(torch.tensor([TOKENS])).logits[0]
    logits = logits_in_chunks(load(path), TOKENS, [4, 1, 6])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_types_are_dequantized(kind: str, tmp_path: Path) -> None:
    reference = save_reference("llama 2", tmp_path)
    # Rows of whole 32-value blocks: widen what is not.
    if kind.startswith("Q"):
        reference = _with_whole_blocks(tmp_path)
    write_gguf(tmp_path / "m.gguf", reference, "llama", GGMLQuantizationType[kind])
    assert_same_logits(tmp_path / "m.gguf", reference)


def _with_whole_blocks(folder: Path) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.engine.models.test_parity import TINY

    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**{**TINY, "intermediate_size": 64})).eval()


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"])
def test_types_that_only_llama_cpp_writes(kind: str) -> None:
    """Row by row through the gguf package is the same as our one long row."""
    quantization = GGMLQuantizationType[kind]
    block_size, type_size = GGML_QUANT_SIZES[quantization]
    rows, blocks, start = 19, 3, 64
    # Bytes below 0x3C make every fp16 scale a finite number.
    data = np.random.default_rng(0).integers(0, 0x3C, start + rows * blocks * type_size, np.uint8)
    info = GGUFTensor("t", (rows, blocks * block_size), quantization, start)
    expected = dequantize(data[start:].reshape(rows, -1), quantization)
    np.testing.assert_array_equal(read_floats(data, info), expected)


@pytest.mark.parametrize(("family", "arch"), [("qwen2", "qwen2"), ("qwen3", "qwen3")])
def test_other_families_are_not_permuted(family: str, arch: str, tmp_path: Path) -> None:
    reference = save_reference(family, tmp_path)
    write_gguf(tmp_path / "m.gguf", reference, arch, GGMLQuantizationType.F32)
    assert_same_logits(tmp_path / "m.gguf", reference)


def test_without_an_output_tensor_the_head_is_the_embedding(tmp_path: Path) -> None:
    reference = save_reference("smollm2", tmp_path)
    write_gguf(tmp_path / "m.gguf", reference, "llama", GGMLQuantizationType.F32)
    assert_same_logits(tmp_path / "m.gguf", reference)


def test_llama3_factors_come_as_a_tensor(tmp_path: Path) -> None:
    reference = save_reference("llama 3", tmp_path)
    scaled = reference.model.rotary_emb.inv_freq.numpy()
    theta = reference.config.rope_parameters["rope_theta"]
    plain = 1.0 / theta ** (np.arange(0, 8, 2, dtype=np.float32) / 8)
    factors = (plain / scaled).astype(np.float32)
    path = tmp_path / "m.gguf"
    write_gguf(
        path, reference, "llama", GGMLQuantizationType.F32, extra={ROPE_FREQS: factors}
    )  # fmt: skip
    assert_same_logits(path, reference)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    reference = save_reference("llama 2", tmp_path)
    missing = "model.layers.1.mlp.up_proj.weight"
    write_gguf(
        tmp_path / "m.gguf", reference, "llama", GGMLQuantizationType.F32, leave_out=missing
    )  # fmt: skip
    with pytest.raises(UnsupportedModel, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight"):
        load(tmp_path / "m.gguf")


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    reference = save_reference("llama 2", tmp_path)
    path = tmp_path / "m.gguf"
    write_gguf(path, reference, "llama", GGMLQuantizationType.F32)
    path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(UnsupportedModel, match="cut off"):
        load(path)


def test_factors_of_another_length_are_refused(tmp_path: Path) -> None:
    reference = save_reference("llama 2", tmp_path)
    extra = {ROPE_FREQS: np.ones(3, np.float32)}
    path = tmp_path / "m.gguf"
    write_gguf(path, reference, "llama", GGMLQuantizationType.F32, extra=extra)
    with pytest.raises(
        UnsupportedModel, match=r"rope_freqs\.weight has shape \[3\], expected \[4\]"
    ):
        load(path)


@pytest.mark.parametrize(
    ("shape", "type_id", "message"),
    [
        ((4, 33), GGMLQuantizationType.Q8_0, "not whole Q8_0 blocks of 32"),
        ((0,), GGMLQuantizationType.F32, "not whole F32 blocks"),
        ((), GGMLQuantizationType.Q4_0, "not whole Q4_0 blocks"),
        ((2**40, 2**20), GGMLQuantizationType.F32, "ends past the file: it is cut off"),
        ((4,), 9_999, "has unknown type 9999"),
        ((4,), GGMLQuantizationType.I32, "I32, which the gguf package cannot dequantize"),
    ],
)
def test_tensors_that_cannot_be_read_are_named(
    shape: tuple[int, ...], type_id: int, message: str
) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        read_floats(np.zeros(1_000, np.uint8), GGUFTensor("blk.0.x", shape, type_id, offset=0))
    assert "'blk.0.x'" in str(caught.value)
    assert message in str(caught.value)


def test_names_that_have_no_counterpart_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"blk\.0\.ssm_in\.weight"):
        hf_name("blk.0.ssm_in.weight")
