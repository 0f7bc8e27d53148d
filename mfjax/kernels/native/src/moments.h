// Stochastic gradient descent in batches by rules that keep moments of each row.
#pragma once
#include "visits.h"

namespace mfjax::MFJAX_ISA {

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
      case Rule::sgd:  // of pairs.h
        break;
      case Rule::momentum:
      case Rule::nesterov: {
        Vector<T> trace = g + all(options[0]) * shape_.get(first, v);
        shape_.set(first, v, trace);
        return epoch_.rule == Rule::momentum ? trace : g + all(options[0]) * trace;
      }
      case Rule::adagrad: {
        Vector<T> squares = shape_.get(first, v) + g * g;
        shape_.set(first, v, squares);
        Vector<T> root = roots<T>(squares + all(options[0]));
        return squares > 0 ? g / root : Vector<T>{};
      }
      case Rule::adam: {
        Vector<T> mean = all(options[0]) * shape_.get(first, v) + all(1 - options[0]) * g;
        Vector<T> square = all(options[1]) * shape_.get(second, v) + all(1 - options[1]) * g * g;
        shape_.set(first, v, mean);
        shape_.set(second, v, square);
        Vector<T> root = roots<T>(square * of_second_ + all(options[3]));
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
    over_visits(epoch, shape, begin, end,
                [&](int64_t, const Rated<T>& rating, T weight) __attribute__((always_inline)) {
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
                    of_user[v] +=
                        (step * w + user_decay * shape.get(epoch.user_columns.reg, v) * u) *
                        shape.get(epoch.user_columns.free, v);
                    of_item[v] +=
                        (step * u + item_decay * shape.get(epoch.item_columns.reg, v) * w) *
                        shape.get(epoch.item_columns.free, v);
                  }
                });
    mover.begin_batch(begin / epoch.batch_size);
    touched.move_all([&](int64_t row, const Vector<T>* grad) {
      int side = row >= users;
      mover.move(side, side ? row - users : row, grad);
    });
  }
  return loss / 2;
}

}  // namespace mfjax::MFJAX_ISA
