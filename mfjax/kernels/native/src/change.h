// What an epoch has done to the rows of one side, and what the regulariser says of where they are.
#pragma once
#include "visits.h"

namespace mfjax::MFJAX_ISA {

constexpr int64_t CHANGED_AHEAD = 16;  // rows by which one is fetched before it is wanted

// Of places `first` up to, and not, `last`. Columns beyond `kept` are zeros of a room.
template <typename T> Change change_of(const Moved<T>& side, int64_t first, int64_t last) {
  const Row<T, 0> narrow(side.kept), wide(side.now.columns);
  Vector<T> squares = {}, regularised = {};
  for (int64_t p = first; p < last; p++) {
    const int32_t row = side.row_at[p];
    if (p + CHANGED_AHEAD < last) {
      const T* ahead = side.before.row(side.row_at[p + CHANGED_AHEAD]);
      prefetch(narrow, ahead);
      __builtin_prefetch(ahead + side.kept - 1);
    }
    const T *before = side.before.row(row), *now = side.now.row(p);
    const Vector<T> row_reg = all(side.row_reg[row]);
    for (int64_t v = 0; v < narrow.vectors(); v++) {
      const Vector<T> x = wide.get(now, v), by = x - narrow.get(before, v);
      squares += by * by;
      regularised += row_reg * wide.get(side.reg, v) * x * x;
    }
  }
  return {double(lane_sum<T>(squares)), double(lane_sum<T>(regularised)) / 2};
}

}  // namespace mfjax::MFJAX_ISA
