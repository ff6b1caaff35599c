// The rows that a matrix multiplies, in the form its kernel wants.
//
// Codes meet activations quantized to 8 bits, one scale for 32 neighbours (as llama.cpp's Q8_1):
//   y = sum over groups of  scale_w * scale_x * dot(codes, q) + minimum_w * scale_x * sum(q)
// The dot product is exact in integers, so its order does not matter.
#pragma once

#include <cmath>
#include <cstring>

#include "buffer.h"
#include "matrix.h"
#include "simd.h"

namespace shoal {

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
constexpr bool kVnni = true;
#else
constexpr bool kVnni = false;
#endif

#if defined(__AVX512BF16__)
constexpr bool kBf16Products = true;
#else
constexpr bool kBf16Products = false;
#endif

// AVX2 multiplies 8-bit codes as 16-bit numbers: the sum of two products of 8 bits would saturate.
#if defined(__AVX2__)
constexpr bool kWideCodes8 = !kVnni;
#else
constexpr bool kWideCodes8 = false;
#endif

// Rows lie in tiles, the rows of a tile side by side: a kernel that works on a tile reads memory in
// order, at fixed distances. A tile has as many rows as there are registers to add up: with fewer, the
// latency of a multiply-add would be waited for. For a tile, per group of 32 columns:
//   8-bit codes         [8][row][4]              columns 4j .. 4j+3
//   16-bit codes        [8][2][row][2]           columns 4j, 4j+2; then 4j+1, 4j+3
//   bf16                [16][row][2]             columns 2j, 2j+1
//   floats              [32][row]
#if defined(__AVX512F__)
constexpr int kTileRows = 8;
#else
constexpr int kTileRows = 4;
#endif

class Activations {
 public:
  // Make room for `rows` rows. Keeps nothing; by one thread, while no other uses it.
  void reserve(int rows, int columns) {
    groups_ = (columns + kGroup - 1) / kGroup;
    const size_t tiles = (rows + kTileRows - 1) / kTileRows;
    const size_t count = tiles * groups_ * kTileRows;
    shoal::reserve(values_, count * kGroup);
    shoal::reserve(scales_, count);
    shoal::reserve(sums_, count);
  }

  int groups() const { return groups_; }

  // Values of the tile that `row`, a multiple of kTileRows, begins.
  template <class T>
  const T* tile(int row) const {
    return reinterpret_cast<const T*>(values_.data()) + size_t(row) * groups_ * kGroup;
  }
  // [group][row]: each group's scale, and its scale times the sum of its codes.
  const float* scales(int row) const { return scales_.data() + size_t(row) * groups_; }
  const float* sums(int row) const { return sums_.data() + size_t(row) * groups_; }

  // Fill groups of a row, from `begin` on, with `count` floats; a last partial group is padded.
  void write(int format, int row, int begin, const float* x, int count) {
    for (int group = begin; count > 0; ++group, x += kGroup, count -= kGroup) {
      alignas(64) float padded_group[kGroup];
      const float* from = x;
      if (count < kGroup) {
        for (int k = 0; k < kGroup; ++k) padded_group[k] = k < count ? x[k] : 0.0f;
        from = padded_group;
      }
      if (format == kBf16) {
        copy(row, group, from);
      } else {
        quantize(format, row, group, from);
      }
    }
  }

 private:
  // The first of a group's values of the tile that holds `row`.
  template <class T>
  T* at(int row, int group) {
    const size_t tile_group = size_t(row / kTileRows) * groups_ + group;
    return reinterpret_cast<T*>(values_.data()) + tile_group * kGroup * kTileRows;
  }

  void copy(int row, int group, const float* x) {
    const int lane = row % kTileRows;
    if constexpr (kBf16Products) {
      bf16* out = at<bf16>(row, group) + lane * 2;
      for (int k = 0; k < kGroup; ++k) out[k / 2 * kTileRows * 2 + k % 2] = to_bf16(x[k]);
    } else {
      float* out = at<float>(row, group) + lane;
      for (int k = 0; k < kGroup; ++k) out[k * kTileRows] = x[k];
    }
  }

  void quantize(int format, int row, int group, const float* x) {
    // The bits of magnitudes are in the order of what they mean, infinity and NaN above all numbers.
    Ints top = {};
    for (int k = 0; k < kGroup; k += kLanes) top = max(top, (Ints)abs(load(x + k)));
    const int32_t top_bits = largest(top);
    float magnitude;
    std::memcpy(&magnitude, &top_bits, sizeof magnitude);
    if (top_bits >= 0x7f800000) magnitude = NAN;  // the result shall tell
    const float scale = magnitude * (1.0f / 127.0f);
    const float inverse = magnitude > 0 ? 127.0f / magnitude : 0.0f;
    Ints rounded[kGroup / kLanes], total = {};
    for (int k = 0; k < kGroup; k += kLanes) {
      const Floats v = round_to_int(load(x + k) * inverse);
      rounded[k / kLanes] = __builtin_convertvector(v, Ints);
      total += rounded[k / kLanes];
    }
    alignas(64) int8_t q[kGroup];
    pack_bytes(rounded, q);
    const int lane = row % kTileRows;
    if (format == kCodes8 && kWideCodes8) {
      int16_t* out = at<int16_t>(row, group) + lane * 2;
      for (int j = 0; j < kGroup / 4; ++j, out += 4 * kTileRows) {
        out[0] = q[4 * j];
        out[1] = q[4 * j + 2];
        out[2 * kTileRows] = q[4 * j + 1];
        out[2 * kTileRows + 1] = q[4 * j + 3];
      }
    } else {
      int8_t* out = at<int8_t>(row, group) + lane * 4;
      for (int j = 0; j < kGroup / 4; ++j) std::memcpy(out + j * kTileRows * 4, q + 4 * j, 4);
    }
    const size_t index = (size_t(row / kTileRows) * groups_ + group) * kTileRows + lane;
    scales_[index] = scale;
    sums_[index] = scale * float(sum(total));
  }

  int groups_ = 0;
  Buffer<uint32_t> values_;  // of 1, 2 or 4 bytes each
  Buffer<float> scales_;
  Buffer<float> sums_;
};

}  // namespace shoal
