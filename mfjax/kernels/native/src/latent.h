// Tables on whole lines, as sums over ratings read them.
#pragma once
#include <algorithm>

#include "handling.h"

namespace mfjax {

template <typename T> constexpr int64_t OF_LINE = LINE / sizeof(T);

// The columns of as many whole lines, one at least; of floats, those that the next of the kernels that know
// their columns has: 64 are sooner done by it than 48 by the one for any number.
template <typename T> constexpr int64_t on_whole_lines(int64_t columns) {
  if constexpr (sizeof(T) == 4)
    for (const int64_t known : {16, 32, 64, 128})
      if (columns <= known) return known;
  return columns > 0 ? (columns + OF_LINE<T> - 1) / OF_LINE<T> * OF_LINE<T> : OF_LINE<T>;
}

// `Columns` of a row on whole lines: the first `kept`, and zeros.
template <typename T> struct Wide {
  std::vector<T> values[3];

  Wide(const Columns<T>& narrow, int64_t kept, int64_t wide) {
    const T* const given[] = {narrow.free, narrow.pin, narrow.reg};
    for (int i = 0; i < 3; i++) {
      values[i].assign(given[i], given[i] + kept);
      values[i].resize(size_t(wide), T(0));
    }
  }
  Columns<T> whole() const { return {values[0].data(), values[1].data(), values[2].data()}; }
};

// A table's Latent: the table itself where its rows are that already, else in the room that XLA gives beside
// the results, rows and then biases.
template <typename T>
Latent<T> latent(const Call& call, int64_t output, const Table<const T>& table, const T* free,
                 int64_t rank, bool is_item) {
  constexpr int64_t CHUNK = 1024;
  const int64_t wide = on_whole_lines<T>(rank), rows = table.rows;
  T* const data = call.output<T>(output, "room", {Axis("numbers", rows * (wide + 1))}).data;
  T* const bias = data + rows * wide;
  const int64_t of_bias = rank + is_item;
  if (table.columns == wide && rank == wide &&
      std::all_of(free, free + rank, [](T one) { return one == T(1); })) {
    std::fill(bias, bias + rows, T(0));
    return {table.data, bias, wide};
  }
  parallel(call, call.attribute("threads"), (rows + CHUNK - 1) / CHUNK, [&](int64_t chunk) {
    for (int64_t i = chunk * CHUNK; i < rows && i < (chunk + 1) * CHUNK; i++) {
      const T* from = table.row(i);
      T* to = data + i * wide;
      bias[i] = rank < table.columns ? free[of_bias] * from[of_bias] : T(0);
      for (int64_t c = 0; c < rank; c++) to[c] = free[c] * from[c];
      for (int64_t c = rank; c < wide; c++) to[c] = 0;
    }
  });
  return {data, bias, wide};
}

}  // namespace mfjax
