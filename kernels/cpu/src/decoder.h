// One step of a decoder of the Llama family: every layer in one call, on a team of threads.
//
// The residual stream is fp32. Each phase is shared among the threads and ends at a barrier; there
// are six a layer. Floors for a step: the weights once through memory, or the multiply-adds of
// `tiles.h`, whichever takes longer; plus the KV cache of the sequences once.
#pragma once

#include <cmath>
#include <vector>

#include "attention.h"
#include "layer_ops.h"
#include "matmul.h"

namespace shoal {

struct Layer {
  Matrix qkv, output, gate_up, down;  // gate_up: 32 rows of gate, 32 of up, in turns
  const float* input_norm;            // [hidden]
  const float* post_attention_norm;   // [hidden]
  const float* query_norm;            // [head_dim] or null
  const float* key_norm;              // [head_dim] or null
  int32_t group;                      // KV cache group
  int32_t window;                     // 0: none
};

struct Model {
  int32_t hidden, intermediate, num_layers, num_q_heads, num_kv_heads, head_dim;
  float eps;
  const float* inverse_frequencies;  // [head_dim / 2]
  const float* final_norm;           // [hidden]
  Matrix embedding, lm_head;
  const Layer* layers;
};

// The tokens of a step, and where their keys and values live. Sequences are in order of tokens.
struct Step {
  int32_t num_tokens, num_seqs, block_size, kv_bytes;  // kv_bytes: 2 (bf16) or 4 (fp32)
  const int64_t* input_ids;             // [num_tokens]
  const int64_t* positions;             // [num_tokens]
  const int64_t* query_lens;            // [num_seqs]
  const int64_t* const* slot_mapping;   // per KV cache group: [num_tokens]
  const int32_t* const* block_tables;   // per KV cache group: [num_seqs][table_width]
  int32_t table_width;
  void* const* key_caches;              // per layer
  void* const* value_caches;            // per layer
  float* hidden;                        // out: [num_tokens][hidden], after the last norm
};

class Decoder {
 public:
  Decoder(const Model& model, int num_threads)
      : model_(model), layers_(model.layers, model.layers + model.num_layers), team_(num_threads) {}

  void forward(const Step& step) {
    prepare(step);
    team_.run([&] {
      embed(step);
      for (int i = 0; i < model_.num_layers; ++i) {
        if (step.kv_bytes == 4) layer<float>(step, i);
        else layer<bf16>(step, i);
      }
      team_.share(step.num_tokens, 1, [&](int token, int) {
        rms_norm(residual(token), model_.final_norm, model_.hidden, model_.eps,
                 step.hidden + size_t(token) * model_.hidden);
      });
    });
  }

  // hidden: [rows][hidden] -> out: [rows][vocabulary].
  void logits(const float* hidden, int rows, float* out) {
    head_in_.reserve(rows, model_.hidden);
    team_.run([&] { multiply_rows(team_, model_.lm_head, head_in_, hidden, rows, out); });
  }

 private:
  int q_size() const { return model_.num_q_heads * model_.head_dim; }
  int kv_size() const { return model_.num_kv_heads * model_.head_dim; }
  int qkv_size() const { return q_size() + 2 * kv_size(); }
  float* residual(int token) { return residual_.data() + size_t(token) * model_.hidden; }
  float* qkv(int token) { return qkv_.data() + size_t(token) * qkv_size(); }

  // Query tokens of one sequence that attend together.
  struct Span {
    int seq, token, position, num_tokens;
  };

  void prepare(const Step& step) {
    const int n = step.num_tokens, half = model_.head_dim / 2;
    auto grow = [](std::vector<float>& v, size_t count) {
      if (v.size() < count) v.resize(count);
    };
    grow(residual_, size_t(n) * model_.hidden);
    grow(qkv_, size_t(n) * qkv_size());
    grow(cosines_, size_t(n) * half);
    grow(sines_, size_t(n) * half);
    normed_.reserve(n, model_.hidden);
    attended_.reserve(n, q_size());
    gated_.reserve(n, model_.intermediate);
    spans_.clear();
    const int group = model_.num_q_heads / model_.num_kv_heads;
    const int most = group >= 16 ? 4 : 64 / group;  // 64 rows a task
    for (int seq = 0, token = 0; seq < step.num_seqs; ++seq) {
      for (int left = int(step.query_lens[seq]); left > 0;) {
        const int count = left < most ? left : most;
        spans_.push_back({seq, token, int(step.positions[token]), count});
        token += count;
        left -= count;
      }
    }
  }

