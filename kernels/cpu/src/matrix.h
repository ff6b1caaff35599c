// A weight matrix packed for the kernels: panels of 16 output rows, read once from front to back.
//
// Codes are affine: weight = scale * code + minimum, with one scale and minimum for 32 neighbours
// of a row, which is what GGUF's Q4_1 is, and what its other formats become without loss.
//
//   panel of codes, a group of 32 columns: the codes, then fp16 scale[16], fp16 minimum[16]
//     4 bits: 4 x 64 bytes; byte [j][row][i] holds column 4j+i below and column 16+4j+i above
//     8 bits: 8 x 64 bytes; byte [j][row][i] holds column 4j+i
//   panel of bf16: [columns / 2][row][2]
//
// Rows are padded to whole panels and columns to whole groups, with zeros.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd.h"

namespace shoal {

constexpr int kPanel = 16;
constexpr int kGroup = 32;

enum Format : int32_t { kCodes4 = 4, kCodes8 = 8, kBf16 = 16 };

struct Matrix {
  int32_t format;
  int32_t rows;
  int32_t columns;
  const uint8_t* data;
  const float* bias;  // [rows] or null

  int panels() const { return (rows + kPanel - 1) / kPanel; }
  int groups() const { return (columns + kGroup - 1) / kGroup; }
};

inline size_t group_bytes(int format) {
  if (format == kBf16) return kGroup * kPanel * 2;
  return kGroup * kPanel * size_t(format) / 8 + 2 * kPanel * sizeof(fp16);
}

inline size_t panel_bytes(const Matrix& m) { return m.groups() * group_bytes(m.format); }
inline size_t packed_bytes(const Matrix& m) { return m.panels() * panel_bytes(m); }

// codes: [rows][columns]; scales, minima: [rows][groups]. False when one does not fit fp16.
inline bool pack_codes(const Matrix& m, const uint8_t* codes, const float* scales,
                       const float* minima, uint8_t* out) {
  const int groups = m.groups();
  const size_t code_bytes = group_bytes(m.format) - 2 * kPanel * sizeof(fp16);
  std::memset(out, 0, packed_bytes(m));
  bool fits = true;
  for (int row = 0; row < m.rows; ++row) {
    uint8_t* panel = out + row / kPanel * panel_bytes(m);
    const int lane = row % kPanel;
    for (int group = 0; group < groups; ++group) {
      uint8_t* to = panel + group * group_bytes(m.format);
      const int begin = group * kGroup;
      const int count = m.columns - begin < kGroup ? m.columns - begin : kGroup;
      const uint8_t* from = codes + size_t(row) * m.columns + begin;
      for (int k = 0; k < count; ++k) {
        const int j = k / 4, i = k % 4;
        if (m.format == kCodes8) {
          to[j * 64 + lane * 4 + i] = from[k];
        } else {
          to[(j % 4) * 64 + lane * 4 + i] |= uint8_t(from[k] << (j < 4 ? 0 : 4));
        }
      }
      auto* scale = reinterpret_cast<fp16*>(to + code_bytes);
      const fp16 s = to_fp16(scales[size_t(row) * groups + group]);
      const fp16 low = to_fp16(minima[size_t(row) * groups + group]);
      fits = fits && (s.bits & 0x7c00) != 0x7c00 && (low.bits & 0x7c00) != 0x7c00;
      scale[lane] = s;
      scale[kPanel + lane] = low;
    }
  }
  return fits;
}

// values: [rows][columns] fp32.
inline void pack_bf16(const Matrix& m, const float* values, uint8_t* out) {
  std::memset(out, 0, packed_bytes(m));
  for (int row = 0; row < m.rows; ++row) {
    auto* panel = reinterpret_cast<bf16*>(out + row / kPanel * panel_bytes(m));
    const float* from = values + size_t(row) * m.columns;
    for (int k = 0; k < m.columns; ++k) {
      panel[(k / 2) * 2 * kPanel + row % kPanel * 2 + k % 2] = to_bf16(from[k]);
    }
  }
}

// One row as floats: an embedding.
inline void unpack_row(const Matrix& m, int row, float* out) {
  const uint8_t* panel = m.data + row / kPanel * panel_bytes(m);
  const int lane = row % kPanel;
  if (m.format == kBf16) {
    auto* values = reinterpret_cast<const bf16*>(panel);
    for (int k = 0; k < m.columns; ++k) {
      out[k] = to_float(values[(k / 2) * 2 * kPanel + lane * 2 + k % 2]);
    }
    return;
  }
  const size_t code_bytes = group_bytes(m.format) - 2 * kPanel * sizeof(fp16);
  for (int k = 0; k < m.columns; ++k) {
    const uint8_t* from = panel + k / kGroup * group_bytes(m.format);
    auto* scale = reinterpret_cast<const fp16*>(from + code_bytes);
    const int j = k % kGroup / 4, i = k % 4;
    int code;
    if (m.format == kCodes8) {
      code = from[j * 64 + lane * 4 + i];
    } else {
      code = from[(j % 4) * 64 + lane * 4 + i] >> (j < 4 ? 0 : 4) & 15;
    }
    out[k] = to_float(scale[lane]) * float(code) + to_float(scale[kPanel + lane]);
  }
}

}  // namespace shoal
