// How far ahead rows of a table are fetched, and what of them.
#pragma once
#include "operands.h"
#include "vector.h"

namespace mfjax::MFJAX_ISA {

constexpr int64_t MOST_AHEAD = 16;   // ratings by which a row is fetched ahead
constexpr int64_t LINES_AHEAD = 48;  // cache lines of rows that are on their way

// The first quarter of a row's lines: the processor goes on from there by itself, and is slower where it is asked
// for all.
template <typename T, int C> MFJAX_INLINE void prefetch(const Row<T, C>& shape, const T* row) {
  for (int64_t c = 0; 4 * c < shape.columns(); c += LINE / int64_t(sizeof(T)))
    __builtin_prefetch(row + c);
}

// Ratings by which rows are fetched ahead, a group of N at least.
template <typename T, int C, int N> MFJAX_INLINE int64_t ahead(const Row<T, C>& shape) {
  const int64_t lines = shape.columns() * int64_t(sizeof(T)) / LINE;
  if (lines * MOST_AHEAD <= LINES_AHEAD) return MOST_AHEAD;
  return lines * N >= LINES_AHEAD ? N : LINES_AHEAD / lines;
}

}  // namespace mfjax::MFJAX_ISA
