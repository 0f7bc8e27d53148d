// How far a lane's predictions are from its ratings: `evaluate` of `mfjax.metrics.evaluation`.
#pragma once
#include "lanes.h"
#include "operands.h"

namespace mfjax::MFJAX_ISA {

// Sums by lanes of a register: those of the training ratings, and those of what is held out.
template <typename T> struct Part {
  Vector<T> squares, absolutes, weights;

  void add(Vector<T> error, Vector<T> weight) {
    const Vector<T> size = error < 0 ? -error : error;
    squares += weight * error * error;
    absolutes += weight * size;
    weights += weight;
  }
  ErrorSums sums() const {
    return {double(lane_sum<T>(squares)), double(lane_sum<T>(absolutes)),
            double(lane_sum<T>(weights))};
  }
};

// x and zeros.
template <typename T> MFJAX_INLINE Vector<T> first_lane(T x) {
  Vector<T> lanes = {};
  lanes[0] = x;
  return lanes;
}

// u_i·v_j and both biases of `count` ratings from n on, at most a register; of those after them, of the last.
template <typename T, int C>
MFJAX_INLINE Vector<T> predictions(const Scored<T>& scored, const Row<T, C>& shape, int64_t n,
                                   int count) {
  const bool has_bias = scored.rank < scored.user.columns;
  Vector<T> partial[LANES<T>];
#pragma GCC unroll 16
  for (int b = 0; b < LANES<T>; b++) {
    const int64_t at = n + (b < count ? b : count - 1);
    const T *u = scored.user.row(scored.user_of[at]), *v = scored.item.row(scored.item_of[at]);
    partial[b] = first_lane(has_bias ? u[scored.rank] + v[scored.rank + 1] : T(0));
    for (int64_t c = 0; c < shape.vectors(); c++)
      partial[b] = multiply_add<T>(shape.get(u, c), shape.get(v, c), partial[b]);
  }
  return sums<T, LANES<T>>(partial);
}

// Of ratings `first` up to, and not, `last`: training, held out.
template <typename T, int C>
std::pair<ErrorSums, ErrorSums> errors_of(const Scored<T>& scored, int64_t first, int64_t last) {
  using Whole = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  constexpr int N = LANES<T>;
  const Row<T, C> shape(scored.rank);
  const Vector<T> nothing = {};
  Part<T> train = {}, held_out = {};
  for (int64_t n = first; n < last; n += N) {
    const int count = last - n < N ? int(last - n) : N;
    const Mask<T> mask(count);
    Vector<T> prediction = predictions(scored, shape, n, count) + scored.centre;
    prediction = prediction < scored.low ? all(scored.low) : prediction;
    prediction = prediction > scored.high ? all(scored.high) : prediction;
    const Vector<T> error = prediction - load(scored.value + n, mask);
    const Vector<T> weight = load(scored.weight + n, mask);
    Few<int32_t, N> fold = {};
    __builtin_memcpy(&fold, scored.fold + n, size_t(count) * sizeof(int32_t));
    const Few<int32_t, N> is_out = (fold >= 0) & (fold == scored.held_out);
    const auto is_held_out = __builtin_convertvector(is_out, Few<Whole, N>);
    train.add(error, is_held_out ? nothing : weight);
    held_out.add(error, is_held_out ? weight : nothing);
  }
  return {train.sums(), held_out.sums()};
}

}  // namespace mfjax::MFJAX_ISA
