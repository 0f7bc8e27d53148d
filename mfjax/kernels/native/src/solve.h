// Every row of one side at its exact minimum, given the other side.
//
// With x = [u_i | b_i], φ_j = [v_j | 1] and y_ij = r_ij − c_j − μ the minimum solves
//
//     (A_i + diag λ) x = c_i    A_i = Σ w φ φᵀ    c_i = Σ w y φ                                    (1)
//
// and, with Φ the rows √w φ of n ratings and t the numbers √w y, the same x is
//
//     x = D Φᵀ (Φ D Φᵀ + I)⁻¹ t        D = diag 1/λ                                                (2)
//
// for rows of few ratings: equations (1) and (2) of `mfjax.kernels.normal`. The bias is eliminated: with
// A = [G q; qᵀ w], and z, z' the solutions of Rᵀ z = c, Rᵀ z' = q, b_i = (c_b − z'z) / (w + λ_b − z'z').
#pragma once
#include "matrices.h"
#include "rows.h"

namespace mfjax::MFJAX_ISA {

constexpr int BLOCK = 64;       // ratings that are packed together
constexpr double TINY = 1e-30;  // keeps a row of zeros regular
constexpr double ROUNDING = 4;  // the ridge of a λ of 0, in ε times the sum of A's diagonal
constexpr double STEP = 16;     // by which the ridge is raised where rounding leaves no factor

// The system of one row, and what it is made from; C latent columns on whole registers, or any number (0).
template <typename T, int C> class System {
 public:
  explicit System(const Side<T>& side)
      : side_(side), rank_(side.rank), any_size_((side.rank + LANES<T> - 1) / LANES<T> * LANES<T>),
        has_bias_(side.has_bias()),
        room_((2 * size() * size() + 2 * BLOCK * size() + 8 * (size() + BLOCK)) / LANES<T> + 1) {
    T* at = reinterpret_cast<T*>(room_[0]);
    auto take = [&](int64_t count) { return (at += count) - count; };
    gram = take(size() * size());
    factor = take(size() * size());
    pack = take(BLOCK * size());
    weighted = take(BLOCK * size());
    right = take(size() + BLOCK);
    border = take(size() + BLOCK);
    inverse = take(size() + BLOCK);
    z = take(size() + BLOCK);
    target = take(BLOCK);
    weight = take(BLOCK);
  }

  template <bool MISSING> void solve(const Missing<T>& missing, int64_t i, T* row) {
    int64_t n = side_.ratings.start[i], end = side_.ratings.start[i + 1];
    bool is_few = !MISSING && 2 * (end - n) <= size() && end - n <= BLOCK && has_inverse(i);
    if (is_few) {
      by_ratings(n, int(end - n), i);
    } else {
      normal_equations<MISSING>(missing, i);
      by_columns(i);
    }
    for (int64_t c = 0; c < rank_; c++) row[c] = side_.latent.free[c] * z[c];
    if (!has_bias_) return;
    row[side_.own_bias()] = bias;
    row[side_.other_bias()] = T(1);
  }

 private:
  const Side<T>& side_;
  const int64_t rank_, any_size_;
  const bool has_bias_;
  Room<T, 1> room_;
  T *gram, *factor, *pack, *weighted, *right, *border, *inverse, *z, *target, *weight;
  const T* rows[BLOCK];
  T corner, right_of_bias, bias;

  int64_t size() const { return C ? C : any_size_; }

  bool has_inverse(int64_t i) const {
    const Columns<T>& columns = side_.latent;
    for (int64_t c = 0; c < rank_; c++)
      if (columns.free[c] > 0 && !(side_.row_reg[i] * columns.reg[c] > 0)) return false;
    return !has_bias_ || side_.row_reg[i] * side_.bias_reg > 0;
  }

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
    for (int b = 0; b < count; b++)
      rows[first + b] = side_.other.row(side_.ratings.col[n + first + b]);
  }

  template <bool MISSING> void normal_equations(const Missing<T>& missing, int64_t i) {
    for (int64_t c = 0; c < size() * size(); c++) gram[c] = 0;
    for (int64_t c = 0; c < size(); c++) right[c] = border[c] = 0;
    corner = right_of_bias = 0;
    if constexpr (MISSING) begin_with_missing(missing, i);
    for (int64_t n = side_.ratings.start[i], end = side_.ratings.start[i + 1]; n < end;
         n += BLOCK) {
      const int count = end - n < BLOCK ? int(end - n) : BLOCK;
      gather<MISSING>(i, n, count);
      T weights = 0, targets = 0;
      for (int b = 0; b < count; b++) {
        weights += weight[b];
        targets += target[b];
      }
      corner += weights;
      right_of_bias += targets;
      weigh(rows, weight, target, size(), count, weighted, border, right);
      add_products(gram, rows, weighted, size(), count);
    }
  }

  // What all missing entries say, with b_i − c_j for y: the own pinned column is 1 against c_j.
  void begin_with_missing(const Missing<T>& missing, int64_t i) {
    const int64_t columns = side_.own.columns;
    T own = side_.is_item ? side_.background[i] : T(0);
    auto at = [&](int64_t r, int64_t c) { return missing.gram[r * columns + c]; };
    auto target_of = [&](int64_t c) {
      T pinned = has_bias_ ? at(c, side_.other_bias()) : T(0);
      return missing.target[c] + own * missing.sum[c] - pinned;
    };
    for (int64_t r = 0; r < rank_; r++) {
      for (int64_t c = 0; c < rank_; c++) gram[r * size() + c] = at(r, c);
      right[r] = target_of(r);
      border[r] = has_bias_ ? at(r, side_.own_bias()) : T(0);
    }
    if (!has_bias_) return;
    corner = at(side_.own_bias(), side_.own_bias());
    right_of_bias = target_of(side_.own_bias());
  }

