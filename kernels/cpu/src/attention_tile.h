// The two small products of attention on one panel of 16 keys, for up to four rows of queries.
//
// Each output is summed in the same order whatever R is and wherever the panel comes from, so a
// row's result does not depend on the rows beside it.
#pragma once

#include "matrix.h"
#include "simd.h"
#include "tiles.h"

namespace shoal {

constexpr int kKeyTile = 2 * kPanel;  // keys that one softmax step takes

// scores[r][0..16) = query[r][dim] . keys[dim][stride]
template <int R, class T>
SHOAL_NOINLINE void score_panel(const float* query, const T* keys, size_t stride, int dim,
                                float* scores) {
  constexpr int kVecs = kPanel / kLanes;
  Floats acc[R][kVecs];
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < kVecs; ++v) acc[r][v] = Floats{};
  }
  for (int i = 0; i < dim; ++i, keys += stride) {
    Floats key[kVecs];
    SHOAL_UNROLL
    for (int v = 0; v < kVecs; ++v) key[v] = load(keys + v * kLanes);
    SHOAL_UNROLL
    for (int r = 0; r < R; ++r) {
      SHOAL_UNROLL
      for (int v = 0; v < kVecs; ++v) acc[r][v] += key[v] * splat(query[r * dim + i]);
    }
  }
  SHOAL_UNROLL
  for (int r = 0; r < R; ++r) {
    SHOAL_UNROLL
    for (int v = 0; v < kVecs; ++v) store(scores + r * kKeyTile + v * kLanes, acc[r][v]);
  }
}

// out[r][dim] += weights[r][k] * values[k][dim] for the keys [begin, end) of a panel.
template <int R, class T>
SHOAL_NOINLINE void add_panel(const float* weights, const T* values, int begin, int end, int dim,
                              float* out) {
  constexpr int kVecs = kPanel / kLanes;
  for (int column = 0; column < dim; column += kPanel) {
    Floats acc[R][kVecs];
    SHOAL_UNROLL
    for (int r = 0; r < R; ++r) {
      SHOAL_UNROLL
      for (int v = 0; v < kVecs; ++v) acc[r][v] = load(out + r * dim + column + v * kLanes);
    }
    const T* row = values + size_t(begin) * dim + column;
    for (int k = begin; k < end; ++k, row += dim) {
      Floats value[kVecs];
      SHOAL_UNROLL
      for (int v = 0; v < kVecs; ++v) value[v] = load(row + v * kLanes);
      SHOAL_UNROLL
      for (int r = 0; r < R; ++r) {
        SHOAL_UNROLL
        for (int v = 0; v < kVecs; ++v) acc[r][v] += value[v] * splat(weights[r * kKeyTile + k]);
      }
    }
    SHOAL_UNROLL
    for (int r = 0; r < R; ++r) {
      SHOAL_UNROLL
      for (int v = 0; v < kVecs; ++v) store(out + r * dim + column + v * kLanes, acc[r][v]);
    }
  }
}

}  // namespace shoal
