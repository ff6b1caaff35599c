// Attention over the paged KV cache, for decodes and prefill chunks alike.
//
// A block holds, for each KV head, its keys as [head_dim][block_size] and its values as
// [block_size][head_dim]: scores of neighbouring keys are then neighbouring lanes, and nothing is
// summed across a register. The query heads that share a KV head are rows of one small matrix
// (Ainslie et al., 2023); the softmax runs online over tiles of 32 keys (Milakov and Gimelshein,
// 2018; Dao et al., 2022). Tiles begin at multiples of 32 from the first key, so a row's result
// does not depend on how its prompt was cut into chunks.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "matrix.h"
#include "simd.h"
#include "tiles.h"

namespace shoal {

constexpr int kKeyTile = 32;
constexpr int kRowTile = 4;

struct KVLayout {
  int32_t block_size;  // a multiple of 16
  int32_t num_kv_heads;
  int32_t head_dim;  // a multiple of 16

  size_t head_size() const { return size_t(block_size) * head_dim; }
  size_t block_stride() const { return head_size() * num_kv_heads; }
};

// Write one token's keys and values, [num_kv_heads][head_dim] each, to its slot.
template <class T>
void write_kv(const KVLayout& kv, T* key_cache, T* value_cache, int64_t slot, const float* key,
              const float* value) {
  auto convert = [](float x) {
    if constexpr (sizeof(T) == 4) return x;
    else return to_bf16(x);
  };
  const size_t base = size_t(slot / kv.block_size) * kv.block_stride();
  const int offset = int(slot % kv.block_size);
  for (int head = 0; head < kv.num_kv_heads; ++head) {
    T* keys = key_cache + base + head * kv.head_size();
    T* values = value_cache + base + head * kv.head_size() + size_t(offset) * kv.head_dim;
    for (int i = 0; i < kv.head_dim; ++i) {
      keys[size_t(i) * kv.block_size + offset] = convert(key[head * kv.head_dim + i]);
      values[i] = convert(value[head * kv.head_dim + i]);
    }
  }
}

// Scratch memory of one thread.
struct AttentionScratch {
  std::vector<float> query, keys, values, scores, out, top, total;

  void reserve(int rows, int head_dim) {
    const int padded = (rows + kRowTile - 1) / kRowTile * kRowTile;
    auto grow = [](std::vector<float>& v, size_t n) {
      if (v.size() < n) v.resize(n);
    };
    grow(query, size_t(padded) * head_dim);
    grow(out, size_t(padded) * head_dim);
    grow(scores, size_t(padded) * kKeyTile);
    grow(top, padded);
    grow(total, padded);
    grow(keys, size_t(kKeyTile) * head_dim);
    grow(values, size_t(kKeyTile) * head_dim);
  }
};

// Tokens of one sequence and one KV head.
struct AttentionTask {
  const int32_t* block_table;
  int first_position;   // of the first of the query tokens
  int num_tokens;       // query tokens, neighbours in the sequence
  int window;           // keys that a token sees, itself included; 0: all before it
  int kv_head;
  int group;            // query heads that share the KV head
  float scale;
};

// Keys [begin, begin + 32) as floats. What lies past `end` counts as zero, whatever the cache holds
// there; so do blocks before `first`, which have left the window and may be somebody else's.
template <class T>
SHOAL_NOINLINE void load_tile(const KVLayout& kv, const T* key_cache, const T* value_cache,
               const AttentionTask& task, int begin, int first, int end, AttentionScratch& s) {
  for (int at = begin; at < begin + kKeyTile; at += kPanel) {
    float* keys = s.keys.data() + (at - begin);
    float* values = s.values.data() + size_t(at - begin) * kv.head_dim;
    const int held = end - at < kPanel ? end - at : kPanel;
    if (held <= 0 || at + kPanel <= first) {
      for (int i = 0; i < kv.head_dim; ++i) std::memset(keys + i * kKeyTile, 0, kPanel * 4);
      std::memset(values, 0, size_t(kPanel) * kv.head_dim * 4);
      continue;
    }
    const size_t base = size_t(task.block_table[at / kv.block_size]) * kv.block_stride() +
                        task.kv_head * kv.head_size();
    const int offset = at % kv.block_size;
    const T* from = key_cache + base + offset;
    for (int i = 0; i < kv.head_dim; ++i, from += kv.block_size) {
      for (int k = 0; k < kPanel; k += kLanes) store(keys + i * kKeyTile + k, load(from + k));
    }
    const T* rows = value_cache + base + size_t(offset) * kv.head_dim;
    for (int i = 0; i < held * kv.head_dim; i += kLanes) store(values + i, load(rows + i));
    std::memset(values + held * kv.head_dim, 0, size_t(kPanel - held) * kv.head_dim * 4);
  }
}

// scores[r][32] = query[r][dim] . keys[dim][32]
SHOAL_NOINLINE inline void score_rows(const float* query, const float* keys, int dim, float* scores) {
  constexpr int kHalf = kKeyTile / 2, kVecs = kHalf / kLanes;
  for (int half = 0; half < 2; ++half) {
    Floats acc[kRowTile][kVecs] = {};
    const float* k = keys + half * kHalf;
    for (int i = 0; i < dim; ++i, k += kKeyTile) {
      Floats key[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) key[v] = load(k + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRowTile; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) acc[r][v] += key[v] * splat(query[r * dim + i]);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRowTile; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        store(scores + r * kKeyTile + half * kHalf + v * kLanes, acc[r][v]);
      }
    }
  }
}

