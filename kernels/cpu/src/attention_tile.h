// The two small products of attention on a tile of 32 keys, for a few rows of queries.
//
// A tile is two panels of 16 keys, which may lie in different blocks. Each output is summed in the
// same order whatever R is and wherever the panels come from, so a row's result does not depend on
// the rows beside it.
#pragma once

#include "matrix.h"
#include "simd.h"
#include "tiles.h"

namespace shoal {

constexpr int kKeyTile = 2 * kPanel;  // keys that one softmax step takes

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

// How many of `most` vectors can be accumulated for each row: what is multiplied wants registers too,
// all of the fewer side and one of the other.
constexpr int vectors_beside(int rows, int most) {
  int vectors = most;
  while (vectors > 1 && rows * vectors + (rows < vectors ? rows : vectors) + 1 > kRegisters) {
    vectors /= 2;
  }
  return vectors;
}

// acc[r][v] += weights[r * stride] * vectors[v], in the order that needs the fewest registers.
template <int R, int V, class Load>
__attribute__((always_inline)) inline void multiply_add(Floats (&acc)[R][V], const float* weights,
                                                        size_t stride, Load&& vector) {
  if constexpr (R <= V) {
    SHOAL_UNROLL
    for (int v = 0; v < V; ++v) {
      const Floats x = vector(v);
      SHOAL_UNROLL
      for (int r = 0; r < R; ++r) acc[r][v] += x * splat(weights[r * stride]);
    }
  } else {
    Floats x[V];
    SHOAL_UNROLL
    for (int v = 0; v < V; ++v) x[v] = vector(v);
    SHOAL_UNROLL
    for (int r = 0; r < R; ++r) {
      const Floats weight = splat(weights[r * stride]);
      SHOAL_UNROLL
      for (int v = 0; v < V; ++v) acc[r][v] += x[v] * weight;
    }
  }
}

// scores[r][V * kLanes] = query[r][dim] . keys[dim][stride]; `keys` has a pointer a panel. The same
// places of the panels in `next` are asked for meanwhile.
template <int R, int V, class T>
inline void score_vectors(const float* query, const T* const* keys, const T* const* next,
                          size_t stride, int dim, float* scores) {
  constexpr int kPerPanel = kPanel / kLanes, kPanels = V > kPerPanel ? V / kPerPanel : 1;
  const T *from[kPanels], *soon[kPanels];
  for (int p = 0; p < kPanels; ++p) from[p] = keys[p], soon[p] = next[p];
  Floats acc[R][V];
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < V; ++v) acc[r][v] = Floats{};
  }
  for (int i = 0; i < dim; ++i) {
    multiply_add<R, V>(acc, query + i, size_t(dim), [&](int v) {
      return load(from[v / kPerPanel] + v % kPerPanel * kLanes);
    });
    SHOAL_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      __builtin_prefetch(soon[p]);
      from[p] += stride;
      soon[p] += stride;
    }
  }
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < V; ++v) store(scores + r * kKeyTile + v * kLanes, acc[r][v]);
  }
}

// scores[r][32] of the panels [begin, end) of a tile.
template <int R, class T>
SHOAL_NOINLINE void score_tile(const float* query, const T* const* keys, const T* const* next,
                               int begin, int end, size_t stride, int dim, float* scores) {
  constexpr int kPerPanel = kPanel / kLanes, kBoth = vectors_beside(R, 2 * kPerPanel);
  if constexpr (kBoth == 2 * kPerPanel) {
    if (end - begin == 2) return score_vectors<R, kBoth>(query, keys, next, stride, dim, scores);
  }
  constexpr int kOne = vectors_beside(R, kPerPanel);
  for (int p = begin; p < end; ++p) {
    for (int v = 0; v < kPerPanel; v += kOne) {
      const T *part = keys[p] + v * kLanes, *soon = next[p] + v * kLanes;
      score_vectors<R, kOne>(query, &part, &soon, stride, dim, scores + p * kPanel + v * kLanes);
    }
  }
}

// out[r][V * kLanes] += weights[r][k] * values[k][V * kLanes] for the keys [begin, end) of a tile.
template <int R, int V, class T>
inline void add_vectors(const float* weights, const T* const* values, const T* const* next,
                        int begin, int end, int dim, int column, float* out) {
  Floats acc[R][V];
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < V; ++v) acc[r][v] = load(out + r * dim + column + v * kLanes);
  }
  for (int k = begin; k < end;) {
    const int panel = k / kPanel, last = end < (panel + 1) * kPanel ? end : (panel + 1) * kPanel;
    const size_t place = size_t(k % kPanel) * dim + column;
    const T *row = values[panel] + place, *soon = next[panel] + place;
    for (; k < last; ++k, row += dim, soon += dim) {
      __builtin_prefetch(soon);
      multiply_add<R, V>(acc, weights + k, kKeyTile, [&](int v) { return load(row + v * kLanes); });
    }
  }
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < V; ++v) store(out + r * dim + column + v * kLanes, acc[r][v]);
  }
}

template <int R, class T>
SHOAL_NOINLINE void add_tile(const float* weights, const T* const* values, const T* const* next,
                             int begin, int end, int dim, float* out) {
  constexpr int kWide = vectors_beside(R, 8), kNarrow = vectors_beside(R, kPanel / kLanes);
  int column = 0;
  for (; column + kWide * kLanes <= dim; column += kWide * kLanes) {
    add_vectors<R, kWide>(weights, values, next, begin, end, dim, column, out);
  }
  for (; column < dim; column += kNarrow * kLanes) {
    add_vectors<R, kNarrow>(weights, values, next, begin, end, dim, column, out);
  }
}

}  // namespace shoal
