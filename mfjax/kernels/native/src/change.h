// Rows on their way to the room where an epoch moves them, and back; and what it has done to them.
#pragma once
#include "visits.h"

namespace mfjax::MFJAX_ISA {

constexpr int64_t MOVED_AHEAD = 16;  // rows by which one is fetched before it is wanted

template <typename T, int C>
MFJAX_INLINE void fetch_row_ahead(const Moved<T>& side, const Row<T, C>& shape, int64_t p,
                                  int64_t last) {
  if (p + MOVED_AHEAD >= last) return;
  const T* ahead = side.table.row(side.row_at[p + MOVED_AHEAD]);
  prefetch(shape, ahead);
  __builtin_prefetch(ahead + side.table.columns - 1);
}

// Places `first` up to, and not, `last`, into the room, with zeros after what is kept.
template <typename T, int C> void fetch_rows(const Moved<T>& side, int64_t first, int64_t last) {
  const Row<T, C> shape(side.kept);
  for (int64_t p = first; p < last; p++) {
    fetch_row_ahead(side, shape, p, last);
    const T* from = side.table.row(side.row_at[p]);
    T* to = side.room.row(p);
    for (int64_t v = 0; v < shape.vectors(); v++) store(to + v * LANES<T>, shape.get(from, v));
    if (side.bias) side.bias[p * side.abreast] = from[side.bias_column];
  }
}

// The same back, with Σ (x − x₀)² of what moved from x₀ to x, and the regulariser ½ Σ ρ λ x².
template <typename T, int C>
Change put_rows_back(const Moved<T>& side, int64_t first, int64_t last) {
  const Row<T, C> shape(side.kept);
  Vector<T> squares = {}, regularised = {};
  Change of_biases = {};
  for (int64_t p = first; p < last; p++) {
    fetch_row_ahead(side, shape, p, last);
    const int32_t row = side.row_at[p];
    T* to = side.table.row(row);
    const T* now = side.room.row(p);
    const Vector<T> row_reg = all(side.row_reg[row]);
    for (int64_t v = 0; v < shape.vectors(); v++) {
      const Vector<T> x = load(now + v * LANES<T>), by = x - shape.get(to, v);
      squares += by * by;
      regularised += row_reg * shape.get(side.reg, v) * x * x;
      shape.set(to, v, x);
    }
    if (!side.bias) continue;
    const T bias = side.bias[p * side.abreast];
    const double by = double(bias) - double(to[side.bias_column]);
    of_biases.squares += by * by;
    of_biases.regularised +=
        double(side.row_reg[row] * side.bias_reg) * double(bias) * double(bias);
    to[side.bias_column] = bias;
  }
  return {double(lane_sum<T>(squares)) + of_biases.squares,
          (double(lane_sum<T>(regularised)) + of_biases.regularised) / 2};
}

}  // namespace mfjax::MFJAX_ISA
