"""The architectures Shoal serves, by the names that Hugging Face and GGUF give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shoal.errors import UnsupportedModel

Windows = tuple[int | None, ...]


def _no_windows(config: dict[str, Any], num_layers: int) -> Windows:
    return ()


def _mistral_windows(config: dict[str, Any], num_layers: int) -> Windows:
    window = config.get("sliding_window")
    return (window,) * num_layers if window else ()


def _qwen_windows(config: dict[str, Any], num_layers: int) -> Windows:
    """Layers from `max_window_layers` on have the window, if it is switched on at all."""
    if not config.get("use_sliding_window") or not config.get("sliding_window"):
        return ()
    types = config.get("layer_types")
    if types is None:
        first = config.get("max_window_layers", num_layers)
        types = ["full_attention" if i < first else "sliding_attention" for i in range(num_layers)]
    windows = {"full_attention": None, "sliding_attention": config["sliding_window"]}
    if unknown := set(types) - set(windows):
        raise UnsupportedModel(f"unknown layer types {sorted(unknown)}; known: {sorted(windows)}")
    return tuple(windows[kind] for kind in types)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What sets a family apart from plain Llama."""

    name: str
    qkv_bias: bool = False
    qk_norm: bool = False
    windows: Callable[[dict[str, Any], int], Windows] = _no_windows


LLAMA = Family(name="Llama 2/3.x, SmolLM2")
MISTRAL = Family(name="Mistral", windows=_mistral_windows)
QWEN2 = Family(name="Qwen2/2.5", qkv_bias=True, windows=_qwen_windows)
QWEN3 = Family(name="Qwen3", qk_norm=True, windows=_qwen_windows)

HF_ARCHITECTURES = {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": MISTRAL,
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN3,
}
GGUF_ARCHITECTURES = {"llama": LLAMA, "mistral": MISTRAL, "qwen2": QWEN2, "qwen3": QWEN3}


def family_of_hf(config: dict[str, Any]) -> Family:
    """The family of a config.json. Raises UnsupportedModel with the list of what there is."""
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else "(none named)"
    if name not in HF_ARCHITECTURES:
        raise _unsupported("architecture", name, HF_ARCHITECTURES)
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise UnsupportedModel(f"activation {activation!r} is not supported; supported: silu")
    if quantization := config.get("quantization_config"):
        method = quantization.get("quant_method", "unknown")
        raise UnsupportedModel(
            f"safetensors quantized with {method!r} are not supported; supported: unquantized"
            f" safetensors, and GGUF files"
        )
    return HF_ARCHITECTURES[name]


def family_of_gguf(metadata: dict[str, Any]) -> Family:
    """The family of a GGUF file. Raises UnsupportedModel with the list of what there is."""
    name = str(metadata.get("general.architecture", "(none named)"))
    if name not in GGUF_ARCHITECTURES:
        raise _unsupported("GGUF architecture", name, GGUF_ARCHITECTURES)
    if num_experts := metadata.get(f"{name}.expert_count"):
        raise UnsupportedModel(f"{name} with {num_experts} experts is not supported, dense is")
    return GGUF_ARCHITECTURES[name]


def _unsupported(what: str, name: str, known: dict[str, Family]) -> UnsupportedModel:
    listed = ", ".join(f"{key} ({family.name})" for key, family in known.items())
    return UnsupportedModel(f"{what} {name!r} is not supported; supported: {listed}")
