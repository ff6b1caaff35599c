// top_k, top_p and min_p without a sort of the vocabulary: one histogram finds the few weights
// among which the cutoff lies, and only those are sorted. The rules, and what happens to ties, are
// those of kernels/token_filter.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "simd.h"

namespace shoal {

// Weights by size: a bucket holds those that agree in exponent and the first five bits after it, so
// it is 3 % wide. Weights lie in [0, 1].
class WeightHistogram {
 public:
  // Counts those of weights[count] that are above 0.
  void fill(const float* weights, int count) {
    std::memset(counts_, 0, sizeof counts_);
    std::memset(masses_, 0, sizeof masses_);
    weights_ = weights;
    size_ = count;
    for (int i = 0; i < count; ++i) {
      const int bucket = bucket_of(weights[i]);
      ++counts_[bucket];
      masses_[bucket] += weights[i];
    }
    counts_[0] = 0;  // of zeros, and of weights too light for any sum
  }

  double total() const {
    double mass = 0;
    for (double m : masses_) mass += m;
    return mass;
  }

  // The place in descending order where `done(tokens before, mass before, weight)` first says that
  // no more are wanted; found from the buckets whose end `done` says yes to. Returns the last weight
  // that was wanted, at least the best; and how much the wanted ones weigh together.
  template <class Done>
  float last_wanted(Done&& done, double* mass_out) {
    int64_t tokens = 0;
    double mass = 0;
    float last = 1.0f;
    bool any = false;
    for (int bucket = kBuckets - 1; bucket > 0; --bucket) {
      if (!counts_[bucket]) continue;
      if (any && done(tokens, mass)) break;
      if (!done(tokens + counts_[bucket] - 1, mass + masses_[bucket])) {  // all of them, surely
        tokens += counts_[bucket];
        mass += masses_[bucket];
        last = lowest_in(bucket);
        any = true;
        continue;
      }
      collect(bucket);
      for (float weight : sorted_) {
        if (any && done(tokens, mass)) break;
        ++tokens;
        mass += weight;
        last = weight;
        any = true;
      }
    }
    if (mass_out) *mass_out = mass;
    return last;
  }

 private:
  static constexpr int kShift = 18, kBuckets = (0x3f800000 >> kShift) + 1;

  static int bucket_of(float weight) {
    uint32_t bits;
    std::memcpy(&bits, &weight, sizeof bits);
    return int(bits >> kShift);
  }

  static float lowest_in(int bucket) {
    const uint32_t bits = uint32_t(bucket) << kShift;
    float weight;
    std::memcpy(&weight, &bits, sizeof weight);
    return weight;
  }

  void collect(int bucket) {
    sorted_.clear();
    for (int i = 0; i < size_; ++i) {
      if (bucket_of(weights_[i]) == bucket) sorted_.push_back(weights_[i]);
    }
    std::sort(sorted_.begin(), sorted_.end(), std::greater<float>());
  }

  const float* weights_ = nullptr;
  int size_ = 0;
  int32_t counts_[kBuckets];
  double masses_[kBuckets];
  std::vector<float> sorted_;
};

inline void zero_below(float* weights, int count, float limit) {
  for (int i = 0; i < count; i += kLanes) {
    const Floats v = load(weights + i);
    store(weights + i, v >= splat(limit) ? v : Floats{});
  }
}

// Zero the weights that a row must not choose. weights: [count], of which the best is 1, padded with
// zeros to whole vectors. top_k 0, top_p 1 and min_p 0 are off.
inline void filter_weights(float* weights, int count, int top_k, float top_p, float min_p,
                           WeightHistogram& histogram) {
  if (min_p > 0) zero_below(weights, count, min_p);
  const bool limits_count = top_k > 0 && top_k < count;
  if (!limits_count && top_p >= 1.0f) return;
  histogram.fill(weights, count);
  double mass = 0;
  float cutoff = 0;
  if (limits_count) {
    cutoff = histogram.last_wanted([&](int64_t tokens, double) { return tokens >= top_k; }, &mass);
  } else {
    mass = histogram.total();
  }
  if (top_p < 1.0f) {
    const double needed = double(top_p) * mass;
    cutoff = histogram.last_wanted(
        [&](int64_t tokens, double before) {
          return before >= needed || (limits_count && tokens >= top_k);
        },
        nullptr);
  }
  zero_below(weights, count, cutoff);
}

}  // namespace shoal
