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

// A number of each of N: one number, or a vector of them, which of one the compiler would keep in memory.
template <typename T, int N> using Each = std::conditional_t<N == 1, T, Few<T, N>>;

template <int N, typename T> MFJAX_INLINE Each<T, N> load_each(const T* from) {
  Each<T, N> x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

// N of W lanes, from one on.
template <typename T, int N, int W, int FROM, int... I>
MFJAX_INLINE Few<T, N> some(Few<T, W> x, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(x, x, (FROM + I)...);
}
template <typename T, int N, int FROM, int W = LANES<T>> MFJAX_INLINE Few<T, N> some(Few<T, W> x) {
  return some<T, N, W, FROM>(x, std::make_integer_sequence<int, N>{});
}

// The first half of the lanes plus the last.
template <typename T, int W> MFJAX_INLINE Few<T, W / 2> folded(Few<T, W> x) {
  return some<T, W / 2, 0, W>(x) + some<T, W / 2, W / 2, W>(x);
}

// The same of a product, half of which is added as it is made.
template <typename T> MFJAX_INLINE Few<T, LANES<T> / 2> folded_product(const T* a, Vector<T> b) {
  constexpr int HALF = LANES<T> / 2;
  return load_few<HALF>(a) * some<T, HALF, 0>(b) +
         load_few<HALF>(a + HALF) * some<T, HALF, HALF>(b);
}

// Lanes within which a shuffle is cheapest.
template <typename T> constexpr int SEGMENT = 16 / sizeof(T);

// Where, in two registers of W lanes, the first of the two parts of `PART` lanes stands that a lane adds up: of every
// `WITHIN` lanes the first half has what is of the first register, and the last half what is of the second.
template <int W, int PART, int WITHIN> constexpr int first_of_pair(int lane) {
  constexpr int HALF = WITHIN / 2;
  const int within = lane % WITHIN, place = within % HALF;
  return lane - within + within / HALF * W + place / PART * 2 * PART + place % PART;
}
template <typename T, int W, int PART, int WITHIN, int... I>
MFJAX_INLINE Few<T, W> pair_sums(Few<T, W> a, Few<T, W> b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, first_of_pair<W, PART, WITHIN>(I)...) +
         __builtin_shufflevector(a, b, (PART + first_of_pair<W, PART, WITHIN>(I))...);
}
template <typename T, int W, int PART, int WITHIN>
MFJAX_INLINE Few<T, W> pair_sums(Few<T, W> a, Few<T, W> b) {
  return pair_sums<T, W, PART, WITHIN>(a, b, std::make_integer_sequence<int, W>{});
}

// The sums of N registers of W lanes, which are lost: they are folded while they have more lanes than there are sums,
// then neighbours in a segment are added, two registers in one, and at last segments. `LEFT` registers are left by
// then, with `PARTS` numbers of a sum in a segment.
template <typename T, int N, int W, int LEFT = N, int PARTS = SEGMENT<T>>
MFJAX_INLINE Each<T, N> sums(Few<T, W>* x) {
  constexpr int S = SEGMENT<T>, HALF = (LEFT + 1) / 2;
  if constexpr (W > N && (W > 2 * S || (W > S && LEFT == 1 && PARTS == 1))) {
    Few<T, W / 2> half[LEFT];
#pragma GCC unroll 16
    for (int i = 0; i < LEFT; i++) half[i] = folded<T, W>(x[i]);
    return sums<T, N, W / 2, LEFT, PARTS>(half);
  } else if constexpr (PARTS > 1) {
#pragma GCC unroll 16
    for (int i = 0; i < HALF; i++)
      x[i] = pair_sums<T, W, 1, S>(x[2 * i], x[LEFT > 1 ? 2 * i + 1 : 0]);
    return sums<T, N, W, HALF, PARTS / 2>(x);
  } else if constexpr (LEFT > 1) {
#pragma GCC unroll 16
    for (int i = 0; i < HALF; i++) x[i] = pair_sums<T, W, S, W>(x[2 * i], x[2 * i + 1]);
    return sums<T, N, W, HALF, PARTS>(x);
  } else if constexpr (N == 1) {
    return x[0][0];
  } else {
    return some<T, N, 0, W>(x[0]);
  }
}

// The same of whole registers. A sum has the same bits whether N is 1, 2 or 4.
template <typename T, int N> MFJAX_INLINE Each<T, N> sums(Vector<T>* x) {
  return sums<T, N, LANES<T>>(x);
}

template <typename T> MFJAX_INLINE T lane_sum(Vector<T> x) { return sums<T, 1>(&x); }

}  // namespace mfjax::MFJAX_ISA
