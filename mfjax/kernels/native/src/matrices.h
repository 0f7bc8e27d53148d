// Sums of products of rows, registers at a time.
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

// N rows of gram from (r, c) on, as wide as an X: += Σ_b left_b right_bᵀ over `count` rows of `size` columns.
template <typename T, typename X, int N>
MFJAX_INLINE void add_rectangle(T* __restrict gram, const T* const* __restrict right,
                                const T* __restrict left, int64_t size, int count, int64_t r,
                                int64_t c) {
  T* const to = gram + r * size + c;
  X sums[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; i++) __builtin_memcpy(&sums[i], to + i * size, sizeof(X));
  for (int b = 0; b < count; b++) {
    X row;
    __builtin_memcpy(&row, right[b] + c, sizeof(X));
    const T* factor = left + b * size + r;
#pragma GCC unroll 16
    for (int i = 0; i < N; i++) sums[i] += factor[i] * row;
  }
#pragma GCC unroll 16
  for (int i = 0; i < N; i++) __builtin_memcpy(to + i * size, &sums[i], sizeof(X));
}

// gram += Σ_b left_b right_bᵀ: squares of registers on and above the diagonal, of those on it three quarters.
template <typename T>
MFJAX_INLINE void add_products(T* __restrict gram, const T* const* __restrict right,
                               const T* __restrict left, int64_t size, int count) {
  constexpr int L = LANES<T>, HALF = L / 2;
  constexpr bool IS_LEAST = BYTES == 16;  // a register, half of which is none
  using Half = std::conditional_t<IS_LEAST, Vector<T>, Few<T, HALF>>;
  for (int64_t c = 0; c < size; c += L) {
    for (int64_t r = 0; r < c; r += L)
      add_rectangle<T, Vector<T>, L>(gram, right, left, size, count, r, c);
    add_rectangle<T, Vector<T>, HALF>(gram, right, left, size, count, c, c);
    add_rectangle<T, Half, HALF>(gram, right, left, size, count, c + HALF, IS_LEAST ? c : c + HALF);
  }
}

}  // namespace mfjax::MFJAX_ISA