  // Equation (1). A λ of 0 counts as the rounding of A; where A + diag λ is indefinite by rounding, the
  // least λ is raised until it is not.
  void by_columns(int64_t i) {
    const Columns<T>& columns = side_.latent;
    T trace = has_bias_ ? corner : T(0);
    for (int64_t c = 0; c < rank_; c++) trace += columns.free[c] * gram[c * size() + c];
    T rounding = EPSILON<T> * trace;
    for (T floor = 0; floor < T(1) / EPSILON<T>; floor = T(STEP) * (floor > 1 ? floor : T(1))) {
      T least = floor * rounding;
      T smallest = least > T(ROUNDING) * rounding ? least : T(ROUNDING) * rounding;
      auto ridge = [&](T of_column) {
        T reg = side_.row_reg[i] * of_column;
        return (reg > 0 ? (reg > least ? reg : least) : smallest) + T(TINY);
      };
      if (solved(ridge)) return;
    }
    for (int64_t c = 0; c < size(); c++) z[c] = __builtin_nan("");
    bias = z[0];
  }

  template <typename Ridge> bool solved(const Ridge& ridge) {
    const Columns<T>& columns = side_.latent;
    for (int64_t r = 0; r < size(); r++) {
      for (int64_t c = r / LANES<T> * LANES<T>; c < size(); c += LANES<T>)
        store(factor + r * size() + c, load(gram + r * size() + c));
      bool is_free = r < rank_ && columns.free[r] > 0;
      factor[r * size() + r] = is_free ? gram[r * size() + r] + ridge(columns.reg[r]) : T(1);
    }
    if (!factorise(factor, size(), size(), inverse)) return false;
    T* of_border = weighted;
    for (int64_t c = 0; c < size(); c++) {
      bool is_free = c < rank_ && columns.free[c] > 0;
      z[c] = is_free ? right[c] : T(0);
      of_border[c] = is_free ? border[c] : T(0);
    }
    T* const sides[2] = {z, of_border};
    solve_transposed<T, 2>(factor, size(), size(), inverse, sides);
    if (has_bias_) {
      T shared = 0, square = 0;
      for (int64_t c = 0; c < size(); c++) {
        shared += of_border[c] * z[c];
        square += of_border[c] * of_border[c];
      }
      T pivot = corner + ridge(side_.bias_reg) - square;
      if (!(pivot > 0)) return false;
      bias = (right_of_bias - shared) / pivot;
      for (int64_t c = 0; c < size(); c++) z[c] -= bias * of_border[c];
    }
    solve_upper(factor, size(), size(), inverse, z);
    return true;
  }

  // Equation (2).
  void by_ratings(int64_t first, int n, int64_t i) {
    constexpr int L = LANES<T>;
    const Columns<T>& columns = side_.latent;
    const int64_t stride = (n + L - 1) / L * L;
    T *inner = factor, *of_ratings = right, *of_inner = border;
    gather<false>(i, first, n);
    for (int64_t c = 0; c < size(); c++) {
      bool is_free = c < rank_ && columns.free[c] > 0;
      inverse[c] = is_free ? T(1) / (side_.row_reg[i] * columns.reg[c]) : T(0);
    }
    T inverse_of_bias = has_bias_ ? T(1) / (side_.row_reg[i] * side_.bias_reg) : T(0);
    for (int b = 0; b < stride; b++) {
      bool is_rated = b < n && weight[b] > 0;
      T scale = is_rated ? root(weight[b]) : T(0);
      target[b] = is_rated ? target[b] / scale : T(0);
      weight[b] = scale;
      for (int64_t c = 0; c < size(); c += L) {
        Vector<T> row = b < n ? all(scale) * load(rows[b] + c) : Vector<T>{};
        store(pack + b * size() + c, row);
        store(weighted + b * size() + c, load(inverse + c) * row);
      }
    }
    for (int r = 0; r < n; r++)
      for (int64_t q = r / L * L; q < stride; q += L) {
        Vector<T> partial[L] = {};
        for (int64_t c = 0; c < size(); c += L) {
          Vector<T> own = load(weighted + r * size() + c);
#pragma GCC unroll 16
          for (int b = 0; b < L; b++) partial[b] += own * load(pack + (q + b) * size() + c);
        }
        Vector<T> products =
            sums<T, L>(partial) + all(inverse_of_bias * weight[r]) * load(weight + q);
        store(inner + r * stride + q, products);
      }
    for (int r = 0; r < n; r++) inner[r * stride + r] += T(1);
    for (int b = 0; b < stride; b++) of_ratings[b] = target[b];
    factorise(inner, n, stride, of_inner);
    T* const sides[1] = {of_ratings};
    solve_transposed<T, 1>(inner, n, stride, of_inner, sides);
    for (int64_t b = n; b < stride; b++) of_ratings[b] = 0;
    solve_upper(inner, n, stride, of_inner, of_ratings);
    bias = 0;
    for (int64_t c = 0; c < size(); c++) z[c] = 0;
    for (int b = 0; b < n; b++) {
      bias += inverse_of_bias * weight[b] * of_ratings[b];
      for (int64_t c = 0; c < size(); c += L)
        store(z + c, load(z + c) + all(of_ratings[b]) * load(weighted + b * size() + c));
    }
  }
};

template <typename T, int C, bool MISSING>
void solve_rows(const Side<T>& side, const Missing<T>& missing, int64_t first, int64_t last,
                T* rows) {
  System<T, C> system(side);
  for (int64_t i = first; i < last; i++)
    system.template solve<MISSING>(missing, i, rows + i * side.own.columns);
}

}  // namespace mfjax::MFJAX_ISA
