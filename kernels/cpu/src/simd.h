// Vectors of floats on any instruction set, through the compiler's vector types; conversions of the
// 16-bit formats; exp.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shoal {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;  // SSE2, NEON
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));

struct bf16 {
  uint16_t bits;
};
struct fp16 {
  uint16_t bits;
};

inline Floats splat(float x) { return x - Floats{}; }

inline Floats load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Compilers make a detour of widening through vector types, so the instructions are named.
inline Floats load(const bf16* p) {
#if defined(__AVX512F__)
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
#elif defined(__AVX2__)
  return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16);
#else
  Halves raw;
  std::memcpy(&raw, p, sizeof raw);
  return (Floats)(__builtin_convertvector(raw, Words) << 16);
#endif
}

// Codes as floats.
inline Floats load(const uint8_t* p) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
#elif defined(__AVX2__)
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)));
#else
  Floats v;
  for (int i = 0; i < kLanes; ++i) v[i] = float(p[i]);
  return v;
#endif
}

inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }

inline float to_float(float x) { return x; }

inline float to_float(bf16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

inline float to_float(fp16 x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#else
  // Rebias the exponent by a multiplication, which also normalizes subnormals.
  uint32_t bits = uint32_t(x.bits & 0x7fff) << 13;
  float magnitude;
  std::memcpy(&magnitude, &bits, sizeof bits);
  magnitude *= 0x1p112f;
  if ((x.bits & 0x7c00) == 0x7c00) magnitude = (x.bits & 0x3ff) ? __builtin_nanf("") : __builtin_inff();
  return (x.bits & 0x8000) ? -magnitude : magnitude;
#endif
}

// Round to nearest, ties to even; NaN stays NaN.
inline bf16 to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return {uint16_t((bits >> 16) | 0x40)};
  return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

// Round to nearest; what overflows becomes infinite, which the caller checks.
inline fp16 to_fp16(float x) {
#if defined(__F16C__)
  return {uint16_t(_cvtss_sh(x, 0))};
#else
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  uint16_t sign = uint16_t((bits >> 16) & 0x8000);
  bits &= 0x7fffffff;
  if (bits >= 0x47800000) return {uint16_t(sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00))};
  if (bits < 0x38800000) {  // subnormal: let the addition round at the last bit that is kept
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof bits);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, sizeof bits);
    return {uint16_t(sign | (bits - 0x3f000000))};
  }
  bits += 0xc8000fff + ((bits >> 13) & 1);
  return {uint16_t(sign | (bits >> 13))};
#endif
}

// kLanes half-precision numbers.
inline Floats load(const fp16* p) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__F16C__)
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
  Floats v;
  for (int i = 0; i < kLanes; ++i) v[i] = to_float(p[i]);
  return v;
#endif
}

// Round to nearest, ties to even; NaN stays NaN.
inline void store(bf16* p, Floats v) {
  const Words bits = (Words)v;
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words quiet = (bits >> 16) | 0x40u;
  const Halves raw = __builtin_convertvector(v == v ? rounded : quiet, Halves);
  std::memcpy(p, &raw, sizeof raw);
}


inline Floats max(Floats a, Floats b) { return a > b ? a : b; }
inline Ints max(Ints a, Ints b) { return a > b ? a : b; }
inline Floats min(Floats a, Floats b) { return a < b ? a : b; }
inline Floats abs(Floats a) { return (Floats)((Words)a & 0x7fffffffu); }

// Fold the upper half of a vector onto the lower one until one lane is left: log2(lanes) steps.
template <class Vector, class Fold>
inline auto reduce(Vector v, Fold&& fold) {
#if defined(__AVX512F__)
  v = fold(v, (Vector)_mm512_shuffle_f32x4((__m512)v, (__m512)v, 0x4e));
  v = fold(v, (Vector)_mm512_shuffle_f32x4((__m512)v, (__m512)v, 0xb1));
  v = fold(v, (Vector)_mm512_permute_ps((__m512)v, 0x4e));
  v = fold(v, (Vector)_mm512_permute_ps((__m512)v, 0xb1));
#elif defined(__AVX2__)
  v = fold(v, (Vector)_mm256_permute2f128_ps((__m256)v, (__m256)v, 1));
  v = fold(v, (Vector)_mm256_permute_ps((__m256)v, 0x4e));
  v = fold(v, (Vector)_mm256_permute_ps((__m256)v, 0xb1));
#else
  v = fold(v, Vector{v[2], v[3], v[0], v[1]});
  v = fold(v, Vector{v[1], v[0], v[3], v[2]});
#endif
  return v[0];
}

inline float sum(Floats v) {
  return reduce(v, [](Floats a, Floats b) { return a + b; });
}
inline int32_t sum(Ints v) {
  return reduce(v, [](Ints a, Ints b) { return a + b; });
}
inline int32_t largest(Ints v) {
  return reduce(v, [](Ints a, Ints b) { return max(a, b); });
}
inline float largest(Floats v) {
  return reduce(v, [](Floats a, Floats b) { return max(a, b); });
}
inline float smallest(Floats v) {
  return reduce(v, [](Floats a, Floats b) { return min(a, b); });
}

// Round to the nearest integer, ties to even, as a float; |x| < 2^22.
inline Floats round_to_int(Floats x) {
#if defined(__AVX512F__)
  return (Floats)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
  return (Floats)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const Floats magic = splat(12582912.0f);  // 1.5 * 2^23: the sum has no bits below one
  Floats shifted = x + magic;
  asm("" : "+m"(shifted));  // keeps the compiler from folding the pair away
  return shifted - magic;
#endif
}

// 32 integers in [-128, 127], as bytes.
inline void pack_bytes(const Ints* x, int8_t* out) {
#if defined(__AVX512F__)
  for (int i = 0; i < 2; ++i) {
    _mm_storeu_si128((__m128i*)(out + 16 * i), _mm512_cvtepi32_epi8((__m512i)x[i]));
  }
#elif defined(__AVX2__)
  // The packing instructions work on halves of registers: their words come out in turns.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i low = _mm256_packs_epi32((__m256i)x[0], (__m256i)x[1]);
  const __m256i high = _mm256_packs_epi32((__m256i)x[2], (__m256i)x[3]);
  const __m256i bytes = _mm256_packs_epi16(low, high);
  _mm256_storeu_si256((__m256i*)out, _mm256_permutevar8x32_epi32(bytes, order));
#else
  for (int i = 0; i < 32; ++i) out[i] = int8_t(x[i / kLanes][i % kLanes]);
#endif
}

// e^x to 2 ulp for |x| <= 87, and 0 below; e^0 is 1. The polynomial of degree 6 errs least, relative
// to e^r, on [-ln 2 / 2, ln 2 / 2] (Lawson's algorithm, 1961).
inline Floats exp(Floats x) {
  const Floats lowest = splat(-87.0f);
  const Floats clamped = min(max(x, lowest), splat(87.0f));
  const Floats n = round_to_int(clamped * 1.44269504f);
  const Floats r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
  Floats p = splat(1.3836793e-3f);
  p = p * r + 8.3748568e-3f;
  p = p * r + 4.1668229e-2f;
  p = p * r + 1.6666420e-1f;
  p = p * r + 4.9999991e-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Ints scaled = (Ints)p + (__builtin_convertvector(n, Ints) << 23);  // times 2^n
  return x < lowest ? Floats{} : (Floats)scaled;
}

inline Floats silu(Floats x) { return x / (1.0f + exp(-x)); }

}  // namespace shoal
