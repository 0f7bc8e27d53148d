// An epoch of stochastic gradient descent, a batch of ratings at a time, both tables in place.
//
// Rating (i, j) has, with e = w (u_i·v_j − r_ij) and the shares of `mfjax.methods.sgd`, the gradient
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

template <typename T> MFJAX_INLINE T weight_of(const Epoch<T>& epoch, int64_t place) {
  int32_t fold = epoch.fold[place];
  return fold >= 0 && fold == epoch.lane.fold ? T(0) : epoch.ratings[place].weight;
}

template <typename T> MFJAX_INLINE bool is_of_rows(const Epoch<T>& epoch, const Rated<T>& rating) {
  bool is_out = uint32_t(rating.user) >= uint64_t(epoch.user.rows) ||
                uint32_t(rating.item) >= uint64_t(epoch.item.rows);
  if (is_out) *epoch.is_out_of_range = true;
  return !is_out;
}

template <typename T, int C>
MFJAX_INLINE void fetch_ahead(const Epoch<T>& epoch, const Row<T, C>& shape, int64_t visit) {
  if (visit + RATING_AHEAD < epoch.visits) {
    int64_t place = epoch.order[visit + RATING_AHEAD];
    __builtin_prefetch(epoch.ratings + place);
    __builtin_prefetch(epoch.fold + place);
  }
  if (visit + ROWS_AHEAD < epoch.visits) {
    const Rated<T>& rating = epoch.ratings[epoch.order[visit + ROWS_AHEAD]];
    prefetch<T, C>(shape, epoch.user.data + rating.user * shape.columns());
    prefetch<T, C>(shape, epoch.item.data + rating.item * shape.columns());
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

// One pair at a time, x ← x − rate ∂: each visit sees the rows as the last one left them. The epoch is a
// copy, so that the compiler knows that no row lies in it.
template <typename T, int C> double visit_pairs(const Epoch<T> epoch) {
  const Row<T, C> shape(epoch.user.columns);
  const Kept<T, C> user_free(shape, epoch.user_columns.free),
      user_reg(shape, epoch.user_columns.reg);
  const Kept<T, C> item_free(shape, epoch.item_columns.free),
      item_reg(shape, epoch.item_columns.reg);
  double loss = 0;
  for (int64_t visit = 0; visit < epoch.visits; visit++) {
    fetch_ahead(epoch, shape, visit);
    int64_t place = epoch.order[visit];
    T weight = weight_of(epoch, place);
    if (weight == 0) continue;
    const Rated<T> rating = epoch.ratings[place];
    if (!is_of_rows(epoch, rating)) break;
    T* user = epoch.user.data + rating.user * shape.columns();
    T* item = epoch.item.data + rating.item * shape.columns();
    const Pair<T> bias = biases_of(epoch, rating);
    T residual = product(shape, user, item) + bias.user + bias.item;
    residual -= rating.value - epoch.lane.centre;
    T error = weight * residual;
    loss += double(error) * double(residual);
    T rate = epoch.rates[visit] * epoch.lane.scale;
    const Pair<T> decay = {rate * epoch.user_share[rating.user],
                           rate * epoch.item_share[rating.item]};
    move_biases(epoch, rating, bias, rate * error, decay);
    Vector<T> step = all(rate * error);
    Vector<T> user_decay = all(decay.user), item_decay = all(decay.item);
    for (int64_t v = 0; v < shape.vectors(); v++) {
      Vector<T> u = shape.get(user, v), w = shape.get(item, v);
      Vector<T> of_user = step * w + user_decay * user_reg[v] * u;
      Vector<T> of_item = step * u + item_decay * item_reg[v] * w;
      shape.set(user, v, u - of_user * user_free[v]);
      shape.set(item, v, w - of_item * item_free[v]);
    }
  }
  return loss / 2;
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
    for (int64_t visit = begin; visit < end; visit++) {
      fetch_ahead(epoch, shape, visit);
      int64_t place = epoch.order[visit];
      T weight = weight_of(epoch, place);
      if (weight == 0) continue;
      const Rated<T> rating = epoch.ratings[place];
      if (!is_of_rows(epoch, rating)) break;
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
    }
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

template <typename T> MFJAX_INLINE Vector<T> square_root(Vector<T> x) {
  for (int lane = 0; lane < LANES<T>; lane++) x[lane] = __builtin_sqrt(x[lane]);
  return x;
}

// A row after its gradient, by one of optax's rules. `options` of momentum and nesterov: the decay; of
// adagrad: eps; of adam: b1, b2, eps, eps_root.
template <typename T, int C> class Mover {
 public:
  Mover(const Epoch<T>& epoch, const Row<T, C>& shape) : epoch_(epoch), shape_(shape) {}

  void begin_batch(int64_t nth) {
    rate_ = all(epoch_.rates[nth]);
    if (epoch_.rule != Rule::adam) return;
    double count = double(epoch_.updates + nth + 1);
    of_first_ = all(T(1 / (1 - __builtin_pow(double(epoch_.options[0]), count))));
    of_second_ = all(T(1 / (1 - __builtin_pow(double(epoch_.options[1]), count))));
  }

  void move(int side, int64_t row, const Vector<T>* grad) {
    T* x = (side ? epoch_.item : epoch_.user).row(row);
    T* first = epoch_.first[side].data ? epoch_.first[side].row(row) : nullptr;
    T* second = epoch_.second[side].data ? epoch_.second[side].row(row) : nullptr;
    for (int64_t v = 0; v < shape_.vectors(); v++)
      shape_.set(x, v, shape_.get(x, v) - rate_ * direction(grad[v], first, second, v));
  }

 private:
  const Epoch<T>& epoch_;
  const Row<T, C>& shape_;
  Vector<T> rate_ = {}, of_first_ = {}, of_second_ = {};

  Vector<T> direction(Vector<T> g, T* first, T* second, int64_t v) {
    const T* options = epoch_.options;
    switch (epoch_.rule) {
      case Rule::sgd:
        return g;
      case Rule::momentum:
      case Rule::nesterov: {
        Vector<T> trace = g + all(options[0]) * shape_.get(first, v);
        shape_.set(first, v, trace);
        return epoch_.rule == Rule::momentum ? trace : g + all(options[0]) * trace;
      }
      case Rule::adagrad: {
        Vector<T> squares = shape_.get(first, v) + g * g;
        shape_.set(first, v, squares);
        Vector<T> root = square_root<T>(squares + all(options[0]));
        return squares > 0 ? g / root : Vector<T>{};
      }
      case Rule::adam: {
        Vector<T> mean = all(options[0]) * shape_.get(first, v) + all(1 - options[0]) * g;
        Vector<T> square = all(options[1]) * shape_.get(second, v) + all(1 - options[1]) * g * g;
        shape_.set(first, v, mean);
        shape_.set(second, v, square);
        Vector<T> root = square_root<T>(square * of_second_ + all(options[3]));
        return mean * of_first_ / (root + all(options[2]));
      }
    }
    return g;
  }
};

// The rows that a batch touches, each with the sum of its gradients.
template <typename T> class Touched {
 public:
  Touched(int64_t rows, int64_t batch_size, int64_t vectors)
      : vectors_(vectors), room_(2 * batch_size * vectors), count_(0), slots_(rows),
        rows_(2 * batch_size) {
    for (int64_t row = 0; row < rows; row++) slots_[row] = -1;
  }

  Vector<T>* gradient(int64_t row) {
    int32_t& slot = slots_[row];
    if (slot < 0) {
      slot = int32_t(count_);
      rows_[count_++] = int32_t(row);
      Vector<T>* sum = room_[0] + slot * vectors_;
      for (int64_t v = 0; v < vectors_; v++) sum[v] = Vector<T>{};
    }
    return room_[0] + slot * vectors_;
  }

  template <typename Move> void move_all(const Move& move) {
    for (int64_t slot = 0; slot < count_; slot++) {
      move(int64_t(rows_[slot]), room_[0] + slot * vectors_);
      slots_[rows_[slot]] = -1;
    }
    count_ = 0;
  }

 private:
  int64_t vectors_;
  Room<T, 1> room_;
  int64_t count_;
  Memory<int32_t> slots_, rows_;
};

template <typename T, int C> double visit_batches(const Epoch<T> epoch) {
  const Row<T, C> shape(epoch.user.columns);
  const int64_t users = epoch.user.rows, vectors = shape.vectors();
  Touched<T> touched(users + epoch.item.rows, epoch.batch_size, vectors);
  Mover<T, C> mover(epoch, shape);
  double loss = 0;
  for (int64_t begin = 0; begin < epoch.visits; begin += epoch.batch_size) {
    int64_t end = begin + epoch.batch_size < epoch.visits ? begin + epoch.batch_size : epoch.visits;
    for (int64_t visit = begin; visit < end; visit++) {
      fetch_ahead(epoch, shape, visit);
      int64_t place = epoch.order[visit];
      T weight = weight_of(epoch, place);
      if (weight == 0) continue;
      const Rated<T> rating = epoch.ratings[place];
      if (!is_of_rows(epoch, rating)) break;
      const T *user = epoch.user.row(rating.user), *item = epoch.item.row(rating.item);
      T residual = product(shape, user, item) - (rating.value - epoch.lane.centre);
      T error = weight * residual;
      loss += double(error) * double(residual);
      Vector<T> step = all(epoch.lane.scale * error);
      Vector<T> user_decay = all(epoch.lane.scale * epoch.user_share[rating.user]);
      Vector<T> item_decay = all(epoch.lane.scale * epoch.item_share[rating.item]);
      Vector<T>* of_user = touched.gradient(rating.user);
      Vector<T>* of_item = touched.gradient(users + rating.item);
      for (int64_t v = 0; v < vectors; v++) {
        Vector<T> u = shape.get(user, v), w = shape.get(item, v);
        of_user[v] += (step * w + user_decay * shape.get(epoch.user_columns.reg, v) * u) *
                      shape.get(epoch.user_columns.free, v);
        of_item[v] += (step * u + item_decay * shape.get(epoch.item_columns.reg, v) * w) *
                      shape.get(epoch.item_columns.free, v);
      }
    }
    mover.begin_batch(begin / epoch.batch_size);
    touched.move_all([&](int64_t row, const Vector<T>* grad) {
      int side = row >= users;
      mover.move(side, side ? row - users : row, grad);
    });
  }
  return loss / 2;
}

template <typename T, int C> double visit_all(const Epoch<T>& epoch) {
  if (epoch.rule != Rule::sgd) return visit_batches<T, C>(epoch);
  return epoch.batch_size == 1 ? visit_pairs<T, C>(epoch) : visit_plain_batches<T, C>(epoch);
}

}  // namespace mfjax::MFJAX_ISA
