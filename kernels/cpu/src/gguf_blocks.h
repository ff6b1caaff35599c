// GGUF's quantized blocks as affine codes with a scale and minimum for 32 values: without loss for
// the formats that have at most 8 bits and groups of 32 or more. Layouts: ggml's documentation of
// its block types (ggml-common.h, MIT), read here as facts.
#pragma once

#include "matrix.h"

namespace shoal {

enum GgufType : int32_t {
  kQ4_0 = 2, kQ4_1 = 3, kQ5_0 = 6, kQ5_1 = 7, kQ8_0 = 8, kQ4_K = 12, kQ5_K = 13,
};

namespace detail {

inline float half_at(const uint8_t* p) {
  fp16 h;
  std::memcpy(&h, p, sizeof h);
  return to_float(h);
}

inline void nibbles(const uint8_t* packed, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = packed[i] & 15;
    codes[16 + i] = packed[i] >> 4;
  }
}

inline void fifth_bits(const uint8_t* packed, uint8_t* codes) {
  uint32_t bits;
  std::memcpy(&bits, packed, sizeof bits);
  for (int i = 0; i < 32; ++i) codes[i] |= uint8_t((bits >> i & 1) << 4);
}

// Scale and minimum of the eight groups of a superblock: 6 bits each, in 12 bytes.
inline void six_bits(const uint8_t* s, int group, int& scale, int& minimum) {
  if (group < 4) {
    scale = s[group] & 63;
    minimum = s[group + 4] & 63;
  } else {
    scale = (s[group + 4] & 15) | (s[group - 4] >> 6) << 4;
    minimum = (s[group + 4] >> 4) | (s[group] >> 6) << 4;
  }
}

}  // namespace detail

// codes: [num_values]; scales, minima: [num_values / 32].
inline bool gguf_codes(int32_t type, const uint8_t* p, int64_t num_values, uint8_t* codes,
                       float* scales, float* minima) {
  using namespace detail;
  const int64_t groups = num_values / kGroup;
  switch (type) {
    case kQ4_0:
      for (int64_t g = 0; g < groups; ++g, p += 18, codes += 32) {
        scales[g] = half_at(p);
        minima[g] = -8 * scales[g];
        nibbles(p + 2, codes);
      }
      return true;
    case kQ4_1:
      for (int64_t g = 0; g < groups; ++g, p += 20, codes += 32) {
        scales[g] = half_at(p);
        minima[g] = half_at(p + 2);
        nibbles(p + 4, codes);
      }
      return true;
    case kQ5_0:
      for (int64_t g = 0; g < groups; ++g, p += 22, codes += 32) {
        scales[g] = half_at(p);
        minima[g] = -16 * scales[g];
        nibbles(p + 6, codes);
        fifth_bits(p + 2, codes);
      }
      return true;
    case kQ5_1:
      for (int64_t g = 0; g < groups; ++g, p += 24, codes += 32) {
        scales[g] = half_at(p);
        minima[g] = half_at(p + 2);
        nibbles(p + 8, codes);
        fifth_bits(p + 4, codes);
      }
      return true;
    case kQ8_0:
      for (int64_t g = 0; g < groups; ++g, p += 34, codes += 32) {
        scales[g] = half_at(p);
        minima[g] = -128 * scales[g];
        for (int i = 0; i < 32; ++i) codes[i] = uint8_t(p[2 + i] ^ 0x80);
      }
      return true;
    case kQ4_K:
    case kQ5_K:
      for (int64_t g = 0; g < groups; g += 8) {
        const float d = half_at(p), dmin = half_at(p + 2);
        const uint8_t* packed_scales = p + 4;
        const uint8_t* fifth = p + 16;
        const uint8_t* q = type == kQ4_K ? p + 16 : p + 48;
        for (int i = 0; i < 8; ++i, codes += 32) {
          int scale, minimum;
          six_bits(packed_scales, i, scale, minimum);
          scales[g + i] = d * float(scale);
          minima[g + i] = -dmin * float(minimum);
          for (int k = 0; k < 32; ++k) {
            const uint8_t byte = q[i / 2 * 32 + k];
            codes[k] = i % 2 ? byte >> 4 : byte & 15;
            if (type == kQ5_K) codes[k] |= uint8_t((fifth[k] >> i & 1) << 4);
          }
        }
        p += type == kQ4_K ? 144 : 176;
      }
      return true;
    default:
      return false;
  }
}

// Symmetric 8-bit codes for floats: weight = scale * (code - 128), scale = max |weight| / 127 of a
// group, as Q8_0 has it.
inline void quantize_rows(const float* values, int64_t rows, int columns, uint8_t* codes,
                          float* scales, float* minima) {
  const int groups = (columns + kGroup - 1) / kGroup;
  for (int64_t row = 0; row < rows; ++row, values += columns, codes += columns) {
    for (int group = 0; group < groups; ++group) {
      const int begin = group * kGroup;
      const int end = begin + kGroup < columns ? begin + kGroup : columns;
      float top = 0;
      for (int k = begin; k < end; ++k) top = std::fabs(values[k]) > top ? std::fabs(values[k]) : top;
      // The scale as it will be stored, so that codes are nearest under it.
      const float scale = to_float(to_fp16(top / 127.0f));
      const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
      for (int k = begin; k < end; ++k) {
        float q = std::nearbyint(values[k] * inverse);
        q = q < -127 ? -127 : q > 127 ? 127 : q;
        codes[k] = uint8_t(int(q) + 128);
      }
      scales[row * groups + group] = scale;
      minima[row * groups + group] = -128 * scale;
    }
  }
}

}  // namespace shoal
