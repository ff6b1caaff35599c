// The inner kernels: a tile of rows of activations times one panel of 16 outputs.
//
// Each output is summed over the columns in the same order whatever R is, so a row's result does
// not depend on the batch around it. Multiply-add instructions for a group of 32 columns and 16
// outputs: AVX2 takes 16 R for 4-bit codes and 32 R for 8-bit ones, AVX-512 VNNI 8 R.
#pragma once

#include <type_traits>

#include "activations.h"
#include "matrix.h"
#include "simd.h"

namespace shoal {

constexpr int kVectors = kPanel / kLanes;  // registers that hold a panel's outputs

#define SHOAL_UNROLL _Pragma("GCC unroll 16")

// Calls `body<rows>()` for a number of rows in [1, R] that is known when the program runs.
template <int R, class Body>
inline void for_rows(int rows, Body&& body) {
  if constexpr (R > 0) {
    if (rows == R) return body.template operator()<R>();
    for_rows<R - 1>(rows, body);
  }
}

// A kernel inlined into a larger function has to share its registers, and loses them.
#define SHOAL_NOINLINE __attribute__((noinline))

#if defined(__AVX2__)
// Keeps the compiler from regrouping a sum of integers, which costs more registers than there are.
inline void pin(__m256i& v) { asm("" : "+x"(v)); }

inline __m256i repeat(const void* p) {
  return _mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(p)));
}
inline __m256i load_bytes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
#endif
#if defined(__AVX512F__)
inline __m512i repeat_wide(const void* p) {
  int32_t word;
  std::memcpy(&word, p, sizeof word);
  return _mm512_set1_epi32(word);
}
#endif

// Ask for the bytes that come kAhead behind the next `count`: also those of the next panel, which the
// hardware's prefetcher finds too late. Memory is never read past the weights: asking is free of faults.
inline void prefetch_ahead(const uint8_t* w, size_t count) {
  constexpr size_t kAhead = 2048;
  for (size_t i = 0; i < count; i += 64) __builtin_prefetch(w + kAhead + i);
}

// dots[r] = the integer dot products of a group: 4-bit codes times 8-bit activations.
template <int R>
inline void dot_codes4(const uint8_t* w, const int8_t* x, Ints (&dots)[R][kVectors]) {
  constexpr int kStep = 4 * kTileRows, kHigh = 4 * kStep;  // columns 16.. are in the high halves
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
  const __m512i low = _mm512_set1_epi8(15);
  __m512i sum[R];
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) sum[r] = _mm512_setzero_si512();
  SHOAL_UNROLL
  for (int j = 0; j < 4; ++j, x += kStep) {
    const __m512i packed = _mm512_loadu_si512(w + j * 64);
    const __m512i first = _mm512_and_si512(packed, low);
    const __m512i second = _mm512_and_si512(_mm512_srli_epi16(packed, 4), low);
    SHOAL_UNROLL
    for (int r = 0; r < R; ++r) {
      sum[r] = _mm512_dpbusd_epi32(sum[r], first, repeat_wide(x + r * 4));
      sum[r] = _mm512_dpbusd_epi32(sum[r], second, repeat_wide(x + kHigh + r * 4));
    }
  }
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) dots[r][0] = (Ints)sum[r];
#elif defined(__AVX2__)
  // Eight sums of two products of at most 15 * 127 fit 16 bits: they are widened once a group.
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  __m256i sum[R][2];
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  SHOAL_UNROLL
  for (int j = 0; j < 4; ++j, x += kStep) {
    const __m256i packed0 = load_bytes(w + j * 64), packed1 = load_bytes(w + j * 64 + 32);
    SHOAL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const __m256i codes0 = _mm256_and_si256(half ? _mm256_srli_epi16(packed0, 4) : packed0, low);
      const __m256i codes1 = _mm256_and_si256(half ? _mm256_srli_epi16(packed1, 4) : packed1, low);
      SHOAL_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m256i a = repeat(x + half * kHigh + r * 4);
        sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(codes0, a));
        sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(codes1, a));
        pin(sum[r][0]);
        pin(sum[r][1]);
      }
    }
  }
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    dots[r][0] = (Ints)_mm256_madd_epi16(sum[r][0], ones);
    dots[r][1] = (Ints)_mm256_madd_epi16(sum[r][1], ones);
  }
#else
  for (int r = 0; r < R; ++r) {
    int32_t sum[kPanel] = {};
    for (int j = 0; j < 4; ++j) {
      const int8_t* a = x + j * kStep + r * 4;
      for (int o = 0; o < kPanel; ++o) {
        for (int i = 0; i < 4; ++i) {
          const int code = w[j * 64 + o * 4 + i];
          sum[o] += (code & 15) * a[i] + (code >> 4) * a[kHigh + i];
        }
      }
    }
    std::memcpy(dots[r], sum, sizeof sum);
  }
#endif
}

// The same for 8-bit codes; on AVX2 the activations are 16 bits wide.
template <int R>
inline void dot_codes8(const uint8_t* w, const int8_t* x, Ints (&dots)[R][kVectors]) {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
  __m512i sum[R];
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) sum[r] = _mm512_setzero_si512();
  SHOAL_UNROLL
  for (int j = 0; j < 8; ++j, x += 4 * kTileRows) {
    const __m512i codes = _mm512_loadu_si512(w + j * 64);
    SHOAL_UNROLL
    for (int r = 0; r < R; ++r) {
      sum[r] = _mm512_dpbusd_epi32(sum[r], codes, repeat_wide(x + r * 4));
    }
  }
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) dots[r][0] = (Ints)sum[r];
#else
  for (int r = 0; r < R; ++r) {
    int32_t sum[kPanel] = {};
    for (int j = 0; j < 8; ++j) {
      const int8_t* a = x + (j * kTileRows + r) * 4;
      for (int o = 0; o < kPanel; ++o) {
        for (int i = 0; i < 4; ++i) sum[o] += int(w[j * 64 + o * 4 + i]) * a[i];
      }
    }
    std::memcpy(dots[r], sum, sizeof sum);
  }
