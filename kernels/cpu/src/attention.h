// Attention over the paged KV cache, for decodes and prefill chunks alike.
//
// The query heads that share a KV head are rows of one small matrix (Ainslie et al., 2023); the
// softmax runs online over tiles of 32 keys (Milakov and Gimelshein, 2018; Dao et al., 2022), and what
// was summed is rescaled only when a score exceeds its reference by far (Shah et al., 2026). Keys
// are taken in splits of 512 whose results are merged in order (flash-decoding: Dao et al., 2023):
// splits of one sequence may be worked on by several threads, and since they begin at multiples of
// 512, a row's result depends neither on that nor on how its prompt was cut into chunks.
#pragma once

#include <cmath>
#include <cstdint>

#include "attention_tile.h"
#include "buffer.h"
#include "kv_cache.h"

namespace shoal {

constexpr int kSplitKeys = 512;
constexpr int kRowTile = 6;
constexpr float kHeadroom = 8;  // of a score over its row's reference: weights stay below e^8

// Query tokens of one sequence, and the query heads of one KV head.
struct AttentionTask {
  const int32_t* block_table;
  int first_position;  // of the first of the query tokens
  int num_tokens;      // query tokens, neighbours in the sequence
  int window;          // keys that a token sees, itself included; 0: all before it
  int kv_head;
  int group;           // query heads that share the KV head
  float scale;

  int rows() const { return num_tokens * group; }
  int end() const { return first_position + num_tokens; }  // keys before it exist
  int oldest() const { return window && first_position >= window ? first_position - window + 1 : 0; }
  int first_split() const { return oldest() / kSplitKeys; }
  int num_splits() const { return (end() + kSplitKeys - 1) / kSplitKeys - first_split(); }
};

// What a part of the keys contributes to each row: the score that weights are relative to, the sum of
// the weights, the sum of weight * value.
struct AttentionPart {
  float* out;    // [rows][dim]
  float* total;  // [rows][kLanes], to be added up
  float* top;    // [rows]

  static size_t size(int rows, int dim) { return size_t(rows) * (dim + kLanes + 1); }
  static AttentionPart at(float* memory, int rows, int dim) {
    float* total = memory + size_t(rows) * dim;
    return {memory, total, total + size_t(rows) * kLanes};
  }

  void clear(int rows, int dim) const {
    std::memset(out, 0, size_t(rows) * (dim + kLanes) * sizeof(float));
    for (int r = 0; r < rows; ++r) top[r] = -INFINITY;
  }

  float sum_of_weights(int row) const { return sum(load(total + row * kLanes)); }

  // Take in the next part, of keys after ours.
  void merge(const AttentionPart& next, int rows, int dim) const {
    for (int r = 0; r < rows; ++r) {
      if (next.top[r] == -INFINITY) continue;
      const float best = top[r] > next.top[r] ? top[r] : next.top[r];
      const float ours = exp(splat(top[r] - best))[0], theirs = exp(splat(next.top[r] - best))[0];
      float* to = out + size_t(r) * dim;
      const float* from = next.out + size_t(r) * dim;
      for (int i = 0; i < dim; i += kLanes) store(to + i, load(to + i) * ours + load(from + i) * theirs);
      float* sums = total + r * kLanes;
      store(sums, load(sums) * ours + load(next.total + r * kLanes) * theirs);
      top[r] = best;
    }
  }
};

// Scratch memory of one thread.
struct AttentionScratch {
  Buffer<float> query, keys, values, scores, scales, sums, parts;

