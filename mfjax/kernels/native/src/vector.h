// One register of floats or doubles, and the rows of a table as so many of them.
//
// A row of any number of columns is `vectors` registers, the last of which is read and written under
// a mask: nothing is padded, and nothing beyond a row is touched.
#pragma once
#include <cstdint>
#include <type_traits>
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

template <typename T> MFJAX_INLINE Vector<T> roots(Vector<T> x) {
  for (int lane = 0; lane < LANES<T>; lane++) x[lane] = root(x[lane]);
  return x;
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
