// Plain stochastic gradient descent one pair at a time, x ← x − rate ∂: each visit sees the rows as the last one
// left them. Of lanes side by side a visit reads its rating once, and its rows where they stand together.
//
// A row decays and steps at once, u ← (1 − rate s ρ_i/n_i λ) u − rate s e v, as `visits.h` has it. What is pinned
// of the latent columns is 0 in both tables, and so stays 0.
#pragma once
#include "visits.h"

namespace mfjax::MFJAX_ISA {

// Lanes side by side, whose sums a register holds.
template <typename T>
constexpr int most_abreast = LANES<T> < MOST_ABREAST ? LANES<T> : MOST_ABREAST;

// The same as numbers.
template <typename T, int N> struct Numbered {
  T of[N];
  explicit Numbered(Each<T, N> x) { __builtin_memcpy(of, &x, sizeof of); }
};

// Which of N lanes do not hold a rating of this fold out; a lane alone has seen to that.
template <typename T, int N> class Taking {
  using Whole = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

 public:
  Taking(Each<int32_t, N> held_out, int32_t fold) {
    if constexpr (N > 1)
      is_out_ = __builtin_convertvector((held_out == fold) & (held_out >= 0), Few<Whole, N>);
  }
  // x, and 0 of lanes that hold it out.
  Each<T, N> operator()(Each<T, N> x) const {
    if constexpr (N > 1)
      return is_out_ ? Each<T, N>{} : x;
    else
      return x;
  }

 private:
  Each<Whole, N> is_out_ = {};
};

// u·v of N lanes, each in two chains, to the same bits with any N.
template <typename T, int C, int N>
MFJAX_INLINE Each<T, N> products(const T* user, const T* item, int64_t vectors) {
  auto u = [&](int64_t nth) { return load(user + nth * LANES<T>); };
  auto w = [&](int64_t nth) { return load(item + nth * LANES<T>); };
  if constexpr (C == LANES<T>) {
    Few<T, LANES<T> / 2> sum[N];
    for (int lane = 0; lane < N; lane++) sum[lane] = folded_product<T>(user + lane * C, w(lane));
    return sums<T, N, LANES<T> / 2>(sum);
  } else {
    Vector<T> sum[N];
    for (int lane = 0; lane < N; lane++) {
      const int64_t first = lane * vectors, end = first + vectors;
      Vector<T> even = u(first) * w(first),
                odd = vectors > 1 ? u(first + 1) * w(first + 1) : Vector<T>{};
      for (int64_t v = first + 2; v < end; v += 2) even = multiply_add<T>(u(v), w(v), even);
      for (int64_t v = first + 3; v < end; v += 2) odd = multiply_add<T>(u(v), w(v), odd);
      sum[lane] = even + odd;
    }
    return sums<T, N>(sum);
  }
}

// Both rows of a rating in N lanes: x ← keep x − step y.
template <typename T, int N>
MFJAX_INLINE void move_rows(T* user, T* item, int64_t vectors, Each<T, N> step,
                            Each<T, N> keep_user, Each<T, N> keep_item) {
  const Numbered<T, N> steps(-step), keep_users(keep_user), keep_items(keep_item);
  for (int lane = 0; lane < N; lane++) {
    const Vector<T> back = all(steps.of[lane]);
    const Vector<T> keep_u = all(keep_users.of[lane]), keep_w = all(keep_items.of[lane]);
    for (int64_t v = 0; v < vectors; v++) {
      const int64_t at = (lane * vectors + v) * LANES<T>;
      const Vector<T> u = load(user + at), w = load(item + at);
      store(user + at, multiply_add<T>(back, w, keep_u * u));
      store(item + at, multiply_add<T>(back, u, keep_w * w));
    }
  }
}

// losses[lane] += Σ w e² of each lane. The epoch is a copy, so that the compiler knows that no row lies in it.
template <typename T, int C, int N> void visit_pairs(const Pairs<T> epoch, double* losses) {
  const int64_t columns = C ? C : epoch.user.columns, vectors = columns / LANES<T>;
  const Each<int32_t, N> held_out = load_each<N>(epoch.held_out);
  const Each<T, N> centre = load_each<N>(epoch.centre), scale = load_each<N>(epoch.scale);
  const Each<T, N> user_reg = load_each<N>(epoch.user_reg), item_reg = load_each<N>(epoch.item_reg);
  const Each<T, N> user_bias_reg = load_each<N>(epoch.user_bias_reg);
  const Each<T, N> item_bias_reg = load_each<N>(epoch.item_bias_reg);
  auto rates_of = [&](int64_t visit) __attribute__((always_inline)) {
    T rates[N];
    for (int lane = 0; lane < N; lane++) rates[lane] = epoch.rates[lane][visit];
    return load_each<N>(rates) * scale;
  };
  const bool is_one_rate = epoch.rates[0].step == 0;
  const Each<T, N> first_rates = rates_of(0);
  double loss[N] = {};
  for (int64_t visit = 0; visit < epoch.visits; visit++) {
    fetch_ahead(epoch, N * columns, visit);
    const int64_t place = epoch.order[visit];
    const Rated<T> rating = epoch.ratings[place];
    const int32_t fold = fold_of(epoch, place);
    if (rating.weight == 0) continue;
    if (epoch.is_one_fold && fold >= 0 && fold == epoch.held_out[0]) continue;
    if (!is_of_rows(epoch, rating)) return;
    const Taking<T, N> taking(held_out, fold);
    T *user = epoch.user.data + rating.user * N * columns,
      *item = epoch.item.data + rating.item * N * columns;
    Each<T, N> residual = products<T, C, N>(user, item, vectors);
    Each<T, N> user_bias = {}, item_bias = {};
    if (epoch.user_bias) {
      user_bias = load_each<N>(epoch.user_bias + rating.user * N);
      item_bias = load_each<N>(epoch.item_bias + rating.item * N);
      residual += user_bias + item_bias;
    }
    residual -= rating.value - centre;
    const Each<T, N> error = taking(rating.weight * residual);
    const Numbered<T, N> errors(error), residuals(residual);
    for (int lane = 0; lane < N; lane++)
      loss[lane] += double(errors.of[lane]) * double(residuals.of[lane]);
    const Each<T, N> rate = taking(is_one_rate ? first_rates : rates_of(visit));
    const Each<T, N> step = rate * error;
    const Each<T, N> user_decay = rate * load_each<N>(epoch.user_share + rating.user * N);
    const Each<T, N> item_decay = rate * load_each<N>(epoch.item_share + rating.item * N);
    if (epoch.user_bias) {
      user_bias -= step + user_decay * user_bias_reg * user_bias;
      item_bias -= step + item_decay * item_bias_reg * item_bias;
      __builtin_memcpy(epoch.user_bias + rating.user * N, &user_bias, sizeof user_bias);
      __builtin_memcpy(epoch.item_bias + rating.item * N, &item_bias, sizeof item_bias);
    }
    move_rows<T, N>(user, item, vectors, step, 1 - user_decay * user_reg,
                    1 - item_decay * item_reg);
  }
  for (int lane = 0; lane < N; lane++) losses[lane] += loss[lane];
}

}  // namespace mfjax::MFJAX_ISA