  void reserve(int rows, int dim) {
    shoal::reserve(query, size_t(rows) * dim);
    shoal::reserve(scores, size_t(kRowTile) * kKeyTile);
    shoal::reserve(sums, rows);
    shoal::reserve(parts, 2 * AttentionPart::size(rows, dim));
    shoal::reserve(keys, size_t(kKeyTile) * dim);
    shoal::reserve(values, size_t(kKeyTile) * dim);
    shoal::reserve(scales, 4 * kKeyTile);
  }
};

// Up to 32 keys and their values, in the cache or unpacked to scratch memory.
template <class T>
struct KeyTile {
  const T* keys[2];    // [dim][key_stride] a panel; null: it holds nothing
  const T* values[2];  // [16][dim] a panel
  const T* next_keys[2];    // of the tile after it, to be asked for: blocks lie anywhere in memory,
  const T* next_values[2];  // and the sequences of a large batch have more KV than any cache holds
  size_t key_stride;
  const float* scales;  // of codes: key scales, key minima, value scales, value minima, [32] each
};

// Where the panel of 16 slots that begins at key `at` lies.
struct PanelPlace {
  const uint8_t* keys;
  const uint8_t* values;
  int offset;  // in the block
};

inline PanelPlace panel_place(const KVLayout& kv, const uint8_t* key_cache,
                              const uint8_t* value_cache, const AttentionTask& task, int at) {
  const size_t base = kv.place(task.kv_head, size_t(task.block_table[at / kv.block_size]));
  return {key_cache + base, value_cache + base, at % kv.block_size};
}

// The scales of a panel's codes, of slots that hold tokens: those of others may be anything, and
// 0 * NaN is NaN.
inline void load_scales(const KVLayout& kv, const PanelPlace& place, int begin, int end,
                        float* scales) {
  auto* of_keys = reinterpret_cast<const float*>(place.keys + kv.code_bytes()) + place.offset;
  auto* of_values = reinterpret_cast<const float*>(place.values + kv.code_bytes()) + place.offset;
  for (int k = 0; k < kPanel; ++k) {
    const bool is_held = begin <= k && k < end;
    scales[k] = is_held ? of_keys[k] : 0;
    scales[kKeyTile + k] = is_held ? of_keys[kv.block_size + k] : 0;
    scales[2 * kKeyTile + k] = is_held ? of_values[k] : 0;
    scales[3 * kKeyTile + k] = is_held ? of_values[kv.block_size + k] : 0;
  }
}

// Unpack a panel's codes to floats.
inline void unpack_panel(const KVLayout& kv, const PanelPlace& place, float* keys, float* values) {
  const int dim = kv.head_dim, half = dim / 2;
  const size_t row_bytes = size_t(dim) * kv.format / 8;
  if (kv.format == kKVInt8) {
    for (int i = 0; i < dim; ++i) {
      const uint8_t* from = place.keys + size_t(i) * kv.block_size + place.offset;
      for (int k = 0; k < kPanel; k += kLanes) store(keys + i * kKeyTile + k, load(from + k));
    }
    const uint8_t* from = place.values + place.offset * row_bytes;
    for (int i = 0; i < kPanel * dim; i += kLanes) store(values + i, load(from + i));
    return;
  }
  for (int i = 0; i < half; ++i) {
    const uint8_t* from = place.keys + size_t(i) * kv.block_size + place.offset;
    for (int k = 0; k < kPanel; ++k) {
      keys[i * kKeyTile + k] = float(from[k] & 15);
      keys[(i + half) * kKeyTile + k] = float(from[k] >> 4);
    }
  }
  for (int k = 0; k < kPanel; ++k) {
    const uint8_t* from = place.values + size_t(place.offset + k) * row_bytes;
    float* to = values + size_t(k) * dim;
    for (int i = 0; i < half; ++i) {
      to[i] = float(from[i] & 15);
      to[i + half] = float(from[i] >> 4);
    }
  }
}

inline void widen_panel(const KVLayout& kv, const bf16* from_keys, const bf16* from_values,
                        float* keys, float* values) {
  for (int i = 0; i < kv.head_dim; ++i, from_keys += kv.block_size) {
    for (int k = 0; k < kPanel; k += kLanes) store(keys + i * kKeyTile + k, load(from_keys + k));
  }
  for (int i = 0; i < kPanel * kv.head_dim; i += kLanes) store(values + i, load(from_values + i));
}

// Turn a row's scores [32] into weights, e^(score - top), and add them up. Scores of codes get the
// scales of their keys first. Masked: only keys [low, high] of the tile are visible.
template <bool Masked>
inline void softmax_step(float* scores, int low, int high, const float* key_scales, float query_sum,
                         float& top, float* total, float* out, int dim) {
  constexpr int kVecs = kKeyTile / kLanes;
  Floats score[kVecs], best = splat(-INFINITY);
  for (int v = 0; v < kVecs; ++v) {
    score[v] = load(scores + v * kLanes);
    if (key_scales) {
      score[v] = score[v] * load(key_scales + v * kLanes) +
                 load(key_scales + kKeyTile + v * kLanes) * query_sum;
    }
    if constexpr (Masked) {
      Floats index;
      for (int i = 0; i < kLanes; ++i) index[i] = float(v * kLanes + i);
      const auto visible = (index >= splat(float(low))) & (index <= splat(float(high)));
      score[v] = visible ? score[v] : splat(-INFINITY);
    }
    best = max(best, score[v]);
  }
  const float tile_top = largest(best);
  if (tile_top > top + kHeadroom) {
    const Floats shrink = exp(splat(top - tile_top));
    top = tile_top;
    store(total, load(total) * shrink);
    for (int i = 0; i < dim; i += kLanes) store(out + i, load(out + i) * shrink);
  }
  Floats added = load(total);
  for (int v = 0; v < kVecs; ++v) {
    const Floats weight = exp(score[v] - top);
    store(scores + v * kLanes, weight);
    added += weight;
  }
  store(total, added);
}

// One tile of keys for the R rows that begin at `row`.
template <int R, class T>
void attend_rows(const AttentionTask& task, const KeyTile<T>& tile, int begin, int row, int dim,
                 AttentionScratch& s, const AttentionPart& part) {
  const float* query = s.query.data() + size_t(row) * dim;
  float* scores = s.scores.data();
  float* out = part.out + size_t(row) * dim;
  score_tile<R>(query, tile.keys, tile.next_keys, tile.keys[0] ? 0 : 1, tile.keys[1] ? 2 : 1,
                tile.key_stride, dim, scores);
  int low = kKeyTile, high = -1;
  for (int r = 0; r < R; ++r) {
    const int position = task.first_position + (row + r) / task.group;
    const int last = position - begin < kKeyTile ? position - begin : kKeyTile - 1;
    int first = task.window ? position - task.window + 1 - begin : 0;
    if (first < 0) first = 0;
    float* weights = scores + r * kKeyTile;
    if (first > last) {  // nothing visible here: adds exactly nothing
      std::memset(weights, 0, kKeyTile * sizeof(float));
      continue;
    }
    low = first < low ? first : low;
    high = last > high ? last : high;
    auto step = [&]<bool Masked>() {
      softmax_step<Masked>(weights, first, last, tile.scales, s.sums[row + r], part.top[row + r],
                           part.total + size_t(row + r) * kLanes, out + size_t(r) * dim, dim);
    };
    if (first == 0 && last == kKeyTile - 1) step.template operator()<false>();
    else step.template operator()<true>();
    if (tile.scales) {
      Floats minima = {};
      for (int k = 0; k < kKeyTile; k += kLanes) {
        const Floats weight = load(weights + k);
        minima += weight * load(tile.scales + 3 * kKeyTile + k);
        store(weights + k, weight * load(tile.scales + 2 * kKeyTile + k));
      }
      const float offset = sum(minima);
      for (int i = 0; i < dim; i += kLanes) store(out + r * dim + i, load(out + r * dim + i) + offset);
    }
  }
  if (low <= high) add_tile<R>(scores, tile.values, tile.next_values, low, high + 1, dim, out);
}

template <class T>
void attend_tile(const AttentionTask& task, const KeyTile<T>& tile, int begin, int dim,
                 AttentionScratch& s, const AttentionPart& part) {
  const int rows = task.rows();
  for (int row = 0; row < rows; row += kRowTile) {
    const int left = rows - row, last_row = left < kRowTile ? rows - 1 : row + kRowTile - 1;
    if (task.first_position + last_row / task.group < begin) continue;  // no token reaches the tile
    for_rows<kRowTile>(left < kRowTile ? left : kRowTile, [&]<int R>() {
      attend_rows<R>(task, tile, begin, row, dim, s, part);
    });
  }
}

// Where one tile's keys and values are: in the cache if its numbers can be used as they are by the
// few rows of a decode, else in scratch memory as floats.
template <class T>
KeyTile<T> plain_tile(const KVLayout& kv, const uint8_t* key_cache, const uint8_t* value_cache,
                      const AttentionTask& task, int begin, int oldest, AttentionScratch& s) {
  KeyTile<T> tile{};
  tile.key_stride = size_t(kv.block_size);
  if (kv.is_quantized()) {
    tile.scales = s.scales.data();
    std::memset(s.scales.data(), 0, 4 * kKeyTile * sizeof(float));
  }
  auto point = [&](int at, const T*& keys, const T*& values) {
    if (at >= task.end() || at + kPanel <= oldest) return;
    const PanelPlace place = panel_place(kv, key_cache, value_cache, task, at);
    keys = reinterpret_cast<const T*>(place.keys) + place.offset;
    values = reinterpret_cast<const T*>(place.values) + size_t(place.offset) * kv.head_dim;
  };
  for (int p = 0; p < 2; ++p) {
    point(begin + p * kPanel, tile.keys[p], tile.values[p]);
    tile.next_keys[p] = tile.keys[p], tile.next_values[p] = tile.values[p];
    point(begin + kKeyTile + p * kPanel, tile.next_keys[p], tile.next_values[p]);
    const int at = begin + p * kPanel;
    if (tile.scales && tile.keys[p]) {
      load_scales(kv, panel_place(kv, key_cache, value_cache, task, at), oldest - at,
                  task.end() - at, s.scales.data() + p * kPanel);
    }
  }
  return tile;
}

inline KeyTile<float> unpacked_tile(const KVLayout& kv, const uint8_t* key_cache,
                                    const uint8_t* value_cache, const AttentionTask& task, int begin,
                                    int oldest, AttentionScratch& s) {
  KeyTile<float> tile{};
  tile.key_stride = kKeyTile;
  if (kv.is_quantized()) {
    tile.scales = s.scales.data();
    std::memset(s.scales.data(), 0, 4 * kKeyTile * sizeof(float));
  }
  for (int p = 0; p < 2; ++p) {
    const int at = begin + p * kPanel;
    if (at >= task.end() || at + kPanel <= oldest) continue;
    const PanelPlace place = panel_place(kv, key_cache, value_cache, task, at);
    float* keys = s.keys.data() + p * kPanel;
    float* values = s.values.data() + size_t(p) * kPanel * kv.head_dim;
    if (kv.is_quantized()) {
      unpack_panel(kv, place, keys, values);
      load_scales(kv, place, oldest - at, task.end() - at, s.scales.data() + p * kPanel);
    } else {
      widen_panel(kv, reinterpret_cast<const bf16*>(place.keys) + place.offset,
                  reinterpret_cast<const bf16*>(place.values) + size_t(place.offset) * kv.head_dim,
                  keys, values);
    }
    tile.keys[p] = tile.next_keys[p] = keys;
    tile.values[p] = tile.next_values[p] = values;
  }
  return tile;
}

// Gather the rows of a task, times the scale of scores; query points at its first token's first head,
// `stride` floats separate tokens.
inline void gather_queries(const AttentionTask& task, const float* query, size_t stride, int dim,
                           AttentionScratch& s) {
  s.reserve(task.rows(), dim);
  for (int r = 0; r < task.rows(); ++r) {
    const float* from = query + size_t(r / task.group) * stride + size_t(r % task.group) * dim;
    Floats total = {};
    for (int i = 0; i < dim; i += kLanes) {
      const Floats scaled = load(from + i) * task.scale;
      store(s.query.data() + size_t(r) * dim + i, scaled);
      total += scaled;
    }
    s.sums[r] = sum(total);
  }
}

// The part of split `split` (counted from the first key of the sequence).
inline void attend_split(const KVLayout& kv, const uint8_t* key_cache, const uint8_t* value_cache,
                         const AttentionTask& task, int split, AttentionScratch& s,
                         const AttentionPart& part) {
  const int dim = kv.head_dim, oldest = task.oldest();
  part.clear(task.rows(), dim);
  int begin = split * kSplitKeys;
  const int limit = begin + kSplitKeys < task.end() ? begin + kSplitKeys : task.end();
  if (begin < oldest) begin = oldest / kKeyTile * kKeyTile;
  const bool has_few_rows = task.rows() <= 2 * kRowTile;  // to unpack a tile for
  for (; begin < limit; begin += kKeyTile) {
    auto plain = [&]<class T>() {
      attend_tile(task, plain_tile<T>(kv, key_cache, value_cache, task, begin, oldest, s), begin, dim,
                  s, part);
    };
    if (kv.format == kKVFloat) {
      plain.template operator()<float>();
    } else if (kv.format == kKVBf16 && has_few_rows) {
      plain.template operator()<bf16>();
    } else if (kv.format == kKVInt8 && has_few_rows) {
      plain.template operator()<uint8_t>();
    } else {
      attend_tile(task, unpacked_tile(kv, key_cache, value_cache, task, begin, oldest, s), begin,
                  dim, s, part);
    }
  }
}

}  // namespace shoal
