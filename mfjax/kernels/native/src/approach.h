// Rows of one side nearer to their minimum, by steps of conjugate gradients from where they are.
//
// L is quadratic in one row, with the matrix A + diag λ of `solve.h`; a product with it is the sum of
// `rows.h` without the ratings' values, so that no matrix is formed (Takács, Pilászy and Tikk 2011).
#pragma once
#include "rows.h"

namespace mfjax::MFJAX_ISA {

// image = (Σ E v + ρ reg ∘ row [+ G row − h]) ∘ free: with `of_values` the gradient of L in a row, without
// s; else the product of its matrix with a direction that is 0 in pinned columns.
template <typename T, int C, bool MISSING>
MFJAX_INLINE void image_of(const Side<T>& side, const Missing<T>& missing, const Row<T, C>& shape,
                           int64_t i, bool of_values, const Vector<T>* row, Vector<T>* u,
                           Vector<T>* image) {
  Vector<T> from_pins = {};
  for (int64_t v = 0; v < shape.vectors(); v++) {
    u[v] = row[v] * shape.get(side.other_columns.free, v);
    from_pins += row[v] * shape.get(side.other_columns.pin, v);
    image[v] = Vector<T>{};
  }
  Operand<T, C> at{shape, u, lane_sum<T>(from_pins)};
  Sums<T> sums = sum_row<T, C, MISSING, true>(side, at, i, of_values, image);
  for (int64_t v = 0; v < shape.vectors(); v++) {
    image[v] = image[v] * shape.get(side.other_columns.free, v) +
               all(sums.error) * shape.get(side.other_columns.pin, v) +
               all(side.row_reg[i]) * shape.get(side.own_columns.reg, v) * row[v];
  }
  if constexpr (MISSING) {
    const T* entries = reinterpret_cast<const T*>(row);
    for (int64_t c = 0; c < shape.columns(); c++)
      for (int64_t v = 0; v < shape.vectors(); v++)
        image[v] += all(entries[c]) * shape.get(missing.gram + c * shape.columns(), v);
    T own = side.is_item ? side.background[i] : T(0);
    if (of_values)
      for (int64_t v = 0; v < shape.vectors(); v++)
        image[v] -= shape.get(missing.target, v) + all(own) * shape.get(missing.sum, v);
  }
  for (int64_t v = 0; v < shape.vectors(); v++) image[v] *= shape.get(side.own_columns.free, v);
}

template <typename T> MFJAX_INLINE T dot(const Vector<T>* a, const Vector<T>* b, int64_t vectors) {
  Vector<T> products = a[0] * b[0];
  for (int64_t v = 1; v < vectors; v++) products += a[v] * b[v];
  return lane_sum<T>(products);
}

// a / b, and 0 where b is 0: a row at its minimum stays there.
template <typename T> MFJAX_INLINE T ratio(T a, T b) { return b > 0 ? a / b : T(0); }

template <typename T, int C, bool MISSING>
void approach_rows(const Side<T>& side, const Missing<T>& missing, int64_t steps, int64_t first,
                   int64_t last, T* rows) {
  const Row<T, C> shape(side.own.columns);
  const int64_t vectors = shape.vectors();
  Room<T, 5> room(vectors);
  Vector<T>*x = room[0], *residual = room[1], *direction = room[2], *image = room[3], *u = room[4];
  for (int64_t i = first; i < last; i++) {
    for (int64_t v = 0; v < vectors; v++)
      x[v] = shape.get(side.own.row(i), v) * shape.get(side.own_columns.free, v) +
             shape.get(side.own_columns.pin, v);
    image_of<T, C, MISSING>(side, missing, shape, i, true, x, u, image);
    for (int64_t v = 0; v < vectors; v++) residual[v] = direction[v] = -image[v];
    T square = dot<T>(residual, residual, vectors);
    for (int64_t step = 0; step < steps; step++) {
      image_of<T, C, MISSING>(side, missing, shape, i, false, direction, u, image);
      T length = ratio(square, dot<T>(direction, image, vectors));
      for (int64_t v = 0; v < vectors; v++) {
        x[v] += all(length) * direction[v];
        residual[v] -= all(length) * image[v];
      }
      T next = dot<T>(residual, residual, vectors);
      T turn = ratio(next, square);
      square = next;
      for (int64_t v = 0; v < vectors; v++) direction[v] = residual[v] + all(turn) * direction[v];
    }
    for (int64_t v = 0; v < vectors; v++) shape.set(rows + i * shape.columns(), v, x[v]);
  }
}

}  // namespace mfjax::MFJAX_ISA
