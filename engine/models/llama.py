"""The Llama family: Llama 2/3.x, SmolLM2, Mistral, Qwen2/2.5 and Qwen3 in one set of modules.

The families differ in three switches of `ModelConfig`: a bias on Q, K and V (Qwen2), RMSNorm on
each query and key head (Qwen3), and sliding windows (Mistral, some Qwen2). Parameter names are
Hugging Face's, but for the merged projections: qkv_proj = [q; k; v], gate_up_proj = [gate; up].

The same modules run on a CPU and on a GPU: what differs is inside the operations of
`shoal.kernels`, and what attention is told about a step (see `paged_kv`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shoal.kernels.gather_rows import gather_rows
from shoal.kernels.rms_norm import fused_add_rms_norm, rms_norm
from shoal.kernels.rope_and_cache import rope_and_cache
from shoal.kernels.silu_and_mul import silu_and_mul

from .config import ModelConfig
from .linear import Linear
from .paged_kv import Batch, LayerKV, Plan, attend, plan_step


def rotation_of(positions: Tensor, inverse_frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin, [num_tokens, head_dim] fp32 each, as `kernels.rotary` wants them.

    Computed for the tokens of a step, once for all layers: a table over a context of 128k
    positions would take 134 MB to save some microseconds.
    """
    angles = positions[:, None].float() * inverse_frequencies
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, eps=self.eps)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_q_heads, self.num_kv_heads = config.num_q_heads, config.num_kv_heads
        self.head_dim = config.head_dim
        self.scale = config.head_dim**-0.5
        self.eps = config.rms_norm_eps
        num_heads = self.num_q_heads + 2 * self.num_kv_heads
        self.qkv_proj = Linear(config.hidden_size, num_heads * self.head_dim, bias=config.qkv_bias)
        self.o_proj = Linear(
            self.num_q_heads * self.head_dim, config.hidden_size, bias=config.output_bias
        )
        if config.qk_norm:
            self.q_norm: RMSNorm | None = RMSNorm(self.head_dim, config.rms_norm_eps)
            self.k_norm: RMSNorm | None = RMSNorm(self.head_dim, config.rms_norm_eps)
        else:
            self.q_norm = self.k_norm = None

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], kv: LayerKV, plan: Plan
    ) -> Tensor:
        query = rope_and_cache(
            self.qkv_proj(x),
            *rotation,
            kv.keys,
            kv.values,
            plan.slot_mapping,
            num_q_heads=self.num_q_heads,
            num_kv_heads=self.num_kv_heads,
            q_norm=None if self.q_norm is None else self.q_norm.weight,
            k_norm=None if self.k_norm is None else self.k_norm.weight,
            eps=self.eps,
            k_scale=kv.k_scale,
            v_scale=kv.v_scale,
        )
        out = attend(query, kv, plan, scale=self.scale)
        projected: Tensor = self.o_proj(out.view(x.shape[0], -1))
        return projected


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_up_proj = Linear(hidden, 2 * inner, bias=config.mlp_bias)
        self.down_proj = Linear(inner, hidden, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.down_proj(silu_and_mul(self.gate_up_proj(x)))
        return projected


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.input_layernorm = RMSNorm(config.hidden_size, self.eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, self.eps)
        self.mlp = MLP(config)

    def forward(
        self,
        update: Tensor | None,
        residual: Tensor,
        rotation: tuple[Tensor, Tensor],
        kv: LayerKV,
        plan: Plan,
    ) -> Tensor:
        """Adds the last layer's update to the residual stream, in place; returns its own update."""
        if update is None:
            x = self.input_layernorm(residual)
        else:
            weight = self.input_layernorm.weight
            x, _ = fused_add_rms_norm(update, residual, weight, eps=self.eps)
        update = self.self_attn(x, rotation, kv, plan)
        weight = self.post_attention_layernorm.weight
        x, _ = fused_add_rms_norm(update, residual, weight, eps=self.eps)
        out: Tensor = self.mlp(x)
        return out


class LlamaModel(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # nn.Embedding would draw random weights, and to do that on the meta device torch imports
        # its compiler: 3 s of start-up time.
        weight = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(weight)  # type: ignore[no-untyped-call]
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class LlamaForCausalLM(nn.Module):
    """Implements `CausalLM`. Weights are uninitialised until `loader.load_model` fills them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = LlamaModel(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.inverse_frequencies: Tensor | None = None
        """[head_dim / 2] fp32, whatever the weights are in."""

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        kv_caches: list[LayerKV],
        batches: Sequence[Batch],
    ) -> Tensor:
        assert self.inverse_frequencies is not None, "load_model sets it"
        rotation = rotation_of(positions, self.inverse_frequencies)
        plans = plan_step(self.config, kv_caches, batches)
        residual = gather_rows(self.model.embed_tokens.weight, input_ids)
        update: Tensor | None = None
        groups = self.config.layer_group
        for layer, kv, group in zip(self.model.layers, kv_caches, groups, strict=True):
            update = layer(update, residual, rotation, kv, plans[group])
        assert update is not None, "a model has layers"
        norm = self.model.norm
        hidden, _ = fused_add_rms_norm(update, residual, norm.weight, eps=norm.eps)
        return hidden

    def compute_logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(hidden)
        return logits
