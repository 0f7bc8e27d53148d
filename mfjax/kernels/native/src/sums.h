// What the other side's rows sum to over the ratings of a row: Σ_j w_ij v_j of those that a lane does not hold out.
#pragma once
#include "rows.h"

namespace mfjax::MFJAX_ISA {

// Of rows `first` up to, and not, `last`; `other` and `sums` have the same columns.
template <typename T, int C>
void sums_of_rows(const Ratings<T>& ratings, int32_t held_out, const Table<const T>& other,
                  int64_t first, int64_t last, T* sums) {
  constexpr int64_t AHEAD = 8;
  const Row<T, C> shape(other.columns);
  const int64_t vectors = shape.vectors(), end_of_all = ratings.start[last];
  Room<T, 1> room(vectors);
  Vector<T>* sum = room[0];
  for (int64_t i = first; i < last; i++) {
    for (int64_t v = 0; v < vectors; v++) sum[v] = Vector<T>{};
    for (int64_t n = ratings.start[i]; n < ratings.start[i + 1]; n++) {
      if (n + AHEAD < end_of_all) prefetch(shape, other.row(ratings.col[n + AHEAD]));
      const int32_t fold = ratings.fold[n];
      const Vector<T> weight = all(fold >= 0 && fold == held_out ? T(0) : ratings.weight[n]);
      const T* row = other.row(ratings.col[n]);
      for (int64_t v = 0; v < vectors; v++) sum[v] += weight * shape.get(row, v);
    }
    for (int64_t v = 0; v < vectors; v++) shape.set(sums + i * other.columns, v, sum[v]);
  }
}

}  // namespace mfjax::MFJAX_ISA
