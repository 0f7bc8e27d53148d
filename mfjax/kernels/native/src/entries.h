// Some ratings of a row as a lane sees them: `entries_seen` and `on_ratings` of `mfjax.objective`.
#pragma once
#include "operands.h"
#include "vector.h"

namespace mfjax::MFJAX_ISA {

constexpr int32_t LISTED = -3;  // the fold of a missing entry that is listed

// Some ratings side by side, X = Few<T, N>.
template <typename X> struct Entries {
  X target;      // the value, less the centre and the other row's bias
  X weight;      // of the lane
  X alpha;       // what the Gram part says there already; 0 where missing entries cost nothing
  X background;  // b, less the centre and the other row's bias
};

// Whether each of N numbers is among the first `count`.
template <typename Whole, int N> MFJAX_INLINE auto first_of(int count) {
  Few<Whole, N> place = {};
  for (int b = 0; b < N; b++) place[b] = Whole(b);
  return place < Few<Whole, N>{} + Whole(count);
}

// The `count` ratings from n on, of a row; those up to N after them weigh nothing. Ratings that a lane holds
// out, and missing entries that the layout lists, are b of weight α where missing entries cost, and weigh
// nothing where they do not.
template <typename T, bool MISSING, int N>
MFJAX_INLINE Entries<Few<T, N>> read(const Side<T>& side, int64_t row, int64_t n, int count) {
  using Whole = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  const Ratings<T>& ratings = side.ratings;
  const Lane<T>& lane = side.lane;
  const Few<T, N> nothing = {};
  Few<T, N> value = {}, weight = {}, background = {}, bias = {};
  Few<int32_t, N> fold = {};
  if (n + N <= ratings.start[side.own.rows]) {
    value = load_few<N>(ratings.value + n);
    weight = load_few<N>(ratings.weight + n);
    fold = load_few<N>(ratings.fold + n);
    if (count < N) {
      const auto is_of_row = first_of<Whole, N>(count);
      value = is_of_row ? value : nothing;
      weight = is_of_row ? weight : nothing;
    }
  } else {
    for (int b = 0; b < count; b++) {
      value[b] = ratings.value[n + b];
      weight[b] = ratings.weight[n + b];
      fold[b] = ratings.fold[n + b];
    }
  }
  for (int b = 0; b < N; b++) bias[b] = side.other.bias[ratings.col[n + (b < count ? b : 0)]];
  Few<T, N> target = value - lane.centre - bias;
  Few<int32_t, N> is_out = (fold >= 0) & (fold == lane.fold);
  if constexpr (!MISSING) {
    weight = __builtin_convertvector(is_out, Few<Whole, N>) ? nothing : weight;
    return {target, weight, nothing, nothing};
  } else {
    for (int b = 0; b < count; b++)
      background[b] = side.background[side.is_item ? row : ratings.col[n + b]];
    background -= bias;
    auto is_missing = __builtin_convertvector(is_out | (fold == LISTED), Few<Whole, N>);
    Few<T, N> listed = weight > 0 ? nothing + (lane.alpha - lane.gram_alpha) : nothing;
    weight = is_missing ? listed : weight;
    Few<T, N> alpha = weight > 0 ? nothing + lane.gram_alpha : nothing;
    return {is_missing ? background : target, weight, alpha, background};
  }
}

// E and twice the loss, given p = u·v and the own bias: E = w (p − target) − α (p − background), without s.
template <bool MISSING, typename X>
MFJAX_INLINE X error_of(X prediction, const Entries<X>& seen, X& loss) {
  X residual = prediction - seen.target;
  X error = seen.weight * residual;
  loss += error * residual;
  if constexpr (MISSING) {
    X gap = prediction - seen.background;
    X counted = seen.alpha * gap;
    error -= counted;
    loss -= counted * gap;
  }
  return error;
}

// As it is where the ratings' values, b and the other rows' biases count as 0.
template <typename X> MFJAX_INLINE Entries<X> without_values(const Entries<X>& seen) {
  return {X{}, seen.weight, seen.alpha, X{}};
}

}  // namespace mfjax::MFJAX_ISA
