// What handlers have in common: the kernels of the instruction set that this machine has, and operands,
// checked, one after another.
#pragma once
#include <string>
#include <vector>

#include "call.h"
#include "kernels.h"

namespace mfjax {

using ffi::Axes;
using ffi::Axis;
using ffi::Buffer;
using ffi::Call;
using ffi::Refusal;

// The best instruction set that there is, or a lesser one that MFJAX_ISA asks for: 2, 1 or 0.
int best_isa();

template <typename T> const Kernels<T>& kernels() {
#if defined(__x86_64__)
  static const int isa = best_isa();
  if (isa == 2) return avx512::kernels<T>();
  if (isa == 1) return avx2::kernels<T>();
#endif
  return base::kernels<T>();
}

class Operands {
 public:
  explicit Operands(const Call& call) : call_(call) {}

  template <typename T> Buffer<const T> next(const char* name, const Axes& axes) {
    return call_.input<T>(at_++, name, axes);
  }
  template <typename T> T scalar(const char* name) { return *next<T>(name, {}).data; }
  int64_t read() const { return at_; }

 private:
  const Call& call_;
  int64_t at_ = 0;
};

template <typename T>
Table<const T> table(Operands& operands, const char* name, Axis columns = Axis("columns")) {
  auto rows = operands.next<T>(name, {Axis("rows"), columns});
  if (rows.shape[1] < 1) throw Refusal(std::string(name) + ": expected a column at least");
  return {rows.data, rows.shape[0], rows.shape[1]};
}

template <typename T> Columns<T> columns(Operands& operands, int64_t count) {
  Axes axes = {Axis("columns", count)};
  auto free = operands.next<T>("free", axes);
  auto pin = operands.next<T>("pin", axes);
  auto reg = operands.next<T>("reg", axes);
  return {free.data, pin.data, reg.data};
}

// The ratings of one side, and the rows at which its chunks of about equal cost begin.
template <typename T> struct Rows {
  Ratings<T> ratings;
  Buffer<const int32_t> chunk;

  Rows(Operands& operands, int64_t rows) {
    auto start = operands.next<int32_t>("start", {Axis("ends", rows + 1)});
    auto col = operands.next<int32_t>("col", {Axis("ratings")});
    Axes axes = {Axis("ratings", col.size)};
    auto value = operands.next<T>("value", axes);
    auto weight = operands.next<T>("weight", axes);
    auto fold = operands.next<int32_t>("fold", axes);
    chunk = operands.next<int32_t>("chunk", {Axis("bounds")});
    ratings = {start.data, col.data, value.data, weight.data, fold.data};
    check_ends("start", start, col.size);  // padding may stand after the last
    check_ends("chunk", chunk, rows);
    if (chunk[chunk.size - 1] != rows) throw Refusal("chunk: expected all rows");
  }

  int64_t chunks() const { return chunk.size - 1; }

 private:
  static void check_ends(const char* name, Buffer<const int32_t> ends, int64_t last) {
    bool is_rising = ends.size > 0 && ends[0] == 0 && ends[ends.size - 1] <= last;
    for (int64_t i = 1; i < ends.size; i++) is_rising &= ends[i - 1] <= ends[i];
    if (!is_rising)
      throw Refusal(std::string(name) + ": expected rising numbers from 0 to at most " +
                    std::to_string(last));
  }
};

template <typename T> Lane<T> lane(Operands& operands, const Call& call) {
  auto fold = operands.scalar<int32_t>("lane's fold");
  auto scalars = operands.next<T>("centre, alpha, gram_alpha and scale", {Axis("scalars", 4)});
  return {fold, scalars[0], scalars[1], scalars[2], scalars[3], call.attribute("missing") != 0};
}

// Refuses ratings of rows that the other side has not.
template <typename T> void check_rows(const Side<T>& side, int64_t first, int64_t last) {
  const int32_t begin = side.ratings.start[first], end = side.ratings.start[last];
  if (!ffi::are_indices(side.ratings.col + begin, end - begin, side.other_rows))
    throw Refusal("col: expected rows from 0 to " + std::to_string(side.other_rows - 1));
}

// function(chunk, first row, last row) for each chunk of a side, whose ratings are checked first.
template <typename T, typename F>
void by_chunk(const Call& call, const Rows<T>& rows, const Side<T>& side, const F& function) {
  parallel(call, call.attribute("threads"), rows.chunks(), [&](int64_t chunk) {
    check_rows(side, rows.chunk[chunk], rows.chunk[chunk + 1]);
    function(chunk, rows.chunk[chunk], rows.chunk[chunk + 1]);
  });
}

// The latent columns of a table: all, or all but the two of the biases.
inline int64_t rank_of(const Call& call, int64_t columns) {
  int64_t rank = call.attribute("rank");
  if (rank != columns && rank != columns - 2)
    throw Refusal("rank: expected the columns, or those less 2 for the biases");
  return rank;
}

inline double total(const std::vector<double>& parts) {
  double sum = 0;
  for (double part : parts) sum += part;
  return sum;
}

}  // namespace mfjax