// out[r][dim] += weights[r][32] . values[32][dim]
SHOAL_NOINLINE inline void add_values(const float* weights, const float* values, int dim, float* out) {
  constexpr int kVecs = kPanel / kLanes;
  for (int column = 0; column < dim; column += kPanel) {
    Floats acc[kRowTile][kVecs];
#pragma GCC unroll 16
    for (int r = 0; r < kRowTile; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) acc[r][v] = load(out + r * dim + column + v * kLanes);
    }
    for (int k = 0; k < kKeyTile; ++k) {
      Floats value[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) value[v] = load(values + k * dim + column + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRowTile; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) acc[r][v] += value[v] * splat(weights[r * kKeyTile + k]);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRowTile; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) store(out + r * dim + column + v * kLanes, acc[r][v]);
    }
  }
}

// Turn a row's scores into weights relative to the new maximum; rescale what was summed before.
inline void softmax_step(float* scores, int begin, int first, int last, float scale, float* top,
                         float* total, float* out, int dim) {
  // Keys [first, last] are visible; their places in this tile:
  const int low = first - begin, high = last - begin;
  alignas(64) static constexpr auto kIndex = [] {
    struct { float at[kKeyTile]; } index{};
    for (int i = 0; i < kKeyTile; ++i) index.at[i] = float(i);
    return index;
  }();
  Floats best = splat(-INFINITY);
  Floats masked[kKeyTile / kLanes];
  for (int k = 0; k < kKeyTile / kLanes; ++k) {
    const Floats index = load(kIndex.at + k * kLanes);
    const Floats score = load(scores + k * kLanes) * splat(scale);
    const auto visible = (index >= splat(float(low))) & (index <= splat(float(high)));
    masked[k] = visible ? score : splat(-INFINITY);
    best = max(best, masked[k]);
  }
  const float tile_top = largest(best);
  if (tile_top == -INFINITY) {  // nothing visible here: adds exactly nothing
    for (int k = 0; k < kKeyTile; k += kLanes) store(scores + k, Floats{});
    return;
  }
  if (tile_top > *top) {
    const float shrink = exp(splat(*top - tile_top))[0];
    *top = tile_top;
    *total *= shrink;
    for (int i = 0; i < dim; i += kLanes) store(out + i, load(out + i) * shrink);
  }
  Floats added = {};
  for (int k = 0; k < kKeyTile / kLanes; ++k) {
    const Floats weight = exp(masked[k] - splat(*top));
    store(scores + k * kLanes, weight);
    added += weight;
  }
  *total += sum(added);
}

// softmax(scale * q . k) . v for the tokens and query heads of a task. query and out point at the
// first token's first head of the group; `stride` floats separate tokens.
template <class T>
void attend(const KVLayout& kv, const T* key_cache, const T* value_cache,
            const AttentionTask& task, const float* query, float* out, size_t stride,
            AttentionScratch& s) {
  const int dim = kv.head_dim, rows = task.num_tokens * task.group;
  const int padded = (rows + kRowTile - 1) / kRowTile * kRowTile;
  s.reserve(rows, dim);
  for (int r = 0; r < rows; ++r) {
    const float* from = query + size_t(r / task.group) * stride + size_t(r % task.group) * dim;
    std::memcpy(s.query.data() + size_t(r) * dim, from, dim * sizeof(float));
  }
  std::memset(s.query.data() + size_t(rows) * dim, 0, size_t(padded - rows) * dim * 4);
  std::memset(s.out.data(), 0, size_t(padded) * dim * 4);
  for (int r = 0; r < rows; ++r) {
    s.top[r] = -INFINITY;
    s.total[r] = 0;
  }
  const int end = task.first_position + task.num_tokens;  // keys before it exist
  int oldest = task.window ? task.first_position - task.window + 1 : 0;
  if (oldest < 0) oldest = 0;
  for (int begin = oldest / kKeyTile * kKeyTile; begin < end; begin += kKeyTile) {
    load_tile(kv, key_cache, value_cache, task, begin, oldest, end, s);
    for (int row = 0; row < padded; row += kRowTile) {
      // Rows of which no token reaches this tile have nothing to do.
      const int last_row = row + kRowTile <= rows ? row + kRowTile - 1 : rows - 1;
      if (task.first_position + last_row / task.group < begin) continue;
      float* scores = s.scores.data() + size_t(row) * kKeyTile;
      score_rows(s.query.data() + size_t(row) * dim, s.keys.data(), dim, scores);
      for (int r = row; r < row + kRowTile; ++r) {
        float* of_row = s.scores.data() + size_t(r) * kKeyTile;
        if (r >= rows) {
          std::memset(of_row, 0, kKeyTile * 4);
          continue;
        }
        const int position = task.first_position + r / task.group;
        const int first = task.window ? position - task.window + 1 : 0;
        softmax_step(of_row, begin, first, position, task.scale, &s.top[r], &s.total[r],
                     s.out.data() + size_t(r) * dim, dim);
      }
      add_values(scores, s.values.data(), dim, s.out.data() + size_t(row) * dim);
    }
  }
  for (int r = 0; r < rows; ++r) {
    float* to = out + size_t(r / task.group) * stride + size_t(r % task.group) * dim;
    const Floats factor = splat(1.0f / s.total[r]);
    for (int i = 0; i < dim; i += kLanes) {
      store(to + i, load(s.out.data() + size_t(r) * dim + i) * factor);
    }
  }
}

}  // namespace shoal