  void embed(const Step& step) {
    const int half = model_.head_dim / 2;
    team_.share(step.num_tokens, 4, [&](int begin, int end) {
      for (int token = begin; token < end; ++token) {
        unpack_row(model_.embedding, int(step.input_ids[token]), residual(token));
        for (int i = 0; i < half; ++i) {
          const float angle = float(step.positions[token]) * model_.inverse_frequencies[i];
          cosines_[size_t(token) * half + i] = std::cos(angle);
          sines_[size_t(token) * half + i] = std::sin(angle);
        }
      }
    });
  }

  // normed_ = rms_norm(residual) * weight, in the form that the next matrix wants.
  void normalize(const Step& step, const float* weight, int format) {
    team_.share(step.num_tokens, step.num_tokens > 64 ? 8 : 1, [&](int begin, int end) {
      thread_local std::vector<float> row;
      row.resize(model_.hidden);
      for (int token = begin; token < end; ++token) {
        rms_norm(residual(token), weight, model_.hidden, model_.eps, row.data());
        normed_.write(format, token, 0, row.data(), model_.hidden);
      }
    });
  }

  void add_to_residual(const Step& step, const Matrix& m, const Activations& x) {
    matmul<1>(team_, m, x, step.num_tokens, [&](int token, int panel, auto& values) {
      float* to = residual(token);
      each_output(m, panel, values[0], [&](int n, float y) { to[n] += y; });
    });
  }

  template <class T>
  void layer(const Step& step, int index) {
    const Layer& l = layers_[index];
    auto* key_cache = static_cast<T*>(step.key_caches[index]);
    auto* value_cache = static_cast<T*>(step.value_caches[index]);
    const KVLayout kv{step.block_size, model_.num_kv_heads, model_.head_dim};
    const int tokens = step.num_tokens;

    normalize(step, l.input_norm, l.qkv.format);
    matmul<1>(team_, l.qkv, normed_, tokens, [&](int token, int panel, auto& values) {
      float* to = qkv(token);
      each_output(l.qkv, panel, values[0], [&](int n, float y) { to[n] = y; });
    });

    team_.share(tokens, tokens > 64 ? 8 : 1, [&](int begin, int end) {
      for (int token = begin; token < end; ++token) {
        position_heads(l, token);
        float* key = qkv(token) + q_size();
        write_kv(kv, key_cache, value_cache, step.slot_mapping[l.group][token], key,
                 key + kv_size());
      }
    });

    const int spans = int(spans_.size());
    team_.share(spans * model_.num_kv_heads, 1, [&](int task, int) {
      const Span& span = spans_[task / model_.num_kv_heads];
      const int head = task % model_.num_kv_heads;
      const int group = model_.num_q_heads / model_.num_kv_heads;
      float* query = qkv(span.token) + size_t(head) * group * model_.head_dim;
      const AttentionTask attention{
          step.block_tables[l.group] + size_t(span.seq) * step.table_width,
          span.position, span.num_tokens, l.window, head, group,
          1.0f / std::sqrt(float(model_.head_dim))};
      thread_local AttentionScratch scratch;
      // In place: a task's queries are nobody else's.
      attend(kv, key_cache, value_cache, attention, query, query, qkv_size(), scratch);
    });
    team_.share(tokens, tokens > 64 ? 8 : 1, [&](int begin, int end) {
      for (int token = begin; token < end; ++token) {
        attended_.write(l.output.format, token, 0, qkv(token), q_size());
      }
    });
    add_to_residual(step, l.output, attended_);

    normalize(step, l.post_attention_norm, l.gate_up.format);
    matmul<4>(team_, l.gate_up, normed_, tokens, [&](int token, int unit, auto& values) {
      float* gate = values[0];
      float* up = values[2];
      if (l.gate_up.bias) {
        for (int i = 0; i < 4 * kPanel; ++i) gate[i] += l.gate_up.bias[unit * 4 * kPanel + i];
      }
      silu_and_mul(gate, up, kGroup, gate);
      const int left = model_.intermediate - unit * kGroup;
      gated_.write(l.down.format, token, unit, gate, left < kGroup ? left : kGroup);
    });
    add_to_residual(step, l.down, gated_);
  }

  // Norms of query and key heads, where the model has them, and the rotary embedding.
  void position_heads(const Layer& l, int token) {
    const int dim = model_.head_dim, half = dim / 2;
    float* head = qkv(token);
    for (int i = 0; i < model_.num_q_heads + model_.num_kv_heads; ++i, head += dim) {
      const float* norm = i < model_.num_q_heads ? l.query_norm : l.key_norm;
      if (norm) rms_norm(head, norm, dim, model_.eps, head);
      rotate(head, &cosines_[size_t(token) * half], &sines_[size_t(token) * half], half);
    }
  }

  const Model model_;
  const std::vector<Layer> layers_;
  Team team_;
  std::vector<Span> spans_;
  std::vector<float> residual_, qkv_, cosines_, sines_;
  Activations normed_, attended_, gated_, head_in_;
};

}  // namespace shoal
