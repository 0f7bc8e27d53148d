// What visits of stochastic gradient descent have in common; both tables are moved in place.
//
// Rating (i, j) has, with e = w (u_i·v_j − r_ij) and the shares of `mfjax.kernels.batches`, the gradient
//
//     u_i: s · (e v_j + reg ρ_i/n_i u_i)        v_j: s · (e u_i + reg σ_j/m_j v_j)
//
// of the tables as they were before its batch. The gradients of a row that comes twice in a batch are
// summed before it moves; held-out ratings and padding move nothing.
#pragma once
#include <cstddef>

#include "rows.h"

namespace mfjax::MFJAX_ISA {

constexpr int64_t RATING_AHEAD = 32;  // visits by which a rating is fetched before it is wanted,
constexpr int64_t ROWS_AHEAD = 8;     // and its rows

// Of an Epoch, or of Pairs; below 0 where none is held out.
template <typename E> MFJAX_INLINE int32_t fold_of(const E& epoch, int64_t place) {
  return epoch.fold ? epoch.fold[place] : -1;
}

template <typename T> MFJAX_INLINE T weight_of(const Epoch<T>& epoch, int64_t place) {
  const int32_t fold = fold_of(epoch, place);
  return fold >= 0 && fold == epoch.lane.fold ? T(0) : epoch.ratings[place].weight;
}

template <typename E, typename T>
MFJAX_INLINE bool is_of_rows(const E& epoch, const Rated<T>& rating) {
  bool is_out = uint32_t(rating.user) >= uint64_t(epoch.user.rows) ||
                uint32_t(rating.item) >= uint64_t(epoch.item.rows);
  if (is_out) *epoch.is_out_of_range = true;
  return !is_out;
}

// `columns` are those of a row, of all lanes.
template <typename E>
MFJAX_INLINE void fetch_ahead(const E& epoch, int64_t columns, int64_t visit) {
  if (visit + RATING_AHEAD < epoch.visits) {
    int64_t place = epoch.order[visit + RATING_AHEAD];
    __builtin_prefetch(epoch.ratings + place);
    if (epoch.fold) __builtin_prefetch(epoch.fold + place);
  }
  if (visit + ROWS_AHEAD < epoch.visits) {
    const auto& rating = epoch.ratings[epoch.order[visit + ROWS_AHEAD]];
    const auto *user = epoch.user.data + rating.user * columns,
               *item = epoch.item.data + rating.item * columns;
    for (int64_t c = 0; c < columns; c += 64 / int64_t(sizeof *user)) {
      __builtin_prefetch(user + c);
      __builtin_prefetch(item + c);
    }
  }
}

// move(visit, rating, weight) for visits `begin` up to, and not, `end`, but for those that weigh nothing; none
// after a rating of no row.
template <typename T, int C, typename Move>
MFJAX_INLINE void over_visits(const Epoch<T>& epoch, const Row<T, C>& shape, int64_t begin,
                              int64_t end, const Move& move) {
  for (int64_t visit = begin; visit < end; visit++) {
    fetch_ahead(epoch, shape.columns(), visit);
    int64_t place = epoch.order[visit];
    T weight = weight_of(epoch, place);
    if (weight == 0) continue;
    const Rated<T> rating = epoch.ratings[place];
    if (!is_of_rows(epoch, rating)) return;
    move(visit, rating, weight);
  }
}

// u·v, in two chains.
template <typename T, int C>
MFJAX_INLINE T product(const Row<T, C>& shape, const T* user, const T* item) {
  Vector<T> even = shape.get(user, 0) * shape.get(item, 0), odd = {};
  for (int64_t v = 1; v < shape.vectors(); v++) {
    Vector<T> part = shape.get(user, v) * shape.get(item, v);
    if (v % 2)
      odd += part;
    else
      even += part;
  }
  return lane_sum<T>(even + odd);
}

}  // namespace mfjax::MFJAX_ISA
