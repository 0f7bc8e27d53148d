// Positive definite systems A = Rᵀ R, by squares of registers: [n, n], n of whole registers. No square below the
// diagonal is read or written, and below the diagonal of one that is on it anything may stand.
#pragma once
#include "lanes.h"

namespace mfjax::MFJAX_ISA {

template <typename T>
constexpr T EPSILON = sizeof(T) == 4 ? T(1.1920929e-07) : T(2.220446049250313e-16);

// R, at `r`, of a square of A in registers, which are lost, and 1 / its diagonal; false where there is none. A row
// is taken off those below it before it is divided by the root of its pivot, for which none waits then.
template <typename T>
MFJAX_INLINE bool factorise_square(Vector<T>* rows, T* r, int64_t n, T* inverse) {
  constexpr int L = LANES<T>;
  const Vector<T> numbers = lane_numbers<T>();
  Vector<T> pivots = {};
  auto take_off = [&](auto k) __attribute__((always_inline)) {
    const Vector<T> pivot = lane_in_all<T, k>(rows[k]), unit = rows[k] / pivot;
    pivots = numbers == all(T(k)) ? pivot : pivots;
    T* const row = r + k * n;
    store(row, rows[k]);
#pragma GCC unroll 16
    for (int i = k + 1; i < L; i++) rows[i] -= all(row[i]) * unit;
  };
  each_lane(take_off, Lanes<T>{});
  const Vector<T> is_none = pivots > 0 ? Vector<T>{} : all(T(1));
  if (lane_sum<T>(is_none) > 0) return false;
  store(inverse, all(T(1)) / roots<T>(pivots));
#pragma GCC unroll 16
  for (int k = 0; k < L; k++) store(r + k * n, all(inverse[k]) * rows[k]);
  return true;
}

// The rows of R beside a square R on the diagonal, in place of those of A.
template <typename T>
MFJAX_INLINE void divide(Vector<T>* rows, const T* square, int64_t n, const T* inverse) {
  constexpr int L = LANES<T>;
#pragma GCC unroll 16
  for (int k = 0; k < L; k++) {
    rows[k] *= all(inverse[k]);
#pragma GCC unroll 16
    for (int i = k + 1; i < L; i++) rows[i] -= all(square[k * n + i]) * rows[k];
  }
}

// R of A + diag ridge, and 1 / its diagonal; false where there is none. R may be where A is.
template <typename T>
MFJAX_INLINE bool factorise(const T* a, const T* ridge, int64_t n, T* r, T* inverse) {
  constexpr int L = LANES<T>;
  for (int64_t k = 0; k < n; k += L)
    for (int64_t c = k; c < n; c += L) {
      Vector<T> rows[L];
#pragma GCC unroll 16
      for (int i = 0; i < L; i++) rows[i] = load(a + (k + i) * n + c);
      for (int64_t p = 0; p < k; p++) {
        const Vector<T> above = load(r + p * n + c);
#pragma GCC unroll 16
        for (int i = 0; i < L; i++) rows[i] -= all(r[p * n + k + i]) * above;
      }
      T* const square = r + k * n + k;
      if (c == k) {
        const Vector<T> numbers = lane_numbers<T>(), ridges = load(ridge + k);
#pragma GCC unroll 16
        for (int i = 0; i < L; i++) rows[i] += numbers == all(T(i)) ? ridges : Vector<T>{};
        if (!factorise_square(rows, square, n, inverse + k)) return false;
      } else {
        divide(rows, square, n, inverse + k);
#pragma GCC unroll 16
        for (int i = 0; i < L; i++) store(r + (k + i) * n + c, rows[i]);
      }
    }
  return true;
}

// The rows of a square of R on the diagonal, each divided by its diagonal, right of it.
template <typename T>
MFJAX_INLINE void load_units(const T* square, int64_t n, const T* inverse, Vector<T>* units) {
  const Vector<T> numbers = lane_numbers<T>();
#pragma GCC unroll 16
  for (int k = 0; k < LANES<T>; k++)
    units[k] = numbers > all(T(k)) ? all(inverse[k]) * load(square + k * n) : Vector<T>{};
}

// Rᵀ y = b in place, for COUNT right sides abreast.
template <typename T, int COUNT>
MFJAX_INLINE void solve_transposed(const T* r, int64_t n, const T* inverse,
                                   T* const (&right)[COUNT]) {
  constexpr int L = LANES<T>;
  for (int64_t k = 0; k < n; k += L) {
    Vector<T> units[L], x[COUNT];
    load_units(r + k * n + k, n, inverse + k, units);
    for (int i = 0; i < COUNT; i++) x[i] = load(right[i] + k);
    auto take_off = [&](auto lane) __attribute__((always_inline)) {
      for (int i = 0; i < COUNT; i++) x[i] -= lane_in_all<T, lane>(x[i]) * units[lane];
    };
    each_lane(take_off, Lanes<T>{});
    for (int i = 0; i < COUNT; i++) store(right[i] + k, x[i] * load(inverse + k));
    for (int64_t c = k + L; c < n; c += L) {
      for (int i = 0; i < COUNT; i++) x[i] = load(right[i] + c);
#pragma GCC unroll 16
      for (int lane = 0; lane < L; lane++)
        for (int i = 0; i < COUNT; i++)
          x[i] -= all(right[i][k + lane]) * load(r + (k + lane) * n + c);
      for (int i = 0; i < COUNT; i++) store(right[i] + c, x[i]);
    }
  }
}

// R x = b in place.
template <typename T>
MFJAX_INLINE void solve_upper(const T* r, int64_t n, const T* inverse, T* right) {
  constexpr int L = LANES<T>;
  for (int64_t k = n - L; k >= 0; k -= L) {
    Vector<T> x = load(right + k);
    if (k + L < n) {
      Vector<T> products[L] = {};
      for (int64_t c = k + L; c < n; c += L)
#pragma GCC unroll 16
        for (int i = 0; i < L; i++) products[i] += load(r + (k + i) * n + c) * load(right + c);
      x -= sums<T, L>(products);
    }
    Vector<T> units[L];
    load_units(r + k * n + k, n, inverse + k, units);
    transpose<T>(units);
    x *= load(inverse + k);
    auto take_off = [&](auto lane) __attribute__((always_inline)) {
      constexpr int last = L - 1 - lane;
      x -= lane_in_all<T, last>(x) * units[last];
    };
    each_lane(take_off, Lanes<T>{});
    store(right + k, x);
  }
}

}  // namespace mfjax::MFJAX_ISA
