// What passes between the lanes of registers: their sums, one lane in all, and squares turned over.
#pragma once
#include <utility>

#include "vector.h"

namespace mfjax::MFJAX_ISA {

template <typename T> using Lanes = std::make_integer_sequence<int, LANES<T>>;

template <typename T, int... I> MFJAX_INLINE Vector<T> numbered(std::integer_sequence<int, I...>) {
  return Vector<T>{T(I)...};
}

// 0, 1, 2, … by lanes.
template <typename T> MFJAX_INLINE Vector<T> lane_numbers() { return numbered<T>(Lanes<T>{}); }

// f of each lane's number, which the compiler knows.
template <typename F, int... K>
MFJAX_INLINE void each_lane(const F& f, std::integer_sequence<int, K...>) {
  (f(std::integral_constant<int, K>{}), ...);
}

// Lane K in all of them.
template <typename T, int K, int... I>
MFJAX_INLINE Vector<T> lane_in_all(Vector<T> x, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(x, x, (K + 0 * I)...);
}
template <typename T, int K> MFJAX_INLINE Vector<T> lane_in_all(Vector<T> x) {
  return lane_in_all<T, K>(x, Lanes<T>{});
}

// The first halves of two registers, or their last, by turns: a_0, b_0, a_1, b_1, …
template <typename T, int FIRST, int... I>
MFJAX_INLINE Vector<T> by_turns(Vector<T> a, Vector<T> b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (FIRST + I / 2 + I % 2 * LANES<T>)...);
}

// The columns of a square in place of its rows: the number of a row and that of its column, written one after the
// other in binary, turn by a digit at a time.
template <typename T, int TURNS = LANES<T>> MFJAX_INLINE void transpose(Vector<T>* square) {
  constexpr int HALF = LANES<T> / 2;
  if constexpr (TURNS > 1) {
    Vector<T> turned[LANES<T>];
#pragma GCC unroll 16
    for (int i = 0; i < HALF; i++) {
      turned[2 * i] = by_turns<T, 0>(square[i], square[HALF + i], Lanes<T>{});
      turned[2 * i + 1] = by_turns<T, HALF>(square[i], square[HALF + i], Lanes<T>{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES<T>; i++) square[i] = turned[i];
    transpose<T, TURNS / 2>(square);
  }
}

template <typename T, int... I>
MFJAX_INLINE Vector<T> pair_sums(Vector<T> a, Vector<T> b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...) + __builtin_shufflevector(a, b, (2 * I + 1)...);
}

// The sums of neighbours, those of `a` in the first half and those of `b` in the second.
template <typename T> MFJAX_INLINE Vector<T> pair_sums(Vector<T> a, Vector<T> b) {
  return pair_sums<T>(a, b, Lanes<T>{});
}

// Every lane plus the one that is `distance` (a power of 2) away.
template <typename T, int DISTANCE, int... I>
MFJAX_INLINE Vector<T> with_partner(Vector<T> x, std::integer_sequence<int, I...>) {
  return x + __builtin_shufflevector(x, x, (I ^ DISTANCE)...);
}

// The sums of N registers, a power of 2 up to LANES: that of register i in lane i LANES / N. The registers
// are lost.
template <typename T, int N, int LEFT = N, int APART = LANES<T> / N>
MFJAX_INLINE Vector<T> sums(Vector<T>* x) {
  if constexpr (LEFT > 1) {
    for (int i = 0; i < LEFT / 2; i++) x[i] = pair_sums<T>(x[2 * i], x[2 * i + 1]);
    return sums<T, N, LEFT / 2, APART>(x);
  } else if constexpr (APART > 1) {
    x[0] = with_partner<T, APART / 2>(x[0], Lanes<T>{});
    return sums<T, N, 1, APART / 2>(x);
  } else {
    return x[0];
  }
}

template <typename T> MFJAX_INLINE T lane_sum(Vector<T> x) { return sums<T, 1>(&x)[0]; }

// The same sums side by side.
template <typename T, int N, int... I>
MFJAX_INLINE Few<T, N> close(Vector<T> x, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(x, x, (I * (LANES<T> / N))...);
}
template <typename T, int N> MFJAX_INLINE Few<T, N> few_sums(Vector<T>* x) {
  return close<T, N>(sums<T, N>(x), std::make_integer_sequence<int, N>{});
}

template <typename T, int APART, int DISTANCE = 1>
MFJAX_INLINE Vector<T> neighbours_first(Vector<T> x) {
  if constexpr (DISTANCE < APART)
    return neighbours_first<T, APART, 2 * DISTANCE>(with_partner<T, DISTANCE>(x, Lanes<T>{}));
  else
    return x;
}

// A number of each of N: one number, or a vector of them, which of one the compiler would keep in memory.
template <typename T, int N> using Each = std::conditional_t<N == 1, T, Few<T, N>>;

template <int N, typename T> MFJAX_INLINE Each<T, N> load_each(const T* from) {
  Each<T, N> x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

// The sums of N registers, neighbours first all the way: the bits of one do not depend on N.
template <typename T, int N> MFJAX_INLINE Each<T, N> even_sums(Vector<T>* x) {
  for (int left = N; left > 1; left /= 2)
    for (int i = 0; i < left / 2; i++) x[i] = pair_sums<T>(x[2 * i], x[2 * i + 1]);
  const Vector<T> sums = neighbours_first<T, LANES<T> / N>(x[0]);
  if constexpr (N == 1)
    return sums[0];
  else
    return close<T, N>(sums, std::make_integer_sequence<int, N>{});
}

}  // namespace mfjax::MFJAX_ISA
