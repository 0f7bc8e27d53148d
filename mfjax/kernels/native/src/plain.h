// Plain stochastic gradient descent in batches, x ← x − rate ∂.
#pragma once
#include "visits.h"

namespace mfjax::MFJAX_ISA {

// A column's `free` and `reg` of one side, in registers where a row's columns are known.
template <typename T, int C> class Kept {
 public:
  Kept(const Row<T, C>& shape, const T* values) : shape_(shape), values_(values) {
    if constexpr (C > 0)
      for (int v = 0; v < VECTORS; v++) kept_[v] = shape.get(values, v);
  }
  inline __attribute__((always_inline)) Vector<T> operator[](int64_t v) const {
    if constexpr (C > 0) return kept_[v];
    return shape_.get(values_, v);
  }

 private:
  static constexpr int VECTORS = C ? (C + LANES<T> - 1) / LANES<T> : 1;
  const Row<T, C> shape_;
  const T* values_;
  Vector<T> kept_[VECTORS];
};

// A number of a user and one of an item.
template <typename T> struct Pair {
  T user, item;
};

template <typename T>
MFJAX_INLINE Pair<T> biases_of(const Epoch<T>& epoch, const Rated<T>& rating) {
  if (!epoch.bias.user) return {T(0), T(0)};
  return {epoch.bias.user[rating.user], epoch.bias.item[rating.item]};
}

// Takes a step off both biases of a rating, and what decays of them, given what they were.
template <typename T>
MFJAX_INLINE void move_biases(const Epoch<T>& epoch, const Rated<T>& rating, Pair<T> before, T step,
                              Pair<T> decay) {
  if (!epoch.bias.user) return;
  epoch.bias.user[rating.user] -= step + decay.user * epoch.bias.user_reg * before.user;
  epoch.bias.item[rating.item] -= step + decay.item * epoch.bias.item_reg * before.item;
}

// A visit that waits for the end of its batch.
template <typename T> struct Waiting {
  Rated<T> rating;
  Pair<T> bias, decay;
  T step;
};

// Batches by x ← x − rate ∂: the rows of a batch are copied before any of them moves.
template <typename T, int C> double visit_plain_batches(const Epoch<T> epoch) {
  const Row<T, C> shape(epoch.user.columns);
  const Kept<T, C> user_free(shape, epoch.user_columns.free),
      user_reg(shape, epoch.user_columns.reg);
  const Kept<T, C> item_free(shape, epoch.item_columns.free),
      item_reg(shape, epoch.item_columns.reg);
  const int64_t vectors = shape.vectors();
  Room<T, 1> before(2 * epoch.batch_size * vectors);
  Memory<Waiting<T>> waiting(epoch.batch_size);
  double loss = 0;
  for (int64_t begin = 0; begin < epoch.visits; begin += epoch.batch_size) {
    int64_t end = begin + epoch.batch_size < epoch.visits ? begin + epoch.batch_size : epoch.visits;
    T rate = epoch.rates[begin / epoch.batch_size] * epoch.lane.scale;
    int64_t count = 0;
    over_visits(epoch, shape, begin, end,
                [&](int64_t, const Rated<T>& rating, T weight) __attribute__((always_inline)) {
                  T* user = epoch.user.data + rating.user * shape.columns();
                  T* item = epoch.item.data + rating.item * shape.columns();
                  Vector<T>*u = before[0] + 2 * count * vectors, *w = u + vectors;
                  Vector<T> products = {};
                  for (int64_t v = 0; v < vectors; v++) {
                    u[v] = shape.get(user, v);
                    w[v] = shape.get(item, v);
                    products += u[v] * w[v];
                  }
                  const Pair<T> bias = biases_of(epoch, rating);
                  T residual = lane_sum<T>(products) + bias.user + bias.item;
                  residual -= rating.value - epoch.lane.centre;
                  T error = weight * residual;
                  loss += double(error) * double(residual);
                  const Pair<T> decay = {rate * epoch.user_share[rating.user],
                                         rate * epoch.item_share[rating.item]};
                  waiting[count++] = {rating, bias, decay, rate * error};
                });
    for (int64_t nth = 0; nth < count; nth++) {
      const Waiting<T> one = waiting[nth];
      const Vector<T>*u = before[0] + 2 * nth * vectors, *w = u + vectors;
      T* user = epoch.user.data + one.rating.user * shape.columns();
      T* item = epoch.item.data + one.rating.item * shape.columns();
      move_biases(epoch, one.rating, one.bias, one.step, one.decay);
      for (int64_t v = 0; v < vectors; v++) {
        Vector<T> of_user = all(one.step) * w[v] + all(one.decay.user) * user_reg[v] * u[v];
        Vector<T> of_item = all(one.step) * u[v] + all(one.decay.item) * item_reg[v] * w[v];
        shape.set(user, v, shape.get(user, v) - of_user * user_free[v]);
        shape.set(item, v, shape.get(item, v) - of_item * item_free[v]);
      }
    }
  }
  return loss / 2;
}

}  // namespace mfjax::MFJAX_ISA
