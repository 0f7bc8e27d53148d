// One register of floats or doubles, and the rows of a table as so many of them.
//
// A row of any number of columns is `vectors` registers, the last of which is read and written under
// a mask: nothing is padded, and nothing beyond a row is touched.
#pragma once
#include <cstdint>
#include <type_traits>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace mfjax::MFJAX_ISA {

#define MFJAX_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX2__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

template <typename T> struct Register {
  typedef T type __attribute__((vector_size(BYTES)));
};
template <typename T> using Vector = typename Register<T>::type;
template <typename T> constexpr int LANES = BYTES / sizeof(T);

// N numbers side by side, a register or less.
template <typename T, int N> struct Numbers {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <typename T, int N> using Few = typename Numbers<T, N>::type;

template <int N, typename T> MFJAX_INLINE Few<T, N> load_few(const T* from) {
  Few<T, N> x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

template <typename T> MFJAX_INLINE Vector<T> load(const T* from) {
  Vector<T> x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

template <typename T> MFJAX_INLINE void store(T* to, Vector<T> x) {
  __builtin_memcpy(to, &x, sizeof x);
}

template <typename T> MFJAX_INLINE Vector<T> all(T x) { return x - Vector<T>{}; }

// a b + c, rounded once where the instruction set can.
template <typename T> MFJAX_INLINE Vector<T> multiply_add(Vector<T> a, Vector<T> b, Vector<T> c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_fmadd_ps(a, b, c);
  else
    return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return _mm256_fmadd_ps(a, b, c);
  else
    return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

MFJAX_INLINE float root(float x) { return __builtin_sqrtf(x); }
MFJAX_INLINE double root(double x) { return __builtin_sqrt(x); }

template <typename T, int... I>
MFJAX_INLINE Vector<T> lane_numbers(std::integer_sequence<int, I...>) {
  return Vector<T>{T(I)...};
}

// A register with 0 in lanes up to, and with, `lane`.
template <typename T> MFJAX_INLINE Vector<T> after_lane(Vector<T> x, int64_t lane) {
  const Vector<T> numbers = lane_numbers<T>(std::make_integer_sequence<int, LANES<T>>{});
  return numbers > all(T(lane)) ? x : Vector<T>{};
}

// The first `count` lanes of a register, at least one.
template <typename T> struct Mask {
  int count;
#if defined(__AVX512F__)
  uint16_t bits;
  explicit Mask(int count) : count(count), bits(uint16_t((1u << count) - 1)) {}
#elif defined(__AVX2__)
  __m256i bits;
  explicit Mask(int count) : count(count) {
    typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Int;
    alignas(32) Int lanes[LANES<T>];
    for (int lane = 0; lane < LANES<T>; lane++) lanes[lane] = lane < count ? -1 : 0;
    bits = _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes));
  }
#else
  explicit Mask(int count) : count(count) {}
#endif
};

#if defined(__AVX512F__)
MFJAX_INLINE Vector<float> load(const float* from, const Mask<float>& mask) {
  return _mm512_maskz_loadu_ps(mask.bits, from);
}
MFJAX_INLINE Vector<double> load(const double* from, const Mask<double>& mask) {
  return _mm512_maskz_loadu_pd(__mmask8(mask.bits), from);
}
MFJAX_INLINE void store(float* to, Vector<float> x, const Mask<float>& mask) {
  _mm512_mask_storeu_ps(to, mask.bits, x);
}
MFJAX_INLINE void store(double* to, Vector<double> x, const Mask<double>& mask) {
  _mm512_mask_storeu_pd(to, __mmask8(mask.bits), x);
}
#elif defined(__AVX2__)
MFJAX_INLINE Vector<float> load(const float* from, const Mask<float>& mask) {
  return _mm256_maskload_ps(from, mask.bits);
}
MFJAX_INLINE Vector<double> load(const double* from, const Mask<double>& mask) {
  return _mm256_maskload_pd(from, mask.bits);
}
MFJAX_INLINE void store(float* to, Vector<float> x, const Mask<float>& mask) {
  _mm256_maskstore_ps(to, mask.bits, x);
}
MFJAX_INLINE void store(double* to, Vector<double> x, const Mask<double>& mask) {
  _mm256_maskstore_pd(to, mask.bits, x);
}
#else
template <typename T> MFJAX_INLINE Vector<T> load(const T* from, const Mask<T>& mask) {
  if (mask.count == LANES<T>) return load(from);
  Vector<T> x = {};
  for (int lane = 0; lane < mask.count; lane++) x[lane] = from[lane];
  return x;
}
template <typename T> MFJAX_INLINE void store(T* to, Vector<T> x, const Mask<T>& mask) {
  if (mask.count == LANES<T>) return store(to, x);
  for (int lane = 0; lane < mask.count; lane++) to[lane] = x[lane];
}
#endif

// sums over lanes

template <typename T, int... I>
MFJAX_INLINE Vector<T> pair_sums(Vector<T> a, Vector<T> b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...) + __builtin_shufflevector(a, b, (2 * I + 1)...);
}

// The sums of neighbours, those of `a` in the first half and those of `b` in the second.
template <typename T> MFJAX_INLINE Vector<T> pair_sums(Vector<T> a, Vector<T> b) {
  return pair_sums<T>(a, b, std::make_integer_sequence<int, LANES<T>>{});
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
    x[0] = with_partner<T, APART / 2>(x[0], std::make_integer_sequence<int, LANES<T>>{});
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
    return neighbours_first<T, APART, 2 * DISTANCE>(
        with_partner<T, DISTANCE>(x, std::make_integer_sequence<int, LANES<T>>{}));
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

// The registers of a row of C columns where that is known to the compiler, else (C = 0) of any number.
template <typename T, int C> class Row {
 public:
  explicit Row(int64_t columns)
      : columns_(columns), last_(int(columns - (vectors(columns) - 1) * LANES<T>)) {}

  static constexpr int64_t vectors(int64_t columns) { return (columns + LANES<T> - 1) / LANES<T>; }
  int64_t columns() const { return C ? C : columns_; }
  int64_t vectors() const { return vectors(columns()); }

  inline __attribute__((always_inline)) Vector<T> get(const T* row, int64_t v) const {
    if (is_whole(v)) return load(row + v * LANES<T>);
    return load(row + v * LANES<T>, last_);
  }
  inline __attribute__((always_inline)) void set(T* row, int64_t v, Vector<T> x) const {
    if (is_whole(v))
      store(row + v * LANES<T>, x);
    else
      store(row + v * LANES<T>, x, last_);
  }

 private:
  int64_t columns_;
  Mask<T> last_;

  bool is_whole(int64_t v) const {
    if (C && C % LANES<T> == 0) return true;
    return v + 1 < vectors();
  }
};

}  // namespace mfjax::MFJAX_ISA
