// Rows of activations times a packed matrix, shared among a team of threads.
#pragma once

#include "threads.h"
#include "tiles.h"

namespace shoal {

constexpr int kBlockRows = 96;  // rows that stay in the second-level cache while panels pass

// Calls `done(row, unit, values)` for each row and each unit of `Unit` neighbouring panels, with
// values[Unit][16]. Every thread of the team calls this.
template <int Unit, class Done>
void matmul(Team& team, const Matrix& m, const Activations& x, int rows, Done&& done) {
  const int units = m.panels() / Unit;
  const int blocks = (rows + kBlockRows - 1) / kBlockRows;
  const int grain = blocks > 1 ? 1 + units / 16 : team.grain(units);
  team.share(units * blocks, grain, [&](int begin, int end) {
    for (int task = begin; task < end; ++task) {
      const int unit = task % units, first = task / units * kBlockRows;
      const int last = first + kBlockRows < rows ? first + kBlockRows : rows;
      alignas(64) float values[Unit][kTileRows][kPanel];
      auto tiles = [&]<int R>(int row) {
        for (int i = 0; i < Unit; ++i) tile<R>(m, unit * Unit + i, x, row, values[i][0]);
        for (int r = 0; r < R; ++r) {
          alignas(64) float of_row[Unit][kPanel];
          for (int i = 0; i < Unit; ++i) std::memcpy(of_row[i], values[i][r], sizeof of_row[i]);
          done(row + r, unit, of_row);
        }
      };
      int row = first;
      for (; row + 4 <= last; row += 4) tiles.template operator()<4>(row);
      switch (last - row) {
        case 3: tiles.template operator()<3>(row); break;
        case 2: tiles.template operator()<2>(row); break;
        case 1: tiles.template operator()<1>(row); break;
      }
    }
  });
}

// Adds the bias and copies up to 16 outputs of a panel that are not padding.
template <class Store>
inline void each_output(const Matrix& m, int panel, const float* values, Store&& put) {
  const int begin = panel * kPanel;
  const int count = m.rows - begin < kPanel ? m.rows - begin : kPanel;
  for (int i = 0; i < count; ++i) {
    put(begin + i, values[i] + (m.bias ? m.bias[begin + i] : 0.0f));
  }
}

// out[rows][m.rows] = x[rows][m.columns] times the matrix; `in` has room for the rows.
inline void multiply_rows(Team& team, const Matrix& m, Activations& in, const float* x, int rows,
                          float* out) {
  team.share(rows, 1, [&](int row, int) {
    in.write(m.format, row, 0, x + size_t(row) * m.columns, m.columns);
  });
  matmul<1>(team, m, in, rows, [&](int row, int panel, auto& values) {
    float* to = out + size_t(row) * m.rows;
    each_output(m, panel, values[0], [&](int n, float y) { to[n] = y; });
  });
}

}  // namespace shoal
