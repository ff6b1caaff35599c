// From a row of logits to a token id. The order is that of engine/runner/sampler.py, the torch twin:
// log-probabilities are of the raw logits; then edits, temperature, filters and the draw. Rows
// without a temperature take the best token. Logits that are not numbers count as impossible.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "buffer.h"
#include "random_choice.h"
#include "simd.h"
#include "weight_filter.h"

namespace shoal {

// Entries of the matrix of logits with a number for each, in ascending order of rows.
struct Edits {
  int32_t count;
  const int32_t* rows;
  const int32_t* tokens;
  const float* values;

  template <class Change>
  void apply(int row, Change&& change) const {
    const int32_t* end = rows + count;
    for (const int32_t* r = std::lower_bound(rows, end, row); r != end && *r == row; ++r) {
      change(tokens[r - rows], values[r - rows]);
    }
  }
};

// What one step asks of the sampler; arrays without a note are [num_rows].
struct Sampling {
  int32_t num_rows;
  const int64_t* tokens;     // rows of the step's hidden states
  const float* temperature;  // 0: greedy
  const int32_t* top_k;
  const float* top_p;
  const float* min_p;
  const int64_t* seeds;
  const int64_t* positions;
  Edits repetition, presence, frequency, added;
  const int32_t* num_logprobs;  // best tokens to report beside the chosen one; -1: no report
  int32_t most_logprobs;
  int64_t* token_ids;  // out
  uint8_t* broken;     // out: whether the row's logits were no numbers
  // out: the chosen token, then the best ones; [num_rows][1 + most_logprobs]
  int32_t* logprob_ids;
  float* logprobs;
  int32_t* ranks;  // out: 1 where no token is likelier than the chosen one
};

// The index of the largest value, the first of equals; -1 when one is NaN. [count], any count.
inline int best_of(const float* x, int count) {
  Floats best = splat(-INFINITY);
  Ints ordered = ~Ints{};
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Floats v = load(x + i);
    best = max(v, best);
    ordered &= v == v;
  }
  float top = largest(best);
  bool is_ordered = true;
  for (int lane = 0; lane < kLanes; ++lane) is_ordered = is_ordered && ordered[lane];
  for (; i < count; ++i) {
    is_ordered = is_ordered && x[i] == x[i];
    top = x[i] > top ? x[i] : top;
  }
  if (!is_ordered) return -1;
  for (i = 0; i < count; ++i) {
    if (x[i] == top) return i;
  }
  return -1;
}

// Log-probabilities of one row. ids, values: [1 + num_top], the given token first; returns its rank.
inline int report_logprobs(const float* logits, int count, int token, int num_top, int32_t* ids,
                           float* values) {
  float top = -INFINITY;
  int above = 0;
  for (int i = 0; i < count; ++i) {
    top = logits[i] > top ? logits[i] : top;
    above += logits[i] > logits[token];
  }
  double total = 0;
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) total += sum(exp(load(logits + i) - top));
  for (; i < count; ++i) total += std::exp(logits[i] - top);
  const float log_z = top + float(std::log(total));
  ids[0] = token;
  values[0] = logits[token] - log_z;
  int held = 0;  // ids + 1 is kept in descending order
  for (i = 0; i < count; ++i) {
    if (held == num_top && !(held && logits[i] > logits[ids[held]])) continue;
    int place = held < num_top ? ++held : held;
    for (; place > 1 && logits[ids[place - 1]] < logits[i]; --place) ids[place] = ids[place - 1];
    ids[place] = i;
  }
  for (i = 1; i <= num_top; ++i) values[i] = logits[ids[i]] - log_z;
  return above + 1;
}

// Scratch memory of one thread.
struct SamplingScratch {
  Buffer<float> weights, raw;
  WeightHistogram histogram;
};

inline void edit_logits(const Sampling& s, int row, float* logits) {
  s.repetition.apply(row, [&](int token, float penalty) {
    // The same token may be named twice: what is written is worked out from the old value once.
    if (penalty > 0) logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
  });
  s.presence.apply(row, [&](int token, float penalty) { logits[token] -= penalty; });
  s.frequency.apply(row, [&](int token, float penalty) { logits[token] -= penalty; });
  s.added.apply(row, [&](int token, float bias) { logits[token] += bias; });
}

// Choose the token of one row; overwrites its logits [vocabulary].
inline void sample_row(const Sampling& s, int row, float* logits, int vocabulary,
                       SamplingScratch& scratch) {
  const bool reports = s.num_logprobs[row] >= 0;
  if (reports) scratch.raw.assign(logits, logits + vocabulary);
  edit_logits(s, row, logits);
  int best = best_of(logits, vocabulary);
  s.broken[row] = best < 0 || !std::isfinite(logits[best]);
  if (s.broken[row]) {
    for (int i = 0; i < vocabulary; ++i) {
      const float x = logits[i];
      logits[i] = x != x || x == -INFINITY ? -FLT_MAX : x == INFINITY ? FLT_MAX : x;
    }
    best = best_of(logits, vocabulary);
  }
  int token = best;
  if (s.temperature[row] > 0) {
    const int padded = (vocabulary + kChoiceBlock - 1) / kChoiceBlock * kChoiceBlock;
    reserve(scratch.weights, size_t(padded));
    float* weights = scratch.weights.data();
    // Subtract before dividing: a tiny temperature then gives 0 and -inf, never inf - inf.
    const float top = logits[best], temperature = s.temperature[row];
    int i = 0;
    for (; i + kLanes <= vocabulary; i += kLanes) {
      store(weights + i, exp((load(logits + i) - top) / temperature));
    }
    for (; i < vocabulary; ++i) weights[i] = exp(splat((logits[i] - top) / temperature))[0];
    for (; i < padded; ++i) weights[i] = 0;
    filter_weights(weights, padded, s.top_k[row], s.top_p[row], s.min_p[row], scratch.histogram);
    token = choose_token(weights, padded, uint64_t(s.seeds[row]), uint64_t(s.positions[row]));
  }
  s.token_ids[row] = token;
  if (reports) {
    const size_t at = size_t(row) * (1 + s.most_logprobs);
    s.ranks[row] = report_logprobs(scratch.raw.data(), vocabulary, token, s.num_logprobs[row],
                                   s.logprob_ids + at, s.logprobs + at);
  }
}

}  // namespace shoal
