// Every row of one side at its exact minimum, given the other side.
//
// The minimum solves
//
//     (A_i + diag λ) x = c_i        A_i and c_i of `equations.h`                                    (1)
//
// and, with Φ the rows √w φ of n ratings and t the numbers √w y, the same x is
//
//     x = D Φᵀ (Φ D Φᵀ + I)⁻¹ t        D = diag 1/λ                                                (2)
//
// for rows of few ratings: equations (1) and (2) of `mfjax.kernels.normal`.
#pragma once
#include "equations.h"

namespace mfjax::MFJAX_ISA {

constexpr double TINY = 1e-30;  // keeps a row of zeros regular
constexpr double ROUNDING = 4;  // the ridge of a λ of 0, in ε times the sum of A's diagonal
constexpr double STEP = 16;     // by which the ridge is raised where rounding leaves no factor

// The system of one row.
template <typename T, int C> class System : Equations<T, C> {
 public:
  explicit System(const Side<T>& side) : Equations<T, C>(side) {}

  template <bool MISSING> void solve(const Missing<T>& missing, int64_t i, T* row) {
    int64_t n = side_.ratings.start[i], end = side_.ratings.start[i + 1];
    bool is_few = !MISSING && 2 * whole(end - n) <= size() && end - n <= BLOCK && has_inverse(i);
    if (is_few) {
      by_ratings(n, int(end - n), i);
    } else {
      this->clear();
      if constexpr (MISSING) begin_with_missing(missing, i);
      this->template add_ratings<MISSING>(i);
      by_columns(i);
    }
    this->put(row);
  }

 private:
  using Base = Equations<T, C>;
  using Base::bias;
  using Base::border;
  using Base::corner;
  using Base::factor;
  using Base::gram;
  using Base::has_bias_;
  using Base::inverse;
  using Base::pack;
  using Base::rank_;
  using Base::ridges;
  using Base::right;
  using Base::right_of_bias;
  using Base::rows;
  using Base::side_;
  using Base::size;
  using Base::target;
  using Base::weight;
  using Base::weighted;
  using Base::whole;
  using Base::z;

  bool has_inverse(int64_t i) const {
    const Columns<T>& columns = side_.latent;
    for (int64_t c = 0; c < rank_; c++)
      if (columns.free[c] > 0 && !(side_.row_reg[i] * columns.reg[c] > 0)) return false;
    return !has_bias_ || side_.row_reg[i] * side_.bias_reg > 0;
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
      auto ridge = [&](Vector<T> of_columns) {
        const Vector<T> reg = all(side_.row_reg[i]) * of_columns;
        const Vector<T> raised = reg > all(least) ? reg : all(least);
        return (reg > 0 ? raised : all(smallest)) + T(TINY);
      };
      if (this->solved(ridge)) return;
    }
    this->fail();
  }

  // Equation (2).
  void by_ratings(int64_t first, int n, int64_t i) {
    constexpr int L = LANES<T>;
    const Columns<T>& columns = side_.latent;
    const int64_t stride = whole(n);
    T *inner = factor, *of_ratings = right, *of_inner = border, *one = ridges;
    this->template gather<false>(i, first, n);
    for (int64_t c = 0; c < size(); c += L) {
      const Vector<T> of_free = T(1) / (all(side_.row_reg[i]) * load(columns.reg + c));
      store(inverse + c, load(columns.free + c) > 0 ? of_free : Vector<T>{});
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
    for (int r = n; r < stride; r++)
      for (int64_t q = r / L * L; q < stride; q++) inner[r * stride + q] = 0;
    for (int b = 0; b < stride; b++) {
      of_ratings[b] = target[b];
      one[b] = T(1);
    }
    factorise(inner, one, stride, inner, of_inner);
    T* const sides[1] = {of_ratings};
    solve_transposed<T, 1>(inner, stride, of_inner, sides);
    solve_upper(inner, stride, of_inner, of_ratings);
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
