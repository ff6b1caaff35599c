// What the processor can do at best: reads from memory, and multiply-adds on registers alone.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The shortest of `repeats` runs of `body(thread)` on all threads at once, in seconds.
template <class Body>
double shortest(int num_threads, int repeats, Body&& body) {
  double best = 1e9;
  for (int i = 0; i < repeats; ++i) {
    const double begin = now();
    std::vector<std::thread> threads;
    for (int t = 1; t < num_threads; ++t) threads.emplace_back([&, t] { body(t); });
    body(0);
    for (auto& thread : threads) thread.join();
    const double taken = now() - begin;
    best = taken < best ? taken : best;
  }
  return best;
}

constexpr int64_t kRounds = 20'000'000;

// Twelve independent chains of `op`, on registers: a function of its own, or they land in memory.
template <class Vector, class Op>
__attribute__((noinline)) Vector chains(Vector start, Op op) {
  Vector acc[12];
#pragma GCC unroll 12
  for (int c = 0; c < 12; ++c) acc[c] = start;
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < 12; ++c) {
      acc[c] = op(acc[c]);
#if defined(__x86_64__)
      asm volatile("" : "+x"(acc[c]));  // every round is done
#endif
    }
  }
  return acc[0];
}

// Operations per second of all threads.
template <class Vector, class Op>
double rate(int num_threads, int repeats, Vector start, Op op) {
  const double taken = shortest(num_threads, repeats, [&](int) {
    Vector last = chains(start, op);
    asm volatile("" : : "m"(last));
  });
  return 12.0 * kRounds * num_threads / taken;
}

}  // namespace

extern "C" {

// Bytes per second that all threads read together from memory[0, size), each from its own part.
double floor_read_bytes(const uint8_t* memory, int64_t size, int32_t num_threads, int32_t repeats) {
  const int64_t part = size / num_threads / 64 * 64;
  const double taken = shortest(num_threads, repeats, [&](int thread) {
    typedef uint64_t Words __attribute__((vector_size(32)));
    const uint8_t* from = memory + thread * part;
    Words a{}, b{};
    for (int64_t i = 0; i < part; i += 64) {
      Words x, y;
      std::memcpy(&x, from + i, sizeof x);
      std::memcpy(&y, from + i + 32, sizeof y);
      a |= x;
      b |= y;
    }
    a |= b;
    asm volatile("" : : "m"(a));
  });
  return double(part) * num_threads / taken;
}

// Multiply-adds per second of the instructions that the kernels use for weights of 4, 8 and 16 bits;
// 0 where they use none in particular.
double floor_multiply_adds(int32_t bits, int32_t num_threads, int32_t repeats) {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
  if (bits <= 8) {
    const __m512i one = _mm512_set1_epi8(1);
    return 64 * rate(num_threads, repeats, _mm512_setzero_si512(),
                     [&](__m512i a) { return _mm512_dpbusd_epi32(a, one, one); });
  }
#elif defined(__AVX2__)
  const __m256i one = _mm256_set1_epi8(1);
  if (bits == 4) {
    return 32 * rate(num_threads, repeats, _mm256_setzero_si256(), [&](__m256i a) {
      return _mm256_add_epi16(a, _mm256_maddubs_epi16(one, a));
    });
  }
  if (bits == 8) {
    return 16 * rate(num_threads, repeats, _mm256_setzero_si256(), [&](__m256i a) {
      return _mm256_add_epi32(a, _mm256_madd_epi16(one, a));
    });
  }
#endif
#if defined(__AVX512BF16__)
  const __m512bh bh = (__m512bh)_mm512_setzero_si512();
  return 32 * rate(num_threads, repeats, _mm512_setzero_ps(),
                   [&](__m512 a) { return _mm512_dpbf16_ps(a, bh, bh); });
#elif defined(__AVX512F__)
  const __m512 half = _mm512_set1_ps(0.5f);
  return 16 * rate(num_threads, repeats, _mm512_setzero_ps(),
                   [&](__m512 a) { return _mm512_fmadd_ps(half, a, half); });
#elif defined(__AVX2__)
  const __m256 half = _mm256_set1_ps(0.5f);
  return 8 * rate(num_threads, repeats, _mm256_setzero_ps(),
                  [&](__m256 a) { return _mm256_fmadd_ps(half, a, half); });
#else
  (void)bits, (void)num_threads, (void)repeats;
  return 0;
#endif
}

}  // extern "C"
