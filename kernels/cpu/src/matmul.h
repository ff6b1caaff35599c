// Rows of activations times a packed matrix, shared among a team of threads.
#pragma once

#include "threads.h"
#include "tiles.h"

namespace shoal {

constexpr int kBlockRows = 96;  // rows that stay in the second-level cache while panels pass
constexpr int kMaxUnit = 16;    // panels that one call of `done` may get

// Calls `done(row, rows, unit, values)` for each few neighbouring rows and each unit of `unit`
// neighbouring panels, with values[rows][unit * 16], which it may overwrite. Every thread of the team
// calls this.
template <class Done>
void matmul(Team& team, const Matrix& m, const Activations& x, int rows, int unit, Done&& done) {
  const int units = m.panels() / unit;
  const int blocks = (rows + kBlockRows - 1) / kBlockRows;
  const int grain = blocks > 1 ? 1 + units / 16 : team.grain(units);
  const size_t stride = size_t(unit) * kPanel;
  team.share(units * blocks, grain, [&](int begin, int end) {
    alignas(64) float values[kTileRows * kMaxUnit * kPanel];
    for (int task = begin; task < end; ++task) {
      const int u = task % units, first = task / units * kBlockRows;
      const int last = first + kBlockRows < rows ? first + kBlockRows : rows;
      auto tiles = [&]<int R>(int row) {
        for (int i = 0; i < unit; ++i) tile<R>(m, u * unit + i, x, row, values + i * kPanel, stride);
        done(row, R, u, values);
      };
      int row = first;
      for (; row + kTileRows <= last; row += kTileRows) tiles.template operator()<kTileRows>(row);
      for_rows<kTileRows - 1>(last - row, [&]<int R>() { tiles.template operator()<R>(row); });
    }
  });
}

inline void add_bias(const float* bias, int count, float* values) {
  for (int i = 0; bias && i < count; ++i) values[i] += bias[i];
}

// The outputs of a panel that are not padding: [begin, begin + count).
struct PanelOutputs {
  int begin, count;
  PanelOutputs(const Matrix& m, int panel)
      : begin(panel * kPanel), count(m.rows - begin < kPanel ? m.rows - begin : kPanel) {}
};

// out[row][m.rows] = row of x times the matrix, for rows that x holds already.
inline void multiply(Team& team, const Matrix& m, const Activations& x, int rows, float* out) {
  matmul(team, m, x, rows, 1, [&](int row, int count, int panel, float* values) {
    const PanelOutputs o(m, panel);
    for (int end = row + count; row < end; ++row, values += kPanel) {
      if (m.bias) add_bias(m.bias + o.begin, o.count, values);
      std::memcpy(out + size_t(row) * m.rows + o.begin, values, o.count * sizeof(float));
    }
  });
}

}  // namespace shoal
