// One step of a decoder of the Llama family: every layer in one call, on a team of threads.
//
// The residual stream is fp32. Each phase is shared among the threads and ends at a barrier; there
// are seven a layer. Floors for a step: the weights once through memory, or the multiply-adds of
// `tiles.h`, whichever takes longer; plus the KV cache of the sequences once.
#pragma once

#include <atomic>
#include <cmath>
#include <memory>
#include <vector>

#include "attention.h"
#include "buffer.h"
#include "layer_ops.h"
#include "matmul.h"
#include "sampling.h"

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
  int32_t num_tokens, num_seqs;
  KVLayout kv;
  const int64_t* input_ids;             // [num_tokens]
  const int64_t* positions;             // [num_tokens]
  const int64_t* query_lens;            // [num_seqs]
  const int64_t* const* slot_mapping;   // per KV cache group: [num_tokens]
  const int32_t* const* block_tables;   // per KV cache group: [num_seqs][table_width]
  int32_t table_width;
  uint8_t* const* key_caches;           // per layer: where its keys are in block 0
  uint8_t* const* value_caches;         // per layer
};

constexpr int kLogitRows = 64;  // rows of logits in memory at once

class Decoder {
 public:
  Decoder(const Model& model, int num_threads)
      : model_(model), layers_(model.layers, model.layers + model.num_layers), team_(num_threads) {}

  // Compute a step and choose what follows some of its tokens, unless `sampling` is null. The hidden
  // states stay until the next step.
  void step(const Step& step, const Sampling* sampling) {
    prepare(step);
    if (sampling) reserve_logits(sampling->num_rows);
    team_.run([&] {
      embed(step);
      for (int i = 0; i < model_.num_layers; ++i) layer(step, i);
      if (!sampling) return;
      each_logits(sampling->tokens, sampling->num_rows, [&](int row, float* logits) {
        thread_local SamplingScratch scratch;
        sample_row(*sampling, row, logits, model_.lm_head.rows, scratch);
      });
    });
  }

  // out[rows][vocabulary] of tokens of the last step.
  void logits(const int64_t* tokens, int rows, float* out) {
    const size_t vocabulary = model_.lm_head.rows;
    reserve_logits(rows);
    team_.run([&] {
      each_logits(tokens, rows, [&](int row, const float* logits) {
        std::memcpy(out + row * vocabulary, logits, vocabulary * sizeof(float));
      });
    });
  }

  // Log-probabilities of given tokens; ids, values: [rows][1 + num_top].
  void logprobs(const int64_t* tokens, const int32_t* targets, int rows, int num_top, int32_t* ids,
                float* values, int32_t* ranks) {
    reserve_logits(rows);
    team_.run([&] {
      each_logits(tokens, rows, [&](int row, float* logits) {
        const size_t at = size_t(row) * (1 + num_top);
        ranks[row] = report_logprobs(logits, model_.lm_head.rows, targets[row], num_top, ids + at,
                                     values + at);
      });
    });
  }

 private:
  // Query tokens of one sequence that attend together. Their keys may be split among threads: what
  // each split of each KV head contributes lies at parts_[part] then.
  struct Span {
    int seq, token, position, num_tokens, num_splits;
    size_t part;

    int last_split() const { return (position + num_tokens - 1) / kSplitKeys; }
  };
  struct Work {
    int span, split, head;
  };

  int q_size() const { return model_.num_q_heads * model_.head_dim; }
  int group() const { return model_.num_q_heads / model_.num_kv_heads; }
  float* residual(int64_t token) { return residual_.data() + size_t(token) * model_.hidden; }
  float* query(int token) { return query_.data() + size_t(token) * q_size(); }

  void prepare(const Step& step) {
    const int n = step.num_tokens, half = model_.head_dim / 2;
    reserve(residual_, size_t(n) * model_.hidden);
    reserve(query_, size_t(n) * q_size());
    reserve(cosines_, size_t(n) * half);
    reserve(sines_, size_t(n) * half);
    normed_.reserve(n, model_.hidden);
    attended_.reserve(n, q_size());
    gated_.reserve(n, model_.intermediate);
    divide_attention(step);
    const size_t counters = spans_.size() * model_.num_kv_heads;
    if (num_counters_ < counters) {
      finished_ = std::make_unique<std::atomic<int>[]>(counters);
      num_counters_ = counters;
    }
  }

