// The tables of lanes side by side, while an epoch of pairs moves them.
#pragma once
#include "latent.h"

namespace mfjax {

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

  Table<T> table(int64_t lane) const { return {tables.row(lane * rows), rows, tables.columns}; }
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
    const int64_t lanes = int64_t(lanes_.size());
    if (lanes < abreast_ || latent_ < wide_) std::fill(latent(first, 0), latent(last, 0), T(0));
    for (int64_t nth = 0; nth < abreast_; nth++) {
      const bool is_lane = nth < lanes;
      if (is_lane)
        kernels<T>().fetch(moved(nth), first, last);
      else
        for (int64_t p = first; p < last; p++) bias()[p * abreast_ + nth] = 0;
      const T* shares = is_lane ? side_.share + lanes_[size_t(nth)] * side_.rows : nullptr;
      for (int64_t p = first; p < last; p++)
        share()[p * abreast_ + nth] = is_lane ? shares[side_.row_at[p]] : T(0);
    }
  }

  // Puts the rows of a lane back, and says what has changed of them.
  Change write(int64_t nth, int64_t first, int64_t last) const {
    return kernels<T>().put_back(moved(nth), first, last);
  }

 private:
  const SideOfLanes<T>& side_;
  const std::vector<int64_t>& lanes_;
  const int64_t abreast_, latent_, wide_;

  T* latent(int64_t p, int64_t nth) const { return side_.room.data + (p * abreast_ + nth) * wide_; }

  Moved<T> moved(int64_t nth) const {
    const int64_t lane = lanes_[size_t(nth)];
    return {side_.table(lane),
            {latent(0, nth), side_.rows, abreast_ * wide_},
            side_.row_at,
            latent_,
            side_.bias_column < 0 ? nullptr : bias() + nth,
            abreast_,
            side_.bias_column,
            side_.row_reg + lane * side_.rows,
            side_.kept[size_t(lane)].whole().reg,
            side_.bias_reg[size_t(lane)]};
  }
};

}  // namespace mfjax
