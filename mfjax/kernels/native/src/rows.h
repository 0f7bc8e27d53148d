// Sums over the ratings of one row, and what is made of them: the gradient, the loss, and steps of
// conjugate gradients.
//
// With u the row and v_j the rows of the other side that it has rated, the sums are
//
//     Σ_j E_j v_j,  Σ_j E_j        E_j of `entries.h`        equation (1) of `mfjax.objective`
//
// of latent columns, and of the bias. They are made by groups of ratings: their products u·v_j are summed over
// columns together, and their rows, in cache by then, are added up after the products of the next group, while
// which E_j comes about.
#pragma once
#include "ahead.h"
#include "entries.h"
#include "lanes.h"
#include "room.h"

namespace mfjax::MFJAX_ISA {

// Ratings of a group.
template <typename T, int C> constexpr int group_size() {
  constexpr int most = 0 < C && C <= 2 * LANES<T> ? 8 : 4;
  return LANES<T> < most ? LANES<T> : most;
}
template <typename T>
constexpr int FEW = LANES<T> < 4 ? LANES<T> : 4;  // ratings of the last groups of a row
constexpr int ABREAST = 4;                        // registers that a sum is added up in

// A row: its registers and its bias.
template <typename T, int C> struct Operand {
  Row<T, C> shape;
  const Vector<T>* u;
  T bias;
};

template <typename T> struct Sums {
  T error;  // Σ E_j
  double loss;
};

// The same on the way, of groups of N ratings.
template <typename T, int N> struct Totals {
  Few<T, N> error, loss;

  Sums<T> sums() const {
    Sums<T> sums = {};
    for (int b = 0; b < N; b++) sums.error += error[b];
    for (int b = 0; b < N; b++) sums.loss += double(loss[b]) / 2;
    return sums;
  }
};

template <typename T, int C, int N>
MFJAX_INLINE Few<T, N> products(const Operand<T, C>& at, const T* const* rows) {
  if constexpr (C == LANES<T>) {
    constexpr int HALF = LANES<T> / 2;
    Few<T, HALF> partial[N];
#pragma GCC unroll 16
    for (int b = 0; b < N; b++) partial[b] = folded_product<T>(rows[b], at.u[0]);
    return sums<T, N, HALF>(partial) + at.bias;
  } else {
    Vector<T> partial[N];
#pragma GCC unroll 16
    for (int b = 0; b < N; b++) {
      partial[b] = at.shape.get(rows[b], 0) * at.u[0];
      for (int64_t v = 1; v < at.shape.vectors(); v++)
        partial[b] += at.shape.get(rows[b], v) * at.u[v];
    }
    return sums<T, N>(partial) + at.bias;
  }
}

// sum[v] += Σ_b error_b rows_b[v] for `WIDE` registers from v on, in enough chains to hide latency.
template <typename T, int C, int N, int WIDE>
MFJAX_INLINE void add_up(const Row<T, C>& shape, const T* const* rows, const T* error, int64_t v,
                         Vector<T>* sum) {
  constexpr int CHAINS = WIDE >= ABREAST || N < ABREAST ? 1 : ABREAST / WIDE;
  Vector<T> part[CHAINS][WIDE] = {};
  for (int i = 0; i < WIDE; i++) part[0][i] = sum[v + i];
#pragma GCC unroll 16
  for (int b = 0; b < N; b++)
    for (int i = 0; i < WIDE; i++) part[b % CHAINS][i] += all(error[b]) * shape.get(rows[b], v + i);
  for (int i = 0; i < WIDE; i++) {
    for (int chain = 1; chain < CHAINS; chain++) part[0][i] += part[chain][i];
    sum[v + i] = part[0][i];
  }
}

template <typename T, int C, int N>
MFJAX_INLINE void add_up(const Row<T, C>& shape, const T* const* rows, const T* error,
                         Vector<T>* sum) {
  const int64_t vectors = shape.vectors(), whole = vectors / ABREAST * ABREAST;
  for (int64_t v = 0; v < whole; v += ABREAST) add_up<T, C, N, ABREAST>(shape, rows, error, v, sum);
  for (int64_t v = whole; v < vectors; v++) add_up<T, C, N, 1>(shape, rows, error, v, sum);
}

// The rows of ratings n to n + count, and the first for those up to N. `data` is the other side's.
template <typename T, int C, int N>
MFJAX_INLINE void find_rows(const Side<T>& side, const Row<T, C>& shape, const T* data, int64_t n,
                            int count, const T** rows) {
  for (int b = 0; b < N; b++)
    rows[b] = data + side.ratings.col[n + (b < count ? b : 0)] * shape.columns();
}

// E of ratings n to n + count of a row, at most N; without OF_VALUES ratings, b and the other rows' biases
// count as 0.
template <typename T, int C, int N, bool MISSING, bool OF_VALUES>
MFJAX_INLINE Few<T, N> errors_of(const Side<T>& side, const Operand<T, C>& at, int64_t row,
                                 int64_t n, int count, Totals<T, N>& totals) {
  const T* rows[N];
  find_rows<T, C, N>(side, at.shape, side.other.data, n, count, rows);
  Entries<Few<T, N>> entries = read<T, MISSING, N>(side, row, n, count);
  if constexpr (!OF_VALUES) entries = without_values(entries);
  const Few<T, N> errors = error_of<MISSING>(products<T, C, N>(at, rows), entries, totals.loss);
  totals.error += errors;
  return errors;
}

// The same memory, of which the compiler no longer knows what it has read: it would keep rows in registers that
// it does not have.
template <typename T> MFJAX_INLINE const T* read_anew(const T* data) {
  asm("" : "+r"(data));
  return data;
}

// sum += Σ E v over ratings n to n + count.
template <typename T, int C, int N>
MFJAX_INLINE void add_group(const Side<T>& side, const Row<T, C>& shape, int64_t n, int count,
                            const Few<T, N>& errors, Vector<T>* sum) {
  const T* rows[N];
  find_rows<T, C, N>(side, shape, read_anew(side.other.data), n, count, rows);
  T error[N];
  __builtin_memcpy(error, &errors, sizeof error);
  add_up<T, C, N>(shape, rows, error, sum);
}

// sum += Σ_j E_j v_j over the ratings of a row, and their sums; where not ADDS the latter alone.
template <typename T, int C, bool MISSING, bool ADDS, bool OF_VALUES>
MFJAX_INLINE Sums<T> sum_row(const Side<T>& side, const Operand<T, C>& at, int64_t row,
                             Vector<T>* sum) {
  constexpr int N = group_size<T, C>();
  constexpr int HELD = ADDS ? int(Row<T, C>::vectors(C)) : 0;  // of `sum`, kept in registers
  Vector<T> held[HELD ? HELD : 1];
  for (int v = 0; v < HELD; v++) held[v] = sum[v];
  Vector<T>* const to = HELD ? held : sum;
  const int64_t end = side.ratings.start[row + 1], all = side.ratings.start[side.own.rows];
  const int64_t fetched = ahead<T, C, N>(at.shape);
  Totals<T, N> totals = {};
  Totals<T, FEW<T>> few = {};
  int64_t n = side.ratings.start[row];
  auto next_errors = [&]() __attribute__((always_inline)) {
    if (n + fetched + N <= all) {
      const T* rows[N];
      find_rows<T, C, N>(side, at.shape, side.other.data, n + fetched, N, rows);
      for (int b = 0; b < N; b++) prefetch(at.shape, rows[b]);
    }
    return errors_of<T, C, N, MISSING, OF_VALUES>(side, at, row, n, N, totals);
  };
  if (n + N <= end) {
    auto errors = next_errors();
    for (n += N; n + N <= end; n += N) {
      const auto next = next_errors();
      if (ADDS) add_group<T, C, N>(side, at.shape, n - N, N, errors, to);
      errors = next;
    }
    if (ADDS) add_group<T, C, N>(side, at.shape, n - N, N, errors, to);
  }
  for (; n < end; n += FEW<T>) {
    const int count = end - n < FEW<T> ? int(end - n) : FEW<T>;
    const auto errors = errors_of<T, C, FEW<T>, MISSING, OF_VALUES>(side, at, row, n, count, few);
    if (ADDS) add_group<T, C, FEW<T>>(side, at.shape, n, count, errors, to);
  }
  for (int v = 0; v < HELD; v++) sum[v] = held[v];
  const Sums<T> most = totals.sums(), rest = few.sums();
  return {most.error + rest.error, most.loss + rest.loss};
}

// The registers of an own row where it is free.
template <typename T, int C>
MFJAX_INLINE Operand<T, C> own_row(const Side<T>& side, const Row<T, C>& shape,
                                   const Row<T, 0>& latent, int64_t i, Vector<T>* u) {
  const T* row = side.own.row(i);
  for (int64_t v = 0; v < shape.vectors(); v++) {
    const bool is_any = v * LANES<T> < side.rank;
    u[v] = is_any ? latent.get(row, v) * shape.get(side.latent.free, v) : Vector<T>{};
  }
  return {shape, u, side.has_bias() ? row[side.own_bias()] : T(0)};
}

// A row of a table: latent columns, the own bias, and what stands in the column of the other side's.
template <typename T>
MFJAX_INLINE void put(const Side<T>& side, const Row<T, 0>& latent, const Vector<T>* registers,
                      T bias, T pin, T* row) {
  for (int64_t v = 0; v * LANES<T> < side.rank; v++) latent.set(row, v, registers[v]);
  if (!side.has_bias()) return;
  row[side.own_bias()] = bias;
  row[side.other_bias()] = pin;
}

// The gradient of L in the rows of one side, `grad` [rows, columns], and the loss of their
// regulariser, with that of their ratings on the users' side alone; both times s.
template <typename T, int C, bool MISSING>
double gradient_rows(const Side<T>& side, int64_t first, int64_t last, T* grad) {
  const Row<T, C> shape(side.other.columns);
  const Row<T, 0> latent(side.rank);
  const int64_t vectors = shape.vectors();
  Room<T, 2> room(vectors);
  Vector<T>*u = room[0], *sum = room[1];
  double loss = 0;
  for (int64_t i = first; i < last; i++) {
    const Operand<T, C> at = own_row(side, shape, latent, i, u);
    for (int64_t v = 0; v < vectors; v++) sum[v] = Vector<T>{};
    const Sums<T> sums = sum_row<T, C, MISSING, true, true>(side, at, i, sum);
    Vector<T> ridge = {};
    for (int64_t v = 0; v < vectors; v++) {
      const Vector<T> decay = all(side.row_reg[i]) * shape.get(side.latent.reg, v) * u[v];
      ridge += decay * u[v];
      sum[v] = all(side.lane.scale) * (sum[v] + decay) * shape.get(side.latent.free, v);
    }
    const T decay = side.row_reg[i] * side.bias_reg * at.bias;
    put(side, latent, sum, side.lane.scale * (sums.error + decay), T(0),
        grad + i * side.own.columns);
    loss += double(lane_sum<T>(ridge) + decay * at.bias) / 2 + (side.is_item ? 0 : sums.loss);
  }
  return double(side.lane.scale) * loss;
}

// The loss of the ratings of some rows, without s.
template <typename T, int C, bool MISSING>
double loss_rows(const Side<T>& side, int64_t first, int64_t last) {
  const Row<T, C> shape(side.other.columns);
  const Row<T, 0> latent(side.rank);
  Room<T, 1> room(shape.vectors());
  double loss = 0;
  for (int64_t i = first; i < last; i++) {
    const Operand<T, C> at = own_row(side, shape, latent, i, room[0]);
    loss += sum_row<T, C, MISSING, false, true>(side, at, i, nullptr).loss;
  }
  return loss;
}

}  // namespace mfjax::MFJAX_ISA
