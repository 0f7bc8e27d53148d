// The ratings that an epoch visits, as `Visited` of `mfjax.kernels.native.visits` has them.
#pragma once
#include "handling.h"

namespace mfjax {

template <typename T> struct Visited {
  Buffer<const int32_t> fold;
  const Rated<T>* ratings;
  const int32_t* row_at[2];  // the row of each place, of users and of items

  Visited(Operands& operands, int64_t users, int64_t items)
      : fold(operands.next<int32_t>("fold", {Axis("ratings")})) {
    constexpr int64_t WORDS = sizeof(Rated<T>) / sizeof(int32_t);
    auto rated =
        operands.next<int32_t>("rated", {Axis("ratings", fold.size), Axis("words", WORDS)});
    ratings = reinterpret_cast<const Rated<T>*>(rated.data);
    row_at[0] = rows(operands, "rows of users", users);
    row_at[1] = rows(operands, "rows of items", items);
  }

 private:
  static const int32_t* rows(Operands& operands, const char* name, int64_t count) {
    auto row_at = operands.next<int32_t>(name, {Axis("rows", count)});
    for (int64_t p = 0; p < count; p++)
      if (row_at[p] < 0 || row_at[p] >= count)
        throw Refusal(std::string(name) + ": expected rows of the tables");
    return row_at.data;
  }
};

}  // namespace mfjax
