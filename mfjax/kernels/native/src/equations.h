// The normal equations of one row, and their solution.
//
// With x = [u_i | b_i], φ_j = [v_j | 1] and y_ij = r_ij − c_j − μ,
//
//     A_i = Σ w φ φᵀ    c_i = Σ w y φ        equation (1) of `mfjax.kernels.normal`
//
// The bias is eliminated: with A = [G q; qᵀ w], G = Rᵀ R, and z, z' the solutions of Rᵀ z = c, Rᵀ z' = q,
// b_i = (c_b − z'z) / (w − z'z').
#pragma once
#include "factor.h"
#include "matrices.h"
#include "rows.h"

namespace mfjax::MFJAX_ISA {

constexpr int BLOCK = 64;  // ratings that are packed together

// C latent columns on whole registers, or any number (0).
template <typename T, int C> class Equations {
 public:
  explicit Equations(const Side<T>& side, const T* of_other = nullptr)
      : of_other(of_other), side_(side), rank_(side.rank), any_size_(whole(side.rank)),
        has_bias_(side.has_bias()),
        room_((2 * size() * size() + 2 * BLOCK * size() + 9 * (size() + BLOCK)) / LANES<T> + 1) {
    T* at = reinterpret_cast<T*>(room_[0]);
    auto take = [&](int64_t count) { return (at += count) - count; };
    gram = take(size() * size());
    factor = take(size() * size());
    pack = take(BLOCK * size());
    weighted = take(BLOCK * size());
    right = take(size() + BLOCK);
    border = take(size() + BLOCK);
    ridges = take(size() + BLOCK);
    inverse = take(size() + BLOCK);
    z = take(size() + BLOCK);
    target = take(BLOCK);
    weight = take(BLOCK);
  }

 protected:
  const T* const of_other;  // by which weights of the other side's rows are multiplied, or null
  const Side<T>& side_;
  const int64_t rank_, any_size_;
  const bool has_bias_;
  Room<T, 1> room_;
  T *gram, *factor, *pack, *weighted, *right, *border, *ridges, *inverse, *z, *target, *weight;
  const T* rows[BLOCK];
  T corner, right_of_bias, bias;

  // The numbers of as many whole registers.
  static int64_t whole(int64_t count) { return Row<T, 0>::vectors(count) * LANES<T>; }
  int64_t size() const { return C ? C : any_size_; }

  // The rows of some ratings and their w and w y; of missing entries' Gram part, less what it says there.
  template <bool MISSING> void gather(int64_t i, int64_t n, int count) {
    int b = 0;
    for (; b + LANES<T> <= count; b += LANES<T>) gather<MISSING, LANES<T>>(i, n, b, LANES<T>);
    for (; b < count; b += FEW<T>)
      gather<MISSING, FEW<T>>(i, n, b, count - b < FEW<T> ? count - b : FEW<T>);
  }

  template <bool MISSING, int N> void gather(int64_t i, int64_t n, int first, int count) {
    const Entries<Few<T, N>> seen = read<T, MISSING, N>(side_, i, n + first, count);
    const Few<T, N> weights = seen.weight - seen.alpha;
    const Few<T, N> targets = seen.weight * seen.target - seen.alpha * seen.background;
    __builtin_memcpy(weight + first, &weights, sizeof weights);
    __builtin_memcpy(target + first, &targets, sizeof targets);
    for (int b = first; b < first + count; b++) {
      const int32_t col = side_.ratings.col[n + b];
      rows[b] = side_.other.row(col);
      if (!of_other) continue;
      weight[b] *= of_other[col];
      target[b] *= of_other[col];
    }
  }

  void clear() {
    for (int64_t c = 0; c < size() * size(); c++) gram[c] = 0;
    for (int64_t c = 0; c < size(); c++) right[c] = border[c] = 0;
    corner = right_of_bias = 0;
  }

  // Adds A and c of row i.
  template <bool MISSING> void add_ratings(int64_t i) {
    Vector<T> weights = {}, targets = {};
    for (int64_t n = side_.ratings.start[i], end = side_.ratings.start[i + 1]; n < end;
         n += BLOCK) {
      const int count = end - n < BLOCK ? int(end - n) : BLOCK;
      gather<MISSING>(i, n, count);
      for (int b = count; b < whole(count); b++) weight[b] = target[b] = 0;
      for (int b = 0; b < count; b += LANES<T>) {
        weights += load(weight + b);
        targets += load(target + b);
      }
      weigh(rows, weight, target, size(), count, weighted, border, right);
      add_products(gram, rows, weighted, size(), count);
    }
    corner += lane_sum<T>(weights);
    right_of_bias += lane_sum<T>(targets);
  }

  // Solves (A + ridge) x = c, where that has a factor Rᵀ R; given `noise` z of unit variance, with R⁻¹ z
  // added: a draw of the normal distribution of that precision.
  template <typename Ridge>
  bool solved(const Ridge& ridge, const T* noise = nullptr, T spread = 0) {
    const Columns<T>& columns = side_.latent;
    T* of_border = weighted;
    for (int64_t c = 0; c < size(); c += LANES<T>) {
      const auto is_free = load(columns.free + c) > 0;
      const Vector<T> of_free = ridge(load(columns.reg + c));
      store(ridges + c, is_free ? of_free : all(T(1)));
      store(z + c, is_free ? load(right + c) : Vector<T>{});
      store(of_border + c, is_free ? load(border + c) : Vector<T>{});
    }
    if (!factorise(gram, ridges, size(), factor, inverse)) return false;
    T* const sides[2] = {z, of_border};
    solve_transposed<T, 2>(factor, size(), inverse, sides);
    if (has_bias_) {
      Vector<T> shared = {}, square = {};
      for (int64_t c = 0; c < size(); c += LANES<T>) {
        shared += load(of_border + c) * load(z + c);
        square += load(of_border + c) * load(of_border + c);
      }
      T pivot = corner + ridge(all(side_.bias_reg))[0] - lane_sum<T>(square);
      if (!(pivot > 0)) return false;
      bias = (right_of_bias - lane_sum<T>(shared)) / pivot;
      if (noise) bias += spread * noise[rank_] / root(pivot);
      for (int64_t c = 0; c < size(); c++) z[c] -= bias * of_border[c];
    }
    for (int64_t c = 0; noise && c < rank_; c++)
      if (columns.free[c] > 0) z[c] += spread * noise[c];
    solve_upper(factor, size(), inverse, z);
    return true;
  }

  void fail() {
    for (int64_t c = 0; c < size(); c++) z[c] = __builtin_nan("");
    bias = z[0];
  }

  void put(T* row) const {
    for (int64_t c = 0; c < rank_; c++) row[c] = side_.latent.free[c] * z[c];
    if (!has_bias_) return;
    row[side_.own_bias()] = bias;
    row[side_.other_bias()] = T(1);
  }
};

}  // namespace mfjax::MFJAX_ISA
