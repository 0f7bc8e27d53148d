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

  // What has changed since `read`, before `write`.
  Change change(const T* row_reg, const Columns<T>& kept, T bias_reg, int64_t first,
                int64_t last) const {
    Moved<T> side = {of_const(table_), of_const(room_), row_at_, kept_, row_reg, kept.reg};
    Change sum = kernels<T>().change(side, first, last);
    for (int64_t p = first; p < last && bias_column_ >= 0; p++) {
      const double now = bias[size_t(p)], by = now - table_.row(row_at_[p])[bias_column_];
      sum.squares += by * by;
      sum.regularised += double(row_reg[row_at_[p]] * bias_reg) * now * now / 2;
    }
    return sum;
  }

  void read(int64_t first, int64_t last) {
    for (int64_t p = first; p < last; p++) {
      const T* row = table_.row(row_at_[p]);
      for (int64_t c = 0; c < kept_; c++) room_.row(p)[c] = row[c];
      for (int64_t c = kept_; c < room_.columns; c++) room_.row(p)[c] = 0;
      if (bias_column_ >= 0) bias[size_t(p)] = row[bias_column_];
    }
  }
  void write(int64_t first, int64_t last) {
    for (int64_t p = first; p < last; p++) {
      T* row = table_.row(row_at_[p]);
      for (int64_t c = 0; c < kept_; c++) row[c] = room_.row(p)[c];
      if (bias_column_ >= 0) row[bias_column_] = bias[size_t(p)];
    }
  }

 private:
  Table<T> table_;
  const int32_t* row_at_;
  Table<T> room_;
  int64_t kept_, bias_column_;

  static Table<const T> of_const(const Table<T>& table) {
    return {table.data, table.rows, table.columns};
  }
};

}  // namespace mfjax
