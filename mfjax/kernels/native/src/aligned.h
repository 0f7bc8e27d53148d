// The tables of an epoch while it moves them.
#pragma once
#include "latent.h"

namespace mfjax {

// A table whose rows stand on whole lines, those of a stratum side by side, while an epoch moves them: a row
// or a bias that shares its line with one that another thread moves takes twice as long. Its first `kept`
// columns do; its bias, where it stands apart, is in `bias`. Place p is row `row_at[p]` of the table.
template <typename T> class Aligned {
 public:
  Aligned(Buffer<T> table, const int32_t* row_at, Buffer<T> room, int64_t kept, int64_t bias_column)
      : bias(bias_column < 0 ? 0 : size_t(table.shape[0])),
        table_{table.data, table.shape[0], table.shape[1]}, row_at_(row_at),
        room_{room.data, table.shape[0], room.shape[1]}, kept_(kept), bias_column_(bias_column) {}

  std::vector<T> bias;

  const Table<T>& rows() const { return room_; }

  void read() {
    if (kept_ < room_.columns) std::fill(room_.row(0), room_.row(room_.rows), T(0));
    kernels<T>().fetch(moved(nullptr, nullptr, T(0)), 0, room_.rows);
  }

  // Puts the rows back, and says what has changed of them.
  Change write(const T* row_reg, const Columns<T>& kept, T bias_reg) {
    return kernels<T>().put_back(moved(row_reg, kept.reg, bias_reg), 0, room_.rows);
  }

 private:
  Table<T> table_;
  const int32_t* row_at_;
  Table<T> room_;
  int64_t kept_, bias_column_;

  Moved<T> moved(const T* row_reg, const T* reg, T bias_reg) {
    return {table_, room_,        row_at_, kept_, bias.empty() ? nullptr : bias.data(),
            1,      bias_column_, row_reg, reg,   bias_reg};
  }
};

}  // namespace mfjax
