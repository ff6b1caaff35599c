// AVX-512 on a processor that has none, to test those paths: included before the kernels, it puts
// SIMDe's portable functions (Debian's libsimde-dev, MIT) in the place of the instructions. What its
// version 0.7 lacks is written out below.
#pragma once

#include <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <cstdint>
#include <cstring>

#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512DQ__ 1
#define __AVX512VL__ 1
#define __AVX512VNNI__ 1
#if defined(SHOAL_EMULATE_BF16)
#define __AVX512BF16__ 1
#endif

namespace emulated {

template <class To, class From>
inline To bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class T, int N>
struct Lanes {
  T at[N];
};

inline simde__m512i cvtepu16_epi32(__m256i x) {
  const auto from = bits<Lanes<uint16_t, 16>>(x);
  Lanes<uint32_t, 16> to;
  for (int i = 0; i < 16; ++i) to.at[i] = from.at[i];
  return bits<simde__m512i>(to);
}

inline simde__m512i cvtepu8_epi32(__m128i x) {
  const auto from = bits<Lanes<uint8_t, 16>>(x);
  Lanes<int32_t, 16> to;
  for (int i = 0; i < 16; ++i) to.at[i] = from.at[i];
  return bits<simde__m512i>(to);
}

inline simde__m512 cvtepi32_ps(simde__m512i x) {
  const auto from = bits<Lanes<int32_t, 16>>(x);
  Lanes<float, 16> to;
  for (int i = 0; i < 16; ++i) to.at[i] = float(from.at[i]);
  return bits<simde__m512>(to);
}

inline __m128i cvtepi32_epi8(simde__m512i x) {
  const auto from = bits<Lanes<int32_t, 16>>(x);
  Lanes<int8_t, 16> to;
  for (int i = 0; i < 16; ++i) to.at[i] = int8_t(from.at[i]);
  return bits<__m128i>(to);
}

inline simde__m512 cvtph_ps(__m256i x) {
  const Lanes<__m256, 2> to = {_mm256_cvtph_ps(_mm256_castsi256_si128(x)),
                               _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1))};
  return bits<simde__m512>(to);
}

// Lane i comes from place `control >> 2 (i % 4)` among four, of width Width floats.
template <int Control, int Width>
inline simde__m512 shuffle(simde__m512 x) {
  const auto from = bits<Lanes<float, 16>>(x);
  Lanes<float, 16> to;
  for (int i = 0; i < 16; ++i) {
    const int group = i / (4 * Width) * 4 * Width, place = i / Width % 4;
    to.at[i] = from.at[group + (Control >> 2 * place & 3) * Width + i % Width];
  }
  return bits<simde__m512>(to);
}

}  // namespace emulated

#define _mm512_cvtepu16_epi32 emulated::cvtepu16_epi32
#define _mm512_cvtepu8_epi32 emulated::cvtepu8_epi32
#define _mm512_cvtepi32_ps emulated::cvtepi32_ps
#define _mm512_cvtepi32_epi8 emulated::cvtepi32_epi8
#define _mm512_cvtph_ps emulated::cvtph_ps
#define _mm512_shuffle_f32x4(x, same, control) (emulated::shuffle<control, 4>(x))
#define _mm512_permute_ps(x, control) (emulated::shuffle<control, 1>(x))