  void divide_attention(const Step& step) {
    spans_.clear();
    work_.clear();
    const int most = group() >= 32 ? 4 : 128 / group();  // 128 rows a task
    for (int seq = 0, token = 0; seq < step.num_seqs; ++seq) {
      for (int left = int(step.query_lens[seq]); left > 0;) {
        const int count = left < most ? left : most;
        spans_.push_back({seq, token, int(step.positions[token]), count, 1, 0});
        token += count;
        left -= count;
      }
    }
    // A long decode among short ones, or one chunk alone, would leave threads idle.
    const bool are_few = spans_.size() * model_.num_kv_heads < size_t(8 * team_.size());
    size_t floats = 0;
    int most_splits = 1;
    for (Span& span : spans_) {
      if (span.num_tokens == 1 || are_few) span.num_splits = span.last_split() + 1;
      if (span.num_splits > most_splits) most_splits = span.num_splits;
      span.part = floats;
      if (span.num_splits == 1) continue;
      const size_t size = AttentionPart::size(span.num_tokens * group(), model_.head_dim);
      floats += size * span.num_splits * model_.num_kv_heads;
    }
    reserve(parts_, floats);
    // Sequences that share a prefix read the same piece of it one after another, out of the cache.
    for (int split = 0; split < most_splits; ++split) {
      for (int head = 0; head < model_.num_kv_heads; ++head) {
        for (int i = 0; i < int(spans_.size()); ++i) {
          if (split < spans_[i].num_splits) work_.push_back({i, split, head});
        }
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

  void layer(const Step& step, int index) {
    const Layer& l = layers_[index];
    normalize(step.num_tokens, l.input_norm, l.qkv.format);
    project_heads(step, l, index);
    attention(step, l, index);
    add_to_residual(step.num_tokens, l.output, attended_);
    normalize(step.num_tokens, l.post_attention_norm, l.gate_up.format);
    gate_and_up(step.num_tokens, l);
    add_to_residual(step.num_tokens, l.down, gated_);
  }

  // normed_ = rms_norm(residual) * weight, in the form that the next matrix wants.
  void normalize(int tokens, const float* weight, int format) {
    team_.share(tokens, tokens > 64 ? 8 : 1, [&](int begin, int end) {
      for (int token = begin; token < end; ++token) {
        write_normed(residual(token), weight, format, token, normed_);
      }
    });
  }

  void write_normed(const float* x, const float* weight, int format, int row, Activations& to) {
    thread_local Buffer<float> normed;
    reserve(normed, size_t(model_.hidden));
    rms_norm(x, weight, model_.hidden, model_.eps, normed.data());
    to.write(format, row, 0, normed.data(), model_.hidden);
  }

  // Queries, with their norm and position, to query_; keys and values to the cache.
  void project_heads(const Step& step, const Layer& l, int index) {
    const KVLayout& kv = step.kv;
    const int dim = model_.head_dim, half = dim / 2, q_heads = model_.num_q_heads;
    const int64_t* slots = step.slot_mapping[l.group];
    auto take = [&](int token, int head, float* x) {
      if (l.qkv.bias) add_bias(l.qkv.bias + head * dim, dim, x);
      if (head >= q_heads + model_.num_kv_heads) {
        if (kv.is_quantized()) hadamard(x, dim);
        const int kv_head = head - q_heads - model_.num_kv_heads;
        return write_value(kv, step.value_caches[index], slots[token], kv_head, x);
      }
      const float* norm = head < q_heads ? l.query_norm : l.key_norm;
      if (norm) rms_norm(x, norm, dim, model_.eps, x);
      rotate(x, &cosines_[size_t(token) * half], &sines_[size_t(token) * half], half);
      if (kv.is_quantized()) hadamard(x, dim);
      if (head < q_heads) {
        std::memcpy(query(token) + size_t(head) * dim, x, dim * sizeof(float));
      } else {
        write_key(kv, step.key_caches[index], slots[token], head - q_heads, x);
      }
    };
    matmul(team_, l.qkv, normed_, step.num_tokens, dim / kPanel,
           [&](int token, int rows, int head, float* x) {
             for (int end = token + rows; token < end; ++token, x += dim) take(token, head, x);
           });
  }

  void attention(const Step& step, const Layer& l, int index) {
    const KVLayout& kv = step.kv;
    const uint8_t *keys = step.key_caches[index], *values = step.value_caches[index];
    // A task's outputs are whole groups of activations, or are made into them later.
    const bool is_whole = group() * model_.head_dim % kGroup == 0;
    team_.share(int(work_.size()), 1, [&](int item, int) {
      const Work& work = work_[item];
      const Span& span = spans_[work.span];
      const AttentionTask task{
          step.block_tables[l.group] + size_t(span.seq) * step.table_width,
          span.position, span.num_tokens, l.window, work.head, group(),
          1.0f / std::sqrt(float(model_.head_dim))};
      attend(kv, keys, values, task, span, work.split, l.output.format, is_whole);
    });
    if (is_whole) return;
    team_.share(step.num_tokens, 1, [&](int token, int) {
      attended_.write(l.output.format, token, 0, query(token), q_size());
    });
  }

  // One task of attention: all keys, or one split of them; the last split to end puts them together.
  void attend(const KVLayout& kv, const uint8_t* keys, const uint8_t* values,
              const AttentionTask& task, const Span& span, int split, int format, bool is_whole) {
    thread_local AttentionScratch scratch;
    const int dim = kv.head_dim, rows = task.rows();
    const size_t part_size = AttentionPart::size(rows, dim);
    gather_queries(task, query(span.token) + size_t(task.kv_head) * task.group * dim, q_size(), dim,
                   scratch);
    AttentionPart all = AttentionPart::at(scratch.parts.data(), rows, dim);
    if (span.num_splits == 1) {
      const int first = task.first_split(), end = first + task.num_splits();
      const AttentionPart next = AttentionPart::at(scratch.parts.data() + part_size, rows, dim);
      attend_split(kv, keys, values, task, first, scratch, all);
      for (int i = first + 1; i < end; ++i) {
        attend_split(kv, keys, values, task, i, scratch, next);
        all.merge(next, rows, dim);
      }
    } else {
      auto part = [&](int i) {
        const size_t place = size_t(i) * kv.num_kv_heads + task.kv_head;
        return AttentionPart::at(parts_.data() + span.part + place * part_size, rows, dim);
      };
      attend_split(kv, keys, values, task, split, scratch, part(split));
      auto& finished = finished_[size_t(&span - spans_.data()) * kv.num_kv_heads + task.kv_head];
      if (finished.fetch_add(1, std::memory_order_acq_rel) + 1 < span.num_splits) return;
      finished.store(0, std::memory_order_relaxed);
      all = part(0);
      for (int i = 1; i < span.num_splits; ++i) all.merge(part(i), rows, dim);
    }
    for (int r = 0; r < rows; ++r) {
      const float factor = 1.0f / all.sum_of_weights(r);
      float* out = all.out + size_t(r) * dim;
      for (int i = 0; i < dim; i += kLanes) store(out + i, load(out + i) * factor);
      if (kv.is_quantized()) hadamard(out, dim);
    }
    const int width = task.group * dim;  // of a token's outputs
    for (int t = 0; t < task.num_tokens; ++t) {
      const float* out = all.out + size_t(t) * width;
      if (is_whole) {
        attended_.write(format, span.token + t, task.kv_head * width / kGroup, out, width);
      } else {
        std::memcpy(query(span.token + t) + size_t(task.kv_head) * width, out, width * sizeof(float));
      }
    }
  }

  void add_to_residual(int tokens, const Matrix& m, const Activations& x) {
    matmul(team_, m, x, tokens, 1, [&](int token, int rows, int panel, float* values) {
      const PanelOutputs o(m, panel);
      for (int end = token + rows; token < end; ++token, values += kPanel) {
        if (m.bias) add_bias(m.bias + o.begin, o.count, values);
        float* to = residual(token) + o.begin;
        if (o.count == kPanel) {
          for (int i = 0; i < kPanel; i += kLanes) store(to + i, load(to + i) + load(values + i));
        } else {
          for (int i = 0; i < o.count; ++i) to[i] += values[i];
        }
      }
    });
  }

  void gate_and_up(int tokens, const Layer& l) {
    constexpr int kUnit = 2 * kGroup / kPanel, kWidth = 2 * kGroup;
    matmul(team_, l.gate_up, normed_, tokens, kUnit, [&](int token, int rows, int unit, float* x) {
      const int left = model_.intermediate - unit * kGroup;
      // In two loops, so that the processor works on several rows at once.
      for (int r = 0; r < rows; ++r) {
        float* gate = x + r * kWidth;
        if (l.gate_up.bias) add_bias(l.gate_up.bias + unit * kWidth, kWidth, gate);
        silu_and_mul(gate, gate + kGroup, kGroup, gate);
      }
      for (int r = 0; r < rows; ++r) {
        gated_.write(l.down.format, token + r, unit, x + r * kWidth, left < kGroup ? left : kGroup);
      }
    });
  }

  void reserve_logits(int rows) {
    const int most = rows < kLogitRows ? rows : kLogitRows;
    head_in_.reserve(most, model_.hidden);
    reserve(logits_, size_t(most) * model_.lm_head.rows);
  }

  // Inside `run`: calls `use(row, logits)` for each row, whose logits it may overwrite.
  template <class Use>
  void each_logits(const int64_t* tokens, int rows, Use&& use) {
    for (int begin = 0; begin < rows; begin += kLogitRows) {
      const int count = rows - begin < kLogitRows ? rows - begin : kLogitRows;
      team_.share(count, 1, [&](int row, int) {
        write_normed(residual(tokens[begin + row]), model_.final_norm, model_.lm_head.format, row,
                     head_in_);
      });
      multiply(team_, model_.lm_head, head_in_, count, logits_.data());
      team_.share(count, 1, [&](int row, int) {
        use(begin + row, logits_.data() + size_t(row) * model_.lm_head.rows);
      });
    }
  }

  const Model model_;
  const std::vector<Layer> layers_;
  Team team_;
  std::vector<Span> spans_;
  std::vector<Work> work_;
  std::unique_ptr<std::atomic<int>[]> finished_;  // splits that have ended, of each span and KV head
  size_t num_counters_ = 0;
  Buffer<float> residual_, query_, cosines_, sines_, parts_, logits_;
  Activations normed_, attended_, gated_, head_in_;
};

}  // namespace shoal
