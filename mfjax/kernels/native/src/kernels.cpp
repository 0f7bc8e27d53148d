// The kernels of one instruction set, whose name is MFJAX_ISA: compiled once each.
#include "kernels.h"

#include "approach.h"
#include "change.h"
#include "draw.h"
#include "errors.h"
#include "moments.h"
#include "order.h"
#include "pairs.h"
#include "plain.h"
#include "solve.h"
#include "sums.h"

namespace mfjax::MFJAX_ISA {

template <typename T, int FIRST, int... REST, typename Call>
auto by_known(int64_t columns, const Call& call) {
  if (columns == FIRST) return call(std::integral_constant<int, FIRST>{});
  if constexpr (sizeof...(REST) > 0)
    return by_known<T, REST...>(columns, call);
  else
    return call(std::integral_constant<int, 0>{});
}

// `call` with the columns of a row, as a constant where rows are floats and their columns are among
// KNOWN, those of usual ranks: the compiler then keeps a row in registers, which is worth a third of the time.
template <typename T, int... KNOWN, typename Call>
auto by_columns(int64_t columns, const Call& call) {
  if constexpr (sizeof(T) == 4 && sizeof...(KNOWN) > 0)
    return by_known<T, KNOWN...>(columns, call);
  else
    return call(std::integral_constant<int, 0>{});
}

template <typename T, typename Call> auto by_missing(bool missing, const Call& call) {
  return missing ? call(std::true_type{}) : call(std::false_type{});
}

template <typename T> double gradient(const Side<T>& side, int64_t first, int64_t last, T* grad) {
  return by_columns<T, 16, 32, 64, 128>(side.other.columns, [&](auto columns) {
    return by_missing<T>(side.lane.missing, [&](auto missing) {
      return gradient_rows<T, columns(), missing()>(side, first, last, grad);
    });
  });
}

template <typename T> double loss(const Side<T>& side, int64_t first, int64_t last) {
  return by_columns<T, 16, 32, 64, 128>(side.other.columns, [&](auto columns) {
    return by_missing<T>(side.lane.missing, [&](auto missing) {
      return loss_rows<T, columns(), missing()>(side, first, last);
    });
  });
}

template <typename T>
void solve(const Side<T>& side, const Missing<T>& all, int64_t first, int64_t last, T* rows) {
  by_columns<T, 16>(side.rank, [&](auto columns) {
    by_missing<T>(side.lane.missing, [&](auto missing) {
      solve_rows<T, columns(), missing()>(side, all, first, last, rows);
    });
  });
}

template <typename T>
double approach(const Side<T>& side, const Missing<T>& all, int64_t steps, int64_t first,
                int64_t last, T* rows) {
  return by_columns<T, 16, 32, 64, 128>(side.other.columns, [&](auto columns) {
    return by_missing<T>(side.lane.missing, [&](auto missing) {
      return approach_rows<T, columns(), missing()>(side, all, steps, first, last, rows);
    });
  });
}

template <typename T>
void draw(const Side<T>& side, const Prior<T>& prior, int64_t first, int64_t last, T* rows) {
  by_columns<T, 16>(side.rank,
                    [&](auto columns) { draw_rows<T, columns()>(side, prior, first, last, rows); });
}

template <typename T>
void sums(const Ratings<T>& ratings, int32_t held_out, const Table<const T>& other, int64_t first,
          int64_t last, T* found) {
  by_columns<T, 17, 33>(other.columns, [&](auto columns) {
    sums_of_rows<T, columns()>(ratings, held_out, other, first, last, found);
  });
}

template <typename T>
std::pair<ErrorSums, ErrorSums> errors(const Scored<T>& scored, int64_t first, int64_t last) {
  return by_columns<T, 16, 32, 64, 128>(
      scored.rank, [&](auto columns) { return errors_of<T, columns()>(scored, first, last); });
}

void order(uint32_t split_seed, uint32_t epoch, int64_t count, int32_t* places) {
  Permutation(split_seed, epoch, count).write(places);
}

// Of N lanes; more than one have rows of a line.
template <typename T, int N, int... KNOWN> void visit_lanes(const Pairs<T>& epoch, double* losses) {
  if constexpr (N <= most_abreast<T>)
    by_columns<T, KNOWN...>(epoch.user.columns,
                            [&](auto columns) { visit_pairs<T, columns(), N>(epoch, losses); });
}

template <typename T> void visit_pairs_of(const Pairs<T>& epoch, double* losses) {
  if (epoch.lanes == 1) visit_lanes<T, 1, 16, 32, 64, 128>(epoch, losses);
  if (epoch.lanes == 2) visit_lanes<T, 2, 16>(epoch, losses);
  if (epoch.lanes == 4) visit_lanes<T, 4, 16>(epoch, losses);
}

template <typename T> double visit_batches_of(const Epoch<T>& epoch) {
  return by_columns<T, 16, 32, 64, 128>(epoch.user.columns, [&](auto columns) {
    if (epoch.rule != Rule::sgd) return visit_batches<T, columns()>(epoch);
    return visit_plain_batches<T, columns()>(epoch);
  });
}

template <typename T> void fetch(const Moved<T>& side, int64_t first, int64_t last) {
  by_columns<T, 16, 64>(side.kept,
                        [&](auto columns) { fetch_rows<T, columns()>(side, first, last); });
}

template <typename T> Change put_back(const Moved<T>& side, int64_t first, int64_t last) {
  return by_columns<T, 16, 64>(
      side.kept, [&](auto columns) { return put_rows_back<T, columns()>(side, first, last); });
}

#define MFJAX_TEXT(name) #name
#define MFJAX_NAME(name) MFJAX_TEXT(name)

template <typename T> const Kernels<T>& kernels() {
  static const Kernels<T> table = {
      MFJAX_NAME(MFJAX_ISA),
      gradient<T>,
      loss<T>,
      solve<T>,
      approach<T>,
      draw<T>,
      sums<T>,
      errors<T>,
      order,
      most_abreast<T>,
      visit_pairs_of<T>,
      visit_batches_of<T>,
      fetch<T>,
      put_back<T>,
  };
  return table;
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

}  // namespace mfjax::MFJAX_ISA
