// What happens to one token between the matrices: RMSNorm, rotary embedding, the gated activation.
#pragma once

#include <cmath>

#include "simd.h"

namespace shoal {

// out = x / sqrt(mean(x^2) + eps) * weight
inline void rms_norm(const float* x, const float* weight, int dim, float eps, float* out) {
  Floats squares = {};
  int i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    const Floats v = load(x + i);
    squares += v * v;
  }
  float total = sum(squares);
  for (; i < dim; ++i) total += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(total / float(dim) + eps);
  for (i = 0; i + kLanes <= dim; i += kLanes) {
    store(out + i, load(x + i) * factor * load(weight + i));
  }
  for (; i < dim; ++i) out[i] = x[i] * factor * weight[i];
}

// Rotate each pair (x[i], x[i + half]) by its angle, in place.
inline void rotate(float* x, const float* cosines, const float* sines, int half) {
  for (int i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cosines[i] - b * sines[i];
    x[i + half] = b * cosines[i] + a * sines[i];
  }
}

// Multiply by an orthonormal Hadamard matrix, in place: twice is the identity, and the dot product of
// two vectors stays the same. It spreads the few large dimensions of keys and values over all, which
// 4-bit codes need (QuaRot: Ashkboos et al., 2024). Blocks are the largest power of two in dim.
inline void hadamard(float* x, int dim) {
  const int block = dim & -dim;
  for (int half = 1; half < block; half *= 2) {
    for (int i = 0; i < dim; i += 2 * half) {
      for (int j = i; j < i + half; ++j) {
        const float a = x[j], b = x[j + half];
        x[j] = a + b;
        x[j + half] = a - b;
      }
    }
  }
  const float scale = 1.0f / std::sqrt(float(block));
  for (int i = 0; i < dim; ++i) x[i] *= scale;
}

// out = silu(gate) * up
inline void silu_and_mul(const float* gate, const float* up, int dim, float* out) {
  for (int i = 0; i < dim; i += kLanes) store(out + i, silu(load(gate + i)) * load(up + i));
}

}  // namespace shoal