#endif
}

#if defined(__AVX2__) && !(defined(__AVX512VNNI__) && defined(__AVX512F__))
template <int R>
inline void dot_codes8(const uint8_t* w, const int16_t* x, Ints (&dots)[R][kVectors]) {
  const __m256i low = _mm256_set1_epi16(255);
  __m256i sum[R][2];
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  SHOAL_UNROLL
  for (int j = 0; j < 8; ++j) {
    const __m256i packed0 = load_bytes(w + j * 64), packed1 = load_bytes(w + j * 64 + 32);
    SHOAL_UNROLL
    for (int half = 0; half < 2; ++half, x += 2 * kTileRows) {
      const __m256i codes0 = half ? _mm256_srli_epi16(packed0, 8) : _mm256_and_si256(packed0, low);
      const __m256i codes1 = half ? _mm256_srli_epi16(packed1, 8) : _mm256_and_si256(packed1, low);
      SHOAL_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m256i a = repeat(x + r * 2);
        sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(codes0, a));
        sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(codes1, a));
        pin(sum[r][0]);
        pin(sum[r][1]);
      }
    }
  }
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    dots[r][0] = (Ints)sum[r][0];
    dots[r][1] = (Ints)sum[r][1];
  }
}
#endif

// out[r][16], rows `stride` apart: rows of activations times a panel of codes.
template <int R, int Bits>
SHOAL_NOINLINE void tile_codes(const uint8_t* w, const Activations& x, int row, float* out,
                               size_t stride) {
  constexpr int kCodeBytes = kGroup * kPanel * Bits / 8;
  using Code = std::conditional_t<Bits == 8 && kWideCodes8, int16_t, int8_t>;
  const Code* codes = x.tile<Code>(row);
  const float* scales = x.scales(row);
  const float* code_sums = x.sums(row);
  Floats sums[R][kVectors];
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Floats{};
  }
  for (int group = 0; group < x.groups(); ++group) {
    prefetch_ahead(w, kCodeBytes + 2 * kPanel * sizeof(fp16));
    Ints dots[R][kVectors];
    if constexpr (Bits == 4) dot_codes4<R>(w, codes, dots);
    else dot_codes8<R>(w, codes, dots);
    w += kCodeBytes;
    auto* weight_scales = reinterpret_cast<const fp16*>(w);
    SHOAL_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const Floats scale = load(weight_scales + v * kLanes);
      const Floats minimum = load(weight_scales + kPanel + v * kLanes);
      SHOAL_UNROLL
      for (int r = 0; r < R; ++r) {
        const Floats dot = __builtin_convertvector(dots[r][v], Floats);
        sums[r][v] += dot * (scale * splat(scales[r]));
        sums[r][v] += minimum * splat(code_sums[r]);
      }
    }
    w += 2 * kPanel * sizeof(fp16);
    codes += kGroup * kTileRows;
    scales += kTileRows;
    code_sums += kTileRows;
  }
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < kVectors; ++v) store(out + r * stride + v * kLanes, sums[r][v]);
  }
}

template <int R>
SHOAL_NOINLINE void tile_bf16(const uint8_t* w, const Activations& x, int row, float* out,
                              size_t stride) {
  Floats sums[R][kVectors];
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Floats{};
  }
  const int pairs = x.groups() * kGroup / 2;
#if defined(__AVX512BF16__)
  const bf16* a = x.tile<bf16>(row);
  for (int pair = 0; pair < pairs; ++pair, w += 64, a += 2 * kTileRows) {
    prefetch_ahead(w, 64);
    const __m512i weights = _mm512_loadu_si512(w);
    SHOAL_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512i both = repeat_wide(a + 2 * r);
      sums[r][0] = (Floats)_mm512_dpbf16_ps((__m512)sums[r][0], (__m512bh)weights, (__m512bh)both);
    }
  }
#else
  const float* a = x.tile<float>(row);
  for (int pair = 0; pair < pairs; ++pair, w += 64, a += 2 * kTileRows) {
    prefetch_ahead(w, 64);
    Floats even[kVectors], odd[kVectors];
    SHOAL_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Words both;
      std::memcpy(&both, w + v * kLanes * 4, sizeof both);
      even[v] = (Floats)(both << 16);
      odd[v] = (Floats)(both & 0xffff0000u);
    }
    SHOAL_UNROLL
    for (int r = 0; r < R; ++r) {
      SHOAL_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] += even[v] * splat(a[r]);
        sums[r][v] += odd[v] * splat(a[kTileRows + r]);
      }
    }
  }
#endif
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < kVectors; ++v) store(out + r * stride + v * kLanes, sums[r][v]);
  }
}

// `row`, a multiple of kTileRows, begins a tile, of which R rows are computed.
template <int R>
void tile(const Matrix& m, int panel, const Activations& x, int row, float* out, size_t stride) {
  const uint8_t* w = m.data + panel * panel_bytes(m);
  switch (m.format) {
    case kCodes4: return tile_codes<R, 4>(w, x, row, out, stride);
    case kCodes8: return tile_codes<R, 8>(w, x, row, out, stride);
    default: return tile_bf16<R>(w, x, row, out, stride);
  }
}

}  // namespace shoal
