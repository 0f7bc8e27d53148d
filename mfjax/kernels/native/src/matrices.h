// Sums of products and positive definite systems, a row of registers at a time: A = Rᵀ R, of which only
// the upper rows are read and written. Matrices are `[n, stride]` with a stride of whole registers.
#pragma once
#include "vector.h"

namespace mfjax::MFJAX_ISA {

// weighted = w row, border += Σ w row, right += Σ t row, over `count` rows of `size` columns.
template <typename T>
MFJAX_INLINE void weigh(const T* const* __restrict rows, const T* __restrict weight,
                        const T* __restrict target, int64_t size, int count, T* __restrict weighted,
                        T* __restrict border, T* __restrict right) {
  for (int64_t c = 0; c < size; c += LANES<T>) {
    Vector<T> of_border = load(border + c), of_right = load(right + c);
    for (int b = 0; b < count; b++) {
      const Vector<T> row = load(rows[b] + c), scaled = all(weight[b]) * row;
      store(weighted + b * size + c, scaled);
      of_border += scaled;
      of_right += all(target[b]) * row;
    }
    store(border + c, of_border);
    store(right + c, of_right);
  }
}

// gram += Σ_b left_b right_bᵀ over `count` rows of `size` columns, on and above the diagonal: a square of
// registers at a time.
template <typename T>
MFJAX_INLINE void add_products(T* __restrict gram, const T* const* __restrict right,
                               const T* __restrict left, int64_t size, int count) {
  constexpr int L = LANES<T>;
  for (int64_t c = 0; c < size; c += L)
    for (int64_t r = 0; r <= c; r += L) {
      Vector<T> square[L];
#pragma GCC unroll 16
      for (int i = 0; i < L; i++) square[i] = load(gram + (r + i) * size + c);
      for (int b = 0; b < count; b++) {
        Vector<T> row = load(right[b] + c);
        const T* factor = left + b * size + r;
#pragma GCC unroll 16
        for (int i = 0; i < L; i++) square[i] += all(factor[i]) * row;
      }
#pragma GCC unroll 16
      for (int i = 0; i < L; i++) store(gram + (r + i) * size + c, square[i]);
    }
}

template <typename T>
constexpr T EPSILON = sizeof(T) == 4 ? T(1.1920929e-07) : T(2.220446049250313e-16);

constexpr int PANEL = 4;  // rows that are taken off the others together

// R in place of A, and 1 / its diagonal; false where A has no such factor.
template <typename T> MFJAX_INLINE bool factorise(T* a, int64_t n, int64_t stride, T* inverse) {
  constexpr int L = LANES<T>;
  for (int64_t k = 0; k < n; k += PANEL) {
    int64_t end = k + PANEL < n ? k + PANEL : n;
    int64_t from = k / L * L;
    for (int64_t i = k; i < end; i++) {
      T* own = a + i * stride;
      for (int64_t p = k; p < i; p++) {
        const T* above = a + p * stride;
        Vector<T> factor = all(above[i]);
        for (int64_t c = from; c < n; c += L)
          store(own + c, load(own + c) - factor * load(above + c));
      }
      T pivot = own[i];
      if (!(pivot > 0)) return false;
      inverse[i] = T(1) / root(pivot);
      Vector<T> scale = all(inverse[i]);
      for (int64_t c = from; c < n; c += L) store(own + c, load(own + c) * scale);
    }
    if (end - k < PANEL) break;
    const T* panel = a + k * stride;
    for (int64_t c = end / L * L; c < n; c += L) {
      Vector<T> of_panel[PANEL];
#pragma GCC unroll 4
      for (int p = 0; p < PANEL; p++) of_panel[p] = load(panel + p * stride + c);
      int64_t rows = c + L < n ? c + L : n;
#pragma GCC unroll 4
      for (int64_t i = end; i < rows; i++) {
        T* x = a + i * stride + c;
        Vector<T> left = load(x);
#pragma GCC unroll 4
        for (int p = 0; p < PANEL; p++) left -= all(panel[p * stride + i]) * of_panel[p];
        store(x, left);
      }
    }
  }
  return true;
}

// The registers of row k from its diagonal on: those entries at and before it are 0.
template <typename T> MFJAX_INLINE Vector<T> after_diagonal(const T* row, int64_t k) {
  constexpr int L = LANES<T>;
  return after_lane<T>(load(row + k / L * L), k % L);
}

// Rᵀ y = b in place, for COUNT right sides abreast.
template <typename T, int COUNT>
MFJAX_INLINE void solve_transposed(const T* r, int64_t n, int64_t stride, const T* inverse,
                                   T* const (&right)[COUNT]) {
  constexpr int L = LANES<T>;
  for (int64_t k = 0; k < n; k++) {
    const T* row = r + k * stride;
    Vector<T> y[COUNT];
    for (int i = 0; i < COUNT; i++) y[i] = all(right[i][k] *= inverse[k]);
    int64_t c = k / L * L;
    Vector<T> x = after_diagonal(row, k);
    for (int i = 0; i < COUNT; i++) store(right[i] + c, load(right[i] + c) - y[i] * x);
    for (c += L; c < n; c += L) {
      x = load(row + c);
      for (int i = 0; i < COUNT; i++) store(right[i] + c, load(right[i] + c) - y[i] * x);
    }
  }
}

// R x = b in place; what stands after the n entries of b is 0.
template <typename T>
MFJAX_INLINE void solve_upper(const T* r, int64_t n, int64_t stride, const T* inverse, T* right) {
  constexpr int L = LANES<T>;
  for (int64_t k = n - 1; k >= 0; k--) {
    const T* row = r + k * stride;
    int64_t c = k / L * L;
    Vector<T> products = after_diagonal(row, k) * load(right + c);
    for (c += L; c < n; c += L) products += load(row + c) * load(right + c);
    right[k] = (right[k] - lane_sum<T>(products)) * inverse[k];
  }
}

}  // namespace mfjax::MFJAX_ISA
