// The paged KV cache as it lies in memory, and how a token's keys and values get into it.
//
// A block of all layers is one piece of memory, so that a cache takes up what its used blocks need,
// huge pages or not: [num_blocks][layer][keys, values][head]. Of one head, a block holds keys as
// [head_dim][block_size] and values as [block_size][head_dim]: scores of neighbouring keys are then
// neighbouring lanes, and nothing is summed across a register. In 8 and 4 bits a token's key (or value) of a head is
// scale * code + minimum, its scale and minimum behind the codes: float [2][block_size]. A byte of
// 4-bit codes holds dimension i below and dimension i + head_dim / 2 above. Queries, keys and values
// come rotated by a Hadamard matrix then (`layer_ops.h`), and outputs are rotated back.
#pragma once

#include <cstdint>

#include "matrix.h"
#include "simd.h"

namespace shoal {

enum KVFormat : int32_t { kKVFloat = 32, kKVBf16 = 16, kKVInt8 = 8, kKVInt4 = 4 };

struct KVLayout {
  int32_t format;
  int32_t block_size;  // a multiple of 16
  int32_t num_kv_heads;
  int32_t head_dim;  // a multiple of 16
  int64_t block_stride;  // bytes from a block to the next, of all layers

  bool is_quantized() const { return format <= 8; }
  size_t code_bytes() const { return size_t(block_size) * head_dim * format / 8; }
  size_t head_bytes() const {
    return code_bytes() + (is_quantized() ? 2 * sizeof(float) * block_size : 0);
  }
  size_t keys_bytes() const { return head_bytes() * num_kv_heads; }  // of a layer; values: as many
  size_t place(int head, size_t block) const { return block * block_stride + head * head_bytes(); }
};

namespace detail {

// Codes of one key or value, `stride` bytes apart, and its scale and minimum at `scales[offset]`.
inline void write_codes(const KVLayout& kv, const float* x, uint8_t* codes, size_t stride,
                        float* scales, int offset) {
  const int dim = kv.head_dim, half = dim / 2;
  Floats low = load(x), high = low;
  for (int i = kLanes; i < dim; i += kLanes) {
    low = min(low, load(x + i));
    high = max(high, load(x + i));
  }
  const float minimum = smallest(low), levels = float((1 << kv.format) - 1);
  const float scale = (largest(high) - minimum) / levels;
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  auto code = [&](int i) {
    const float q = (x[i] - minimum) * inverse + 0.5f;
    return uint8_t(q < levels ? q : levels);  // NaN becomes the highest code
  };
  if (kv.format == kKVInt8) {
    for (int i = 0; i < dim; ++i) codes[i * stride] = code(i);
  } else {
    for (int i = 0; i < half; ++i) codes[i * stride] = uint8_t(code(i) | code(i + half) << 4);
  }
  scales[offset] = scale;
  scales[kv.block_size + offset] = minimum;
}

// The place of a slot: where its head's keys (or values) begin in the cache, and its offset there.
inline uint8_t* head_at(const KVLayout& kv, uint8_t* cache, int64_t slot, int head, int& offset) {
  offset = int(slot % kv.block_size);
  return cache + kv.place(head, size_t(slot / kv.block_size));
}

inline float* scales_of(const KVLayout& kv, uint8_t* head) {
  return reinterpret_cast<float*>(head + kv.code_bytes());
}

}  // namespace detail

// Write one token's key of one head, [head_dim], to its slot.
inline void write_key(const KVLayout& kv, uint8_t* cache, int64_t slot, int head, const float* key) {
  int offset;
  uint8_t* keys = detail::head_at(kv, cache, slot, head, offset);
  if (kv.format == kKVFloat) {
    float* to = reinterpret_cast<float*>(keys) + offset;
    for (int i = 0; i < kv.head_dim; ++i) to[size_t(i) * kv.block_size] = key[i];
  } else if (kv.format == kKVBf16) {
    bf16* to = reinterpret_cast<bf16*>(keys) + offset;
    alignas(64) bf16 rounded[kPanel];
    for (int i = 0; i < kv.head_dim; i += kPanel) {
      for (int k = 0; k < kPanel; k += kLanes) store(rounded + k, load(key + i + k));
      for (int k = 0; k < kPanel; ++k) to[size_t(i + k) * kv.block_size] = rounded[k];
    }
  } else {
    detail::write_codes(kv, key, keys + offset, kv.block_size, detail::scales_of(kv, keys), offset);
  }
}

// The same for its value.
inline void write_value(const KVLayout& kv, uint8_t* cache, int64_t slot, int head,
                        const float* value) {
  int offset;
  uint8_t* values = detail::head_at(kv, cache, slot, head, offset);
  const size_t at = size_t(offset) * kv.head_dim;
  if (kv.format == kKVFloat) {
    std::memcpy(reinterpret_cast<float*>(values) + at, value, kv.head_dim * sizeof(float));
  } else if (kv.format == kKVBf16) {
    bf16* to = reinterpret_cast<bf16*>(values) + at;
    for (int i = 0; i < kv.head_dim; i += kLanes) store(to + i, load(value + i));
  } else {
    detail::write_codes(kv, value, values + at * kv.format / 8, 1, detail::scales_of(kv, values),
                        offset);
  }
}

}  // namespace shoal
