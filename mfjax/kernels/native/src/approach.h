// Rows of one side nearer to their minimum, by steps of conjugate gradients from where they are.
//
// L is quadratic in one row, with the matrix A + diag λ of `solve.h`; a product with it is the sum of
// `rows.h` without the ratings' values, so that no matrix is formed (Takács, Pilászy and Tikk 2011).
#pragma once
#include "rows.h"

namespace mfjax::MFJAX_ISA {

// A vector of the system of one row: latent columns and the own bias.
template <typename T> struct Direction {
  Vector<T>* latent;
  T bias;
};

// G row − h, of which the own pinned column is 1 against the others' biases.
template <typename T>
void add_missing(const Side<T>& side, const Missing<T>& missing, int64_t i, bool of_values,
                 const Direction<T>& row, Direction<T>& image) {
  const Row<T, 0> latent(side.rank);
  const T own = side.is_item ? side.background[i] : T(0);
  const T* entries = reinterpret_cast<const T*>(row.latent);
  auto add = [&](int64_t column, T times) {
    const T* of_gram = missing.gram + column * side.own.columns;
    for (int64_t v = 0; v * LANES<T> < side.rank; v++)
      image.latent[v] += all(times) * latent.get(of_gram, v);
    if (side.has_bias()) image.bias += times * of_gram[side.own_bias()];
  };
  for (int64_t c = 0; c < side.rank; c++) add(c, entries[c]);
  if (side.has_bias()) add(side.own_bias(), row.bias);
  if (!of_values) return;
  if (side.has_bias()) add(side.other_bias(), T(1));
  for (int64_t v = 0; v * LANES<T> < side.rank; v++)
    image.latent[v] -= latent.get(missing.target, v) + all(own) * latent.get(missing.sum, v);
  if (side.has_bias())
    image.bias -= missing.target[side.own_bias()] + own * missing.sum[side.own_bias()];
}

// image = (Σ E v + ρ reg ∘ row [+ G row − h]) ∘ free: with OF_VALUES the gradient of L in a row, without s;
// else the product of its matrix with a direction, which is 0 in pinned columns; where not ADDS without Σ E v.
// Returns the loss of the row's ratings.
template <typename T, int C, bool MISSING, bool ADDS, bool OF_VALUES>
MFJAX_INLINE double image_of(const Side<T>& side, const Missing<T>& missing, const Row<T, C>& shape,
                             int64_t i, const Direction<T>& row, Direction<T>& image) {
  for (int64_t v = 0; v < shape.vectors(); v++) image.latent[v] = Vector<T>{};
  const Operand<T, C> at{shape, row.latent, row.bias};
  const Sums<T> sums = sum_row<T, C, MISSING, ADDS, OF_VALUES>(side, at, i, image.latent);
  image.bias = (ADDS ? sums.error : T(0)) + side.row_reg[i] * side.bias_reg * row.bias;
  for (int64_t v = 0; v < shape.vectors(); v++)
    image.latent[v] += all(side.row_reg[i]) * shape.get(side.latent.reg, v) * row.latent[v];
  if constexpr (MISSING) add_missing(side, missing, i, OF_VALUES, row, image);
  for (int64_t v = 0; v < shape.vectors(); v++) image.latent[v] *= shape.get(side.latent.free, v);
  if (!side.has_bias()) image.bias = 0;
  return sums.loss;
}

template <typename T>
MFJAX_INLINE T dot(const Direction<T>& a, const Direction<T>& b, int64_t vectors) {
  Vector<T> products = a.latent[0] * b.latent[0];
  for (int64_t v = 1; v < vectors; v++) products += a.latent[v] * b.latent[v];
  return lane_sum<T>(products) + a.bias * b.bias;
}

// a / b, and 0 where b is 0: a row at its minimum stays there.
template <typename T> MFJAX_INLINE T ratio(T a, T b) { return b > 0 ? a / b : T(0); }

// A step takes ½ · length · |residual|² off L. Of the image of the last one nothing is needed but dᵀMd, of which
// Σ E (v·d) is twice the loss of the ratings without their values: no row is added up. Returns the loss of the
// ratings before, less what all steps took: with what L is beside it, of the rows before, L after.
template <typename T, int C, bool MISSING>
double approach_rows(const Side<T>& side, const Missing<T>& missing, int64_t steps, int64_t first,
                     int64_t last, T* rows) {
  const Row<T, C> shape(side.other.columns);
  const Row<T, 0> latent(side.rank);
  const int64_t vectors = shape.vectors();
  Room<T, 4> room(vectors);
  Direction<T> x{room[0], 0}, residual{room[1], 0}, direction{room[2], 0}, image{room[3], 0};
  // a += times b
  auto add = [&](Direction<T>& a, T times, const Direction<T>& b) {
    for (int64_t v = 0; v < vectors; v++) a.latent[v] += all(times) * b.latent[v];
    a.bias += times * b.bias;
  };
  double loss = 0;
  for (int64_t i = first; i < last; i++) {
    x.bias = own_row(side, shape, latent, i, x.latent).bias;
    loss += image_of<T, C, MISSING, true, true>(side, missing, shape, i, x, image);
    for (int64_t v = 0; v < vectors; v++) residual.latent[v] = -image.latent[v];
    for (int64_t v = 0; v < vectors; v++) direction.latent[v] = -image.latent[v];
    residual.bias = direction.bias = -image.bias;
    T square = dot(residual, residual, vectors);
    auto take = [&](T curvature) {
      const T length = ratio(square, curvature);
      loss -= double(length * square) / 2;
      add(x, length, direction);
      return length;
    };
    for (int64_t step = 1; step < steps; step++) {
      image_of<T, C, MISSING, true, false>(side, missing, shape, i, direction, image);
      const T length = take(dot(direction, image, vectors));
      add(residual, -length, image);
      const T next = dot(residual, residual, vectors);
      const T turn = ratio(next, square);
      square = next;
      for (int64_t v = 0; v < vectors; v++)
        direction.latent[v] = residual.latent[v] + all(turn) * direction.latent[v];
      direction.bias = residual.bias + turn * direction.bias;
    }
    if (steps > 0) {
      const double of_ratings =
          image_of<T, C, MISSING, false, false>(side, missing, shape, i, direction, image);
      take(T(2 * of_ratings) + dot(direction, image, vectors));
    }
    put(side, latent, x.latent, x.bias, T(1), rows + i * side.own.columns);
  }
  return loss;
}

}  // namespace mfjax::MFJAX_ISA
