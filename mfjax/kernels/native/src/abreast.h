// The tables of lanes side by side, while an epoch of pairs moves them.
#pragma once
#include <cstring>

#include "latent.h"

namespace mfjax {

constexpr int64_t FETCHED_AHEAD = 32;  // rows of all lanes, before they are wanted

// One side of lanes, `[lanes, rows, columns]`, as XLA has it, and what an epoch reads of it.
template <typename T> struct SideOfLanes {
  Table<T> tables;      // of all lanes, one after another
  int64_t rows;         // of a lane
  int64_t bias_column;  // of the own bias; -1: there is none
  const int32_t* row_at;
  const T* row_reg;           // ρ or σ, [lanes, rows]
  const T* share;             // [lanes, rows]
  std::vector<Wide<T>> kept;  // of each lane, its latent columns
  std::vector<T> bias_reg;    // of each lane
  Buffer<T> room;

  T* row(int64_t lane, int64_t p) const { return tables.row(lane * rows + row_at[p]); }
  Table<const T> table(int64_t lane) const {
    return {tables.row(lane * rows), rows, tables.columns};
  }
};

// Some lanes of a side by places in the room that XLA gives beside the results: on whole lines, what each has of
// a row beside what the others have, so that no two threads move one line; and so are biases and shares. Place
// p is row `row_at[p]` of each table. Beyond `lanes` stand zeros.
template <typename T> class Abreast {
 public:
  Abreast(const SideOfLanes<T>& side, const std::vector<int64_t>& lanes, int64_t abreast,
          int64_t latent, int64_t wide)
      : side_(side), lanes_(lanes), abreast_(abreast), latent_(latent), wide_(wide) {}

  Table<T> rows() const { return {side_.room.data, side_.rows, wide_}; }
  T* bias() const { return side_.room.data + side_.rows * abreast_ * wide_; }
  T* share() const { return bias() + side_.rows * abreast_; }

  void read(int64_t first, int64_t last) const {
    const bool has_bias = side_.bias_column >= 0;
    const int64_t lanes = int64_t(lanes_.size());
    if (lanes < abreast_ || latent_ < wide_) std::fill(latent(first, 0), latent(last, 0), T(0));
    for (int64_t p = first; p < last; p++) {
      if (p + FETCHED_AHEAD / abreast_ < last)
        for (int64_t lane : lanes_) {
          const T* ahead = side_.row(lane, p + FETCHED_AHEAD / abreast_);
          for (int64_t c = 0; c < side_.tables.columns; c += OF_LINE<T>)
            __builtin_prefetch(ahead + c);
          __builtin_prefetch(ahead + side_.tables.columns - 1);
        }
      T *const biases = bias() + p * abreast_, *const shares = share() + p * abreast_;
      for (int64_t nth = 0; nth < lanes; nth++) {
        const int64_t row = lanes_[size_t(nth)] * side_.rows + side_.row_at[p];
        const T* from = side_.tables.row(row);
        std::memcpy(latent(p, nth), from, size_t(latent_) * sizeof(T));
        biases[nth] = has_bias ? from[side_.bias_column] : T(0);
        shares[nth] = side_.share[row];
      }
      for (int64_t nth = lanes; nth < abreast_; nth++) biases[nth] = shares[nth] = 0;
    }
  }

  // Writes the rows of a lane, and says what has changed of them.
  Change write(int64_t nth, int64_t first, int64_t last) const {
    const int64_t lane = lanes_[size_t(nth)];
    const T* row_reg = side_.row_reg + lane * side_.rows;
    const Table<const T> now = {latent(0, nth), side_.rows, abreast_ * wide_};
    const T* reg = side_.kept[size_t(lane)].whole().reg;
    Change sum = kernels<T>().change({side_.table(lane), now, side_.row_at, latent_, row_reg, reg},
                                     first, last);
    for (int64_t p = first; p < last; p++) {
      T* to = side_.row(lane, p);
      std::memcpy(to, latent(p, nth), size_t(latent_) * sizeof(T));
      if (side_.bias_column < 0) continue;
      const T bias_now = bias()[p * abreast_ + nth];
      const double by = double(bias_now) - double(to[side_.bias_column]);
      sum.squares += by * by;
      sum.regularised += double(row_reg[side_.row_at[p]] * side_.bias_reg[size_t(lane)]) *
                         double(bias_now) * double(bias_now) / 2;
      to[side_.bias_column] = bias_now;
    }
    return sum;
  }

 private:
  const SideOfLanes<T>& side_;
  const std::vector<int64_t>& lanes_;
  const int64_t abreast_, latent_, wide_;

  T* latent(int64_t p, int64_t nth) const { return side_.room.data + (p * abreast_ + nth) * wide_; }
};

}  // namespace mfjax
