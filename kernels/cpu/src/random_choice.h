// Draws a token from weights; the randomness is a pure function of (seed, position). The same
// algorithm as kernels/random_choice.py, which says why it is as it is: a Gumbel argmax in two
// levels over a counter-based generator (splitmix64: Steele, Lea, Flood, 2014).
#pragma once

#include <cmath>
#include <cstdint>

#include "simd.h"

namespace shoal {

constexpr int kChoiceBlock = 256;
constexpr uint64_t kGamma = 0x9E3779B97F4A7C15ull;

inline uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// log(weight) + Gumbel noise hashed from (key, counter); weight 0 never wins.
inline double gumbel_score(float weight, uint64_t key, uint64_t counter) {
  const uint64_t bits = mix64(key + (counter + 1) * kGamma) >> 11;  // 53 bits fill a double
  const double uniform = (double(bits) + 0.5) * 0x1p-53;
  return std::log(double(weight)) - std::log(-std::log(uniform));
}

// A token with probability proportional to its weight. weights: [count], padded with zeros to whole
// blocks, none negative, one at least above 0.
inline int choose_token(const float* weights, int count, uint64_t seed, uint64_t position) {
  const uint64_t key = mix64(mix64(seed) + (position + 1) * kGamma);
  int block = 0;
  double best = -INFINITY;
  for (int b = 0; b * kChoiceBlock < count; ++b) {
    Floats total = {};
    for (int i = 0; i < kChoiceBlock; i += kLanes) total += load(weights + b * kChoiceBlock + i);
    const float weight = sum(total);
    if (weight <= 0) continue;
    const double score = gumbel_score(weight, key, uint64_t(b));
    if (score > best) best = score, block = b;
  }
  const uint64_t inner = mix64(key);
  int token = block * kChoiceBlock;
  best = -INFINITY;
  for (int i = 0; i < kChoiceBlock; ++i) {
    const int id = block * kChoiceBlock + i;
    if (weights[id] <= 0) continue;
    const double score = gumbel_score(weights[id], inner, uint64_t(id));
    if (score > best) best = score, token = id;
  }
  return token;
}

}  // namespace shoal
